//! What a run gives back: typed by what is asked for, into new tensors or into ones there are.

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::{Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::Arg;
use crate::tape::{AsNode, Expr, Fetch, IndexExpr, NodeRef, Placeholder, Var};
use crate::tensor::Tensor;

/// What can be fetched: expressions and handles, and tuples, arrays, slices and references to
/// vectors of them.
pub trait Fetches<T: Scalar> {
    /// What a run gives for it: tensors in the same arrangement.
    type Output: Default;

    /// Names the nodes, in order.
    fn nodes(&self, each: &mut dyn FnMut(NodeRef));

    /// Takes the values, in the same order, into `out`, whose memory is reused where it fits.
    ///
    /// # Errors
    /// Indices where numbers are wanted, or the reverse.
    fn take(&self, from: &mut Source<'_, T>, out: &mut Self::Output) -> Result<()>;
}

/// The fetched values, one after the other.
pub struct Source<'s, T: Scalar> {
    /// Puts the next value where it is wanted.
    pub(super) next: &'s mut dyn FnMut(Wanted<'_, T>) -> Result<()>,
}

/// Where a fetched value goes.
pub(super) enum Wanted<'o, T: Scalar> {
    Float(&'o mut Tensor<T>),
    Index(&'o mut Tensor<Index>),
}

impl<T: Scalar> Wanted<'_, T> {
    pub(super) fn copy_from(self, value: Arg<'_, T>) -> Result<()> {
        match (self, value) {
            (Wanted::Float(out), Arg::Float(view)) => out.copy_from(view),
            (Wanted::Index(out), Arg::Index(view)) => out.copy_from(view),
            (Wanted::Float(_), _) => Err(wrong("floats", "indices; fetch its IndexExpr")),
            (Wanted::Index(_), _) => Err(wrong("indices", "floats")),
        }
    }

    /// The value in this buffer, which gets the memory of the tensor.
    pub(super) fn exchange(self, shape: Shape, buffer: &mut Vec<T>) -> Result<()> {
        match self {
            Wanted::Float(out) => out.exchange(shape, buffer),
            Wanted::Index(_) => Err(wrong("indices", "floats")),
        }
    }
}

fn wrong(expected: &str, got: &str) -> Error {
    Error::new(ErrorKind::Tape, format!("fetch: expected {expected}, got {got}"))
}

macro_rules! float_fetch {
    ($($handle:ty),*) => {$(
        impl<T: Scalar> Fetches<T> for $handle {
            type Output = Tensor<T>;
            fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
                each(self.node());
            }
            fn take(&self, from: &mut Source<'_, T>, out: &mut Tensor<T>) -> Result<()> {
                (from.next)(Wanted::Float(out))
            }
        }
    )*};
}
float_fetch!(Expr<'_, T>, Fetch, Var, Placeholder);

impl<T: Scalar> Fetches<T> for IndexExpr<'_, T> {
    type Output = Tensor<Index>;
    fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
        each(self.node());
    }
    fn take(&self, from: &mut Source<'_, T>, out: &mut Tensor<Index>) -> Result<()> {
        (from.next)(Wanted::Index(out))
    }
}

impl<T: Scalar, F: Fetches<T>> Fetches<T> for &[F] {
    type Output = Vec<F::Output>;
    fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
        self.iter().for_each(|f| f.nodes(each));
    }
    fn take(&self, from: &mut Source<'_, T>, out: &mut Self::Output) -> Result<()> {
        out.resize_with(self.len(), F::Output::default);
        self.iter().zip(out).try_for_each(|(f, out)| f.take(from, out))
    }
}

impl<T: Scalar, F: Fetches<T>> Fetches<T> for &Vec<F> {
    type Output = Vec<F::Output>;
    fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
        self.as_slice().nodes(each);
    }
    fn take(&self, from: &mut Source<'_, T>, out: &mut Self::Output) -> Result<()> {
        self.as_slice().take(from, out)
    }
}

impl<T: Scalar, F: Fetches<T>, const N: usize> Fetches<T> for [F; N] {
    type Output = Vec<F::Output>;
    fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
        self.as_slice().nodes(each);
    }
    fn take(&self, from: &mut Source<'_, T>, out: &mut Self::Output) -> Result<()> {
        self.as_slice().take(from, out)
    }
}

macro_rules! tuple_fetch {
    ($($f:ident $i:tt),*) => {
        impl<T: Scalar, $($f: Fetches<T>),*> Fetches<T> for ($($f,)*) {
            type Output = ($($f::Output,)*);
            fn nodes(&self, each: &mut dyn FnMut(NodeRef)) {
                $(self.$i.nodes(each);)*
            }
            fn take(&self, from: &mut Source<'_, T>, out: &mut Self::Output) -> Result<()> {
                $(self.$i.take(from, &mut out.$i)?;)*
                Ok(())
            }
        }
    };
}
tuple_fetch!(A 0);
tuple_fetch!(A 0, B 1);
tuple_fetch!(A 0, B 1, C 2);
tuple_fetch!(A 0, B 1, C 2, D 3);
tuple_fetch!(A 0, B 1, C 2, D 3, E 4);
tuple_fetch!(A 0, B 1, C 2, D 3, E 4, F 5);
