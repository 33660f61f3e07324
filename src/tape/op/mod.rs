//! The trait every op implements, the list of ops, and the enum that stores them.
//! One op is one row of `scalar.rs` or one type in a file of its family. `docs/ops.md` in the
//! repository lists them all: value, derivatives, batch rule, and the worst errors seen.

mod arg;
mod attention;
mod broadcast;
mod broadcast_to;
mod cast;
mod concat;
mod cond;
mod conv;
mod cumsum;
mod dropout;
mod effect;
mod leaf;
mod linalg;
mod loss;
#[cfg(test)]
mod math_tests;
mod matmul;
mod normalize;
mod pad;
mod pass;
mod permute;
mod pool;
mod probe;
mod prod;
mod recurrent;
mod reduce;
pub(crate) mod scalar;
#[cfg(test)]
mod shape_tests;
mod slice;
mod softmax;
mod strided;
mod take;
mod tile;
mod triangle;
mod view;
mod window;

use super::expr::Expr;
use crate::error::{Result, bail};
pub use crate::kernel::team::Runs;
use crate::scalar::{DType, Index, Scalar, of_type};
use crate::shape::Shape;
use crate::tensor::TensorView;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

pub use arg::{ArgReduce, Extremum};
pub use attention::{Attend, Attention};
pub(crate) use broadcast::broadcast_strides;
pub use broadcast::{BroadcastLike, Size, SumToLike};
pub use broadcast_to::BroadcastTo;
pub use cast::Cast;
pub use concat::{AnyExpr, Concat, ConcatPart};
pub use cond::Cond;
pub use conv::{Conv, Conv2d, ConvTranspose2d, ConvWeights};
pub use cumsum::{Cumsum, Cumulate};
pub use dropout::Dropout;
pub(crate) use effect::MAX_SLOTS;
pub use effect::{Effect, Rule, Slices, Step, Whole};
pub use leaf::{Leaf, VariableInit};
pub use linalg::{
    Cholesky, Det, Diagonal, DiagonalMatrix, Eigh, Factor, FactorSolve, Lu, Pinv, Qr, Svd,
    TriangularSolve,
};
pub use loss::{Labels, SoftmaxCrossEntropy, SoftmaxResidual, Target};
pub use matmul::{FoldedMatMul, MatMul};
pub use normalize::{Norm, Normalize};
pub use pad::Pad;
pub use pass::{Pass, VjpRule};
pub use permute::Permute;
pub use pool::{Pool, Pooling};
pub use probe::Probe;
pub use prod::ProdGrad;
pub use recurrent::{Cell, Read, Recurrence, Recurrent, RecurrentGradient, RecurrentStates, Steps};
pub use reduce::{Reduce, Reduction};
pub use scalar::ScalarOp;
pub(crate) use scalar::list;
pub(crate) use slice::piece;
pub use slice::{Slice, Span, Spans, Unslice};
pub use softmax::Softmax;
pub use take::{Each, OneHot, Take, TakeAdd};
pub use tile::{Tile, Untile};
pub use triangle::{Side, Triangle};
pub use view::View;
pub use window::Padding;

