//! Tensors one after the other along an axis, and the part of one of them.

use super::strided::{self, Layout};
use super::{Arg, Cotangents, Jvp, Out, Primitive, RowRule, Vjp, list};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{AsNode, Expr, IndexExpr, Tape};

/// All inputs, one after the other along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Along which axis.
    pub axis: usize,
}

/// `(y, x₀, x₁, …)`: the part of y where [`Concat`] of the x puts number `part`; the elements of
/// the x are not read. The adjoint of [`Concat`] where extents are not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConcatPart {
    /// Along which axis.
    pub axis: usize,
    /// Which of the x.
    pub part: usize,
}

/// The shape of the concatenation.
fn joined(axis: usize, x: &[Shape]) -> Result<Shape> {
    let mut out = x[0];
    if axis >= out.rank() {
        bail!(Shape, "{}: expected an axis {axis}", list(x));
    }
    for next in &x[1..] {
        let sum = match (out.extents()[axis], next.dim(axis)) {
            (ANY, _) | (_, Some(ANY)) => Some(ANY),
            (sum, Some(extent)) => sum.checked_add(extent),
            (_, None) => None,
        };
        let Some(sum) = sum.filter(|_| out.with(axis, ANY).accepts_or_any(next)) else {
            bail!(Shape, "{}: expected equal extents but on axis {axis}", list(x));
        };
        for (extent, &other) in out.extents_mut().iter_mut().zip(next.extents()) {
            // Whichever is known.
            *extent = (*extent).min(other);
        }
        out = out.with(axis, sum);
    }
    Ok(out)
}