/// One operation: shape rule, value, derivative, batch rule. Ours and users' alike.
///
/// A user's op implements this and is recorded with [`Tape::custom`](crate::Tape::custom); then
/// `gradtape::check::op` runs the same checks on it that ours pass.
///
/// ```
/// use gradtape::{Arg, Cotangents, Out, Primitive, Result, RowRule, Scalar, Session, Shape, Tape, Vjp};
///
/// /// a³, elementwise.
/// #[derive(Debug)]
/// struct Cube;
///
/// impl<T: Scalar> Primitive<T> for Cube {
///     fn name(&self) -> &str {
///         "cube"
///     }
///     fn shape(&self, x: &[Shape]) -> Result<Shape> {
///         Ok(x[0])
///     }
///     fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
///         y.float().iter_mut().zip(x[0].float()).for_each(|(y, &x)| *y = x * x * x);
///         Ok(())
///     }
///     fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
///         RowRule::Split
///     }
///     fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
///         let x = at.x[0];
///         Ok(vec![Some(at.ct * x.square() * x.lit(3.0))])
///     }
/// }
///
/// let tape = Tape::<f64>::new();
/// let x = tape.variable("x", 2.0);
/// let y = tape.custom(Cube, &[x]);
/// let dy = tape.gradient(y, &[x])?[0];
/// assert_eq!(Session::new(&tape)?.run((y, dy), &[])?, (8.0.into(), 12.0.into()));
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Primitive<T: Scalar>: fmt::Debug + Send + Sync {
    /// The name in messages, listings and drawings.
    fn name(&self) -> &str;

    /// The shape of the value. Runs while recording, where extents may be [`ANY`](crate::ANY),
    /// and again with the fed shapes. The message of an error is `[shapes]: what does not fit`;
    /// the tape adds the op's name before and the line after.
    fn shape(&self, x: &[Shape]) -> Result<Shape>;

    /// The type of the value; by default all inputs and the value are floats.
    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x.iter().position(|&d| d != DType::Float) {
            None => Ok(DType::Float),
            Some(i) => bail!(Shape, "expected floats, got indices as input {i}"),
        }
    }

    /// Writes the value into `y`, whose contents are stale. Never allocates. Each input has the
    /// shape it was fed; inputs that are not [read](Primitive::reads) have an empty slice.
    ///
    /// # Errors
    /// Only what depends on values: an index out of range, a singular matrix.
    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()>;

    /// The length of the scratch that [`Primitive::forward`] wants for inputs of these shapes.
    fn scratch(&self, _x: &[Shape]) -> usize {
        0
    }

    /// Into what units the value falls, any neighbors of which [`Primitive::forward_units`]
    /// computes on its own: what threads may share.
    fn units(&self, _x: &[Shape]) -> Units {
        Units::Contiguous(1)
    }

    /// As [`Primitive::forward`], for these units only, and with the same bits: `y` has the shape
    /// of the whole value and the memory of the units, which of strided ones is [`Out::Runs`].
    ///
    /// # Errors
    /// As [`Primitive::forward`].
    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        _units: Range<usize>,
    ) -> Result<()> {
        self.forward(x, y, scratch)
    }

    /// About how many floating-point operations [`Primitive::forward`] does, given the shapes of
    /// inputs and value: for reports, and to see what is worth another thread. By default one for
    /// each element of the longest of them.
    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        x.iter().map(Shape::len).max().unwrap_or(0).max(y.len())
    }

    /// Whether the value depends on input `i`'s elements, or on its shape only.
    fn reads(&self, _i: usize) -> bool {
        true
    }

    /// Whether the value is the first input's memory, element for element, perhaps under another
    /// shape. Plans make no copy for such an op.
    fn is_view(&self) -> bool {
        false
    }

    /// How the value depends on input `i`.
    fn derivative(&self, i: usize) -> Derivative {
        if self.reads(i) { Derivative::Smooth } else { Derivative::Zero }
    }

    /// Records the cotangents of the inputs, given the value's. `None` is zero; inputs that are
    /// not in `want` may be left out. The sweep adds cotangents up; a rule never does.
    ///
    /// # Errors
    /// By default the op has no derivative, and asking for a gradient through it is an error.
    fn vjp<'t>(&self, _: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        bail!(Gradient, "has no derivative (its `vjp` is not defined)")
    }

    /// Whether the value is linear in input `i`, the others held fixed. Then forward mode records
    /// the op itself on that input's tangent and asks no rule for it.
    fn is_linear_in(&self, _i: usize) -> bool {
        false
    }

    /// Records the tangent of the value, given those of the inputs it is not
    /// [linear in](Primitive::is_linear_in); a rule adds up the parts of several inputs. `None`,
    /// the default, says that there is no rule: then forward mode transposes [`Primitive::vjp`],
    /// which is as exact.
    ///
    /// # Errors
    /// None but the op's own.
    fn jvp<'t>(&self, _: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        Ok(None)
    }

    /// The batch rule: what the value is when axis 0 of the inputs marked in `split` is cut into
    /// shards. The shapes are those of the whole inputs. Not asked when nothing is split.
    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule;
}

/// How the memory of a value falls into units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// So many of equal length, one after the other.
    Contiguous(usize),
    /// A unit has `unit` neighbors out of every `period` elements, but the last unit may have
    /// fewer. With the extent of axis 0 as the period these are rows of a column-major tensor.
    Strided {
        /// A divisor of the value's length.
        period: usize,
        /// At least 1.
        unit: usize,
    },
}

impl Units {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Units::Contiguous(n) => n,
            Units::Strided { period, unit } => period.div_ceil(unit.max(1)),
        }
    }

    /// The period and the unit of a value of `len` elements, unless it does not fall into these.
    pub(crate) fn of(self, len: usize) -> Option<(usize, usize)> {
        let (period, unit) = match self {
            Units::Contiguous(n) => (len, len.checked_div(n).filter(|unit| unit * n == len)?),
            Units::Strided { period, unit } => (period, unit),
        };
        (period > 0 && unit > 0 && len.is_multiple_of(period)).then_some((period, unit))
    }
}

/// What a [`Primitive::vjp`] is given: where on the tape it is, and what is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Vjp<'a, 't, T: Scalar> {
    /// The inputs.
    pub x: &'a [Expr<'t, T>],
    /// The value.
    pub y: Expr<'t, T>,
    /// The cotangent of the value, of its shape.
    pub ct: Expr<'t, T>,
    /// Which inputs' cotangents are wanted; there is at least one.
    pub want: &'a [bool],
}

/// What a [`Primitive::jvp`] is given: where on the tape it is, and the tangents that come in.
#[derive(Clone, Copy, Debug)]
pub struct Jvp<'a, 't, T: Scalar> {
    /// The inputs.
    pub x: &'a [Expr<'t, T>],
    /// The value.
    pub y: Expr<'t, T>,
    /// The tangents of the inputs, one each, of the inputs' shapes; `None` is zero. There is at
    /// least one.
    pub dx: &'a [Option<Expr<'t, T>>],
}

/// The cotangents of an op's inputs, one each, of the inputs' shapes; `None` is zero.
pub type Cotangents<'t, T> = Vec<Option<Expr<'t, T>>>;

/// How a value depends on an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derivative {
    /// Differentiable, almost everywhere.
    Smooth,
    /// Piecewise constant (floor, comparisons, argmax) or cut on purpose (`stop_gradient`): the
    /// derivative is zero wherever it exists, and a path through here does not count as a path.
    Zero,
}

/// What a value is when axis 0 of some inputs is cut into shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRule {
    /// Row i depends on row i of the split inputs only: the value is split like them.
    Split,
    /// Each shard has a partial result; combined over the shards it is the whole value.
    Partial(Combine),
    /// Rows depend on each other in a way that shards cannot compute.
    Mixes,
}

/// How partial results of shards make the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// a + b
    Sum,
    /// a · b
    Prod,
    /// max(a, b)
    Max,
    /// min(a, b)
    Min,
    /// log(eᵃ + eᵇ)
    LogAddExp,
}

/// An input of a running op.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a, T: Scalar> {
    /// Numbers.
    Float(TensorView<'a, T>),
    /// Indices.
    Index(TensorView<'a, Index>),
}

impl<'a, T: Scalar> Arg<'a, T> {
    /// The shape.
    pub fn shape(&self) -> Shape {
        match self {
            Arg::Float(v) => v.shape(),
            Arg::Index(v) => v.shape(),
        }
    }

    /// The numbers, column-major. Empty if they are indices, which the op's type rule excludes.
    pub fn float(&self) -> &'a [T] {
        match self {
            Arg::Float(v) => v.as_slice(),
            Arg::Index(_) => &[],
        }
    }

    /// The indices, column-major. Empty if they are numbers, which the op's type rule excludes.
    pub fn index(&self) -> &'a [Index] {
        match self {
            Arg::Index(v) => v.as_slice(),
            Arg::Float(_) => &[],
        }
    }
}