impl<T: Scalar> Primitive<T> for Concat {
    fn name(&self) -> &str {
        "concat"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        joined(self.axis, x)
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x.iter().all(|d| *d == x[0]) {
            true => Ok(x[0]),
            false => bail!(Shape, "expected all floats or all indices"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], mut y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let mut to = Layout::dense(&y.shape());
        for x in x {
            strided::scatter(&to, x, &mut y);
            to.offset += x.shape().extents()[self.axis] * to.strides[self.axis] as usize;
        }
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let Concat { axis } = *self;
        let extents: Vec<usize> = x.iter().map(|x| x.shape().extents()[axis]).collect();
        let known = !extents.contains(&ANY);
        let all: Vec<_> = std::iter::once(ct).chain(x.iter().copied()).collect();
        let mut start = 0;
        let parts = want.iter().zip(&extents).enumerate().map(|(part, (&want, &extent))| {
            let from = start;
            start += if known { extent } else { 0 };
            want.then(|| match known {
                true => ct.slice_axis(axis as isize, from..from + extent),
                false => ct.tape().apply(ConcatPart { axis, part }, &all),
            })
        });
        Ok(parts.collect())
    }

    /// Linear in all parts at once.
    fn jvp<'t>(&self, at: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        let Jvp { x, y, dx } = at;
        let part = |(&x, dx): (&Expr<'t, T>, &Option<_>)| dx.unwrap_or_else(|| zeros_like(x));
        let parts: Vec<_> = x.iter().zip(dx).map(part).collect();
        Ok(Some(y.tape().apply(*self, &parts)))
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match self.axis > 0 && split.iter().all(|&s| s) {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Primitive<T> for ConcatPart {
    fn name(&self) -> &str {
        "concat_part"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let whole = joined(self.axis, &x[1..])?;
        if !whole.accepts_or_any(&x[0]) {
            bail!(Shape, "{}: expected {whole} first", list(x));
        }
        Ok(x[1 + self.part])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let mut from = Layout::dense(&x[0].shape());
        let before: usize = x[1..=self.part].iter().map(|x| x.shape().extents()[self.axis]).sum();
        from.offset = before * from.strides[self.axis] as usize;
        strided::gather(&from, &x[0], y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let parts: Vec<_> = x[1..]
            .iter()
            .enumerate()
            .map(|(part, &x)| if part == self.part { ct } else { zeros_like(x) })
            .collect();
        let whole = ct.tape().apply(Concat { axis: self.axis }, &parts);
        Ok(std::iter::once(Some(whole)).chain(x[1..].iter().map(|_| None)).collect())
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match self.axis > 0 && split.iter().all(|&s| s) {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

fn zeros_like<T: Scalar>(x: Expr<'_, T>) -> Expr<'_, T> {
    x.lit(0.0).broadcast_like(x)
}

/// An [`Expr`] or an [`IndexExpr`], for what is recorded alike for both.
pub trait AnyExpr<'t, T: Scalar>: Copy {
    /// The node without its type.
    fn untyped(self) -> Expr<'t, T>;
    /// The node with this type again, or a mistake.
    #[track_caller]
    fn typed(x: Expr<'t, T>) -> Self;
}

impl<'t, T: Scalar> AnyExpr<'t, T> for Expr<'t, T> {
    fn untyped(self) -> Expr<'t, T> {
        self
    }
    fn typed(x: Expr<'t, T>) -> Self {
        x
    }
}

impl<'t, T: Scalar> AnyExpr<'t, T> for IndexExpr<'t, T> {
    fn untyped(self) -> Expr<'t, T> {
        self.0
    }
    fn typed(x: Expr<'t, T>) -> Self {
        IndexExpr(x)
    }
}

impl<T: Scalar> Tape<T> {
    /// All parts, one after the other along an axis; their other extents are equal. Negative axes
    /// count from the end. Cost: one copy.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let (a, b) = (tape.placeholder("a", [ANY, 3]), tape.placeholder("b", [ANY, 4]));
    /// assert_eq!(tape.concat(&[a, b], 1).shape(), [ANY, 7].into());
    /// ```
    #[track_caller]
    pub fn concat<'t, E: AnyExpr<'t, T>>(&'t self, parts: &[E], axis: isize) -> E {
        let parts: Vec<Expr<'t, T>> = parts.iter().map(|p| p.untyped()).collect();
        E::typed(match self.first_axis("concat", &parts, axis, 0) {
            Err(mistake) => mistake,
            Ok(_) if parts.len() == 1 => parts[0],
            Ok(axis) => self.apply(Concat { axis }, &parts),
        })
    }

    /// All parts, of one shape, along a new axis at this place of the result; negative ones count
    /// from its end. Cost: one copy.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let (a, b) = (tape.placeholder("a", [ANY, 3]), tape.placeholder("b", [ANY, 3]));
    /// assert_eq!(tape.stack(&[a, b], 1).shape(), [ANY, 2, 3].into());
    /// ```
    #[track_caller]
    pub fn stack<'t, E: AnyExpr<'t, T>>(&'t self, parts: &[E], axis: isize) -> E {
        let mut parts: Vec<Expr<'t, T>> = parts.iter().map(|p| p.untyped()).collect();
        E::typed(match self.first_axis("stack", &parts, axis, 1) {
            Err(mistake) => mistake,
            Ok(axis) => {
                for p in &mut parts {
                    *p = p.expand_dims(&[axis as isize]);
                }
                match parts[..] {
                    [one] => one,
                    _ => self.apply(Concat { axis }, &parts),
                }
            }
        })
    }

    /// The axis in the first part, which has `new` axes more in the result.
    #[track_caller]
    fn first_axis<'t>(
        &'t self,
        method: &str,
        parts: &[Expr<'t, T>],
        axis: isize,
        new: usize,
    ) -> Result<usize, Expr<'t, T>> {
        let Some(first) = parts.first() else {
            let text = format!("{method}: expected at least one part, got none");
            let e = Error::new(ErrorKind::Argument, text);
            return Err(self.mistake(e.at(std::panic::Location::caller())));
        };
        // A part that stands for a mistake has no shape to speak of.
        let poisoned = parts.iter().find(|p| self.resolve(p.node()).is_err());
        if let Some(poisoned) = poisoned.filter(|p| std::ptr::eq(p.tape(), self)) {
            return Err(*poisoned);
        }
        let mut shape = first.shape();
        let checked = Shape::new(&vec![1; shape.rank() + new]).and_then(|grown| {
            shape = if new > 0 { grown } else { shape };
            shape.axis(axis)
        });
        match checked {
            Ok(axis) => Ok(axis),
            Err(e) => Err(first.refuse(method, e)),
        }
    }
}