/// Where a running op writes its value.
#[derive(Debug)]
pub enum Out<'a, T: Scalar> {
    /// Numbers.
    Float(Shape, &'a mut [T]),
    /// Indices.
    Index(Shape, &'a mut [Index]),
    /// Numbers of some [strided units](Units::Strided) of the value, of an op that has such.
    Runs(Shape, Runs<'a, T>),
}

impl<'a, T: Scalar> Out<'a, T> {
    /// The shape.
    pub fn shape(&self) -> Shape {
        match self {
            Out::Float(s, _) | Out::Index(s, _) | Out::Runs(s, _) => *s,
        }
    }

    /// The numbers to write. Empty if they are indices, which the op's type rule excludes, or
    /// strided units.
    pub fn float(self) -> &'a mut [T] {
        match self {
            Out::Float(_, y) => y,
            Out::Index(..) | Out::Runs(..) => &mut [],
        }
    }

    /// As [`Out::float`], borrowed.
    pub(crate) fn float_mut(&mut self) -> &mut [T] {
        match self {
            Out::Float(_, y) => y,
            Out::Index(..) | Out::Runs(..) => &mut [],
        }
    }

    /// The numbers to write as strided units of this period, some or all.
    ///
    /// # Panics
    /// A whole value whose length is not a multiple of the period.
    pub fn runs(self, period: usize) -> Runs<'a, T> {
        match self {
            Out::Float(_, y) => Runs::new(y, period),
            Out::Runs(_, runs) => runs,
            Out::Index(..) => Runs::new(&mut [], period),
        }
    }

    /// The indices to write. Empty if they are numbers, which the op's type rule excludes.
    pub fn index(self) -> &'a mut [Index] {
        match self {
            Out::Index(_, y) => y,
            Out::Float(..) | Out::Runs(..) => &mut [],
        }
    }
}

/// Something compared by where it is: constants, users' ops, rules.
#[derive(Debug)]
pub struct ById<D: ?Sized>(pub Arc<D>);

impl<D: ?Sized> Clone for ById<D> {
    fn clone(&self) -> Self {
        ById(Arc::clone(&self.0))
    }
}

impl<D: ?Sized> PartialEq for ById<D> {
    fn eq(&self, other: &Self) -> bool {
        Arc::as_ptr(&self.0).cast::<()>() == Arc::as_ptr(&other.0).cast::<()>()
    }
}

impl<D: ?Sized> Eq for ById<D> {}

impl<D: ?Sized> Hash for ById<D> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

/// Finds the definition of an op.
pub(crate) type Define<T> = for<'a> fn(&'a Op<T>) -> &'a dyn Primitive<T>;

/// Generates [`Op`]: one variant per family, and the way from a stored op to its trait object.
macro_rules! ops {
    ($($(#[doc = $doc:literal])+ $variant:ident($family:ty)),* $(,)?) => {
        /// An op as the tape stores it: comparable, so that passes can match on it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op<T: Scalar> {
            $($(#[doc = $doc])+ $variant($family),)*
            /// A user's op. Passes see through it only what the trait says.
            Custom(ById<dyn Primitive<T>>),
        }

        // Not derived: that would want `T: Hash`, though no variant holds a bare `T`.
        impl<T: Scalar> Hash for Op<T> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                std::mem::discriminant(self).hash(state);
                match self {
                    $(Op::$variant(op) => op.hash(state),)*
                    Op::Custom(op) => op.hash(state),
                }
            }
        }

        impl<T: Scalar> Op<T> {
            /// The op's definition.
            pub fn primitive(&self) -> &dyn Primitive<T> {
                Self::define()(self)
            }

            /// The function behind [`Op::primitive`].
            pub(crate) fn define() -> Define<T> {
                // Here every kernel of every op is reached, so here is where they are compiled.
                fn single(op: &Op<f32>) -> &dyn Primitive<f32> {
                    op.definition()
                }
                fn double(op: &Op<f64>) -> &dyn Primitive<f64> {
                    op.definition()
                }
                let (single, double) = (single as Define<f32>, double as Define<f64>);
                of_type::<Define<T>>(&single, &double)
            }

            /// The name of the variant.
            pub fn family(&self) -> &'static str {
                match self {
                    $(Op::$variant(_) => stringify!($variant),)*
                    Op::Custom(_) => "Custom",
                }
            }

            /// What the family is, as in the documentation of the variant.
            pub fn doc(&self) -> &'static str {
                match self {
                    $(Op::$variant(_) => concat!($($doc),+).trim_ascii(),)*
                    Op::Custom(_) => "A user's op.",
                }
            }

            fn definition(&self) -> &dyn Primitive<T> {
                match self {
                    $(Op::$variant(op) => op,)*
                    Op::Custom(op) => &*op.0,
                }
            }
        }

        $(impl<T: Scalar> From<$family> for Op<T> {
            fn from(op: $family) -> Self {
                Op::$variant(op)
            }
        })*
    };
}

ops! {
    /// From indices to numbers.
    Cast(Cast),
    /// Placeholders, variables, constants, literals.
    Leaf(Leaf<T>),
    /// Elementwise: a row of the table [`ScalarOp`].
    Scalar(ScalarOp),
    /// Broadcast to another node's shape.
    BroadcastLike(BroadcastLike),
    /// The adjoint of broadcasting.
    SumToLike(SumToLike),
    /// How many elements a reduction runs over.
    Size(Size),
    /// The same memory under another shape.
    View(View),
    /// Sums, products, extremes, all, any over axes.
    Reduce(Reduce),
    /// Derivatives of products.
    ProdGrad(ProdGrad),
    /// Positions of extremes.
    ArgReduce(ArgReduce),
    /// Running sums.
    Cumsum(Cumsum),
    /// Softmax, its logarithm, and the logarithm of its denominator.
    Softmax(Softmax),
    /// Numbers of mean 0 and variance 1, and the slope of that.
    Normalize(Normalize),
    /// Elements set to zero at random.
    Dropout(Dropout),
    /// Broadcast to given extents.
    BroadcastTo(BroadcastTo),
    /// Matrix products over the last two axes.
    MatMul(MatMul),
    /// Attention, and its slopes.
    Attend(Attend),
    /// Aᵀ·B with all axes but the last folded.
    FoldedMatMul(FoldedMatMul),
    /// Convolutions over two axes.
    Conv2d(Conv2d),
    /// The adjoint of convolution in its input.
    ConvTranspose2d(ConvTranspose2d),
    /// The adjoint of convolution in its weights.
    ConvWeights(ConvWeights),
    /// The largest numbers and means of windows, and their adjoints.
    Pooling(Pooling),
    /// Recurrent cells over all steps of sequences.
    Recurrent(Recurrent),
    /// The states of recurrent cells after each step.
    RecurrentStates(RecurrentStates),
    /// The adjoint of recurrent cells in what enters each step.
    RecurrentGradient(RecurrentGradient),
    /// The axes in another order.
    Permute(Permute),
    /// A part along each axis.
    Slice(Slice),
    /// The adjoint of slicing.
    Unslice(Unslice),
    /// A border of one number.
    Pad(Pad),
    /// One after the other along an axis.
    Concat(Concat),
    /// The adjoint of concatenation.
    ConcatPart(ConcatPart),
    /// Repeats along each axis.
    Tile(Tile),
    /// The adjoint of repeating.
    Untile(Untile),
    /// Slabs or elements by index.
    Take(Take),
    /// The adjoint of taking by index.
    TakeAdd(TakeAdd),
    /// Indices as rows of zeros and a one.
    OneHot(OneHot),
    /// One triangle of a matrix.
    Triangle(Triangle),
    /// Diagonals of matrices.
    Diagonal(Diagonal),
    /// Matrices of diagonals.
    DiagonalMatrix(DiagonalMatrix),
    /// Cholesky factors.
    Cholesky(Cholesky),
    /// Solves with one triangle.
    TriangularSolve(TriangularSolve),
    /// LU factors.
    Lu(Lu),
    /// Solves with factors.
    FactorSolve(FactorSolve),
    /// Determinants.
    Det(Det),
    /// QR factors.
    Qr(Qr),
    /// Eigenvalues and eigenvectors of symmetric matrices.
    Eigh(Eigh),
    /// Singular values and vectors.
    Svd(Svd),
    /// Pseudo-inverses.
    Pinv(Pinv),
    /// Targets of a loss that fit its predictions, under the loss's name.
    Target(Target),
    /// Cross-entropy of class labels from logits.
    SoftmaxCrossEntropy(SoftmaxCrossEntropy),
    /// The slope of cross-entropy from logits.
    SoftmaxResidual(SoftmaxResidual),
    /// One of two values.
    Cond(Cond),
    /// The same value with another derivative.
    Pass(Pass<T>),
    /// A cotangent that is nothing but differentiated by.
    Probe(Probe),
    /// Writes to variables: assignments and optimizer updates.
    Effect(Effect<T>),
}
