//! The largest number or the mean of windows over rows and columns, and their adjoints.

use super::window::{Moves, Padding};
use super::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Units, Vjp, list};
use crate::error::{Result, bail};
use crate::kernel::pool as kernel;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;
use std::ops::Range;

/// The windows of a pooling over rows and columns: side by side and within the image unless told
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// Positions from a window to the next.
    pub stride: [usize; 2],
    /// What lies around the image, less than a window on each side.
    pub padding: Padding<2>,
    /// Whether a mean counts the zeros of the border, as is PyTorch's default; TensorFlow does not.
    pub count_border: bool,
}

impl Pool {
    /// Windows of so many rows and columns, one beside the other.
    pub const fn new(window: [usize; 2]) -> Self {
        Pool { window, stride: window, padding: Padding::Valid, count_border: true }
    }

    /// With so many positions from a window to the next.
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        Pool { stride, ..self }
    }

    /// With this around the image: zeros for a mean, nothing for a maximum.
    pub fn with_padding(self, padding: Padding<2>) -> Self {
        Pool { padding, ..self }
    }

    /// With means of what lies in the image alone.
    pub fn without_border(self) -> Self {
        Pool { count_border: false, ..self }
    }

    fn moves(&self) -> [Moves; 2] {
        Moves::both(self.window, self.stride, [1, 1], self.padding)
    }

    /// The shape of the value.
    fn value(&self, x: &Shape) -> Result<Shape> {
        let &[batch, rows, columns, channels] = x.extents() else {
            bail!(Shape, "expected an image of [batch, rows, columns, channels]")
        };
        if let Padding::Explicit(sides) = self.padding {
            let wide = |((before, after), window): (_, usize)| before >= window || after >= window;
            if sides.into_iter().zip(self.window).any(wide) {
                let window = self.window;
                bail!(Shape, "expected less padding than the window of {window:?}, got {sides:?}");
            }
        }
        let moves = self.moves();
        Ok([batch, moves[0].outputs(rows)?, moves[1].outputs(columns)?, channels].into())
    }

    /// What the kernels want to know, of a known shape.
    fn geometry(&self, x: &Shape) -> Result<kernel::Pool> {
        let &[batch, rows, columns, _] = x.extents() else {
            bail!(Shape, "expected an image of [batch, rows, columns, channels]")
        };
        let [over_rows, over_columns] = self.moves();
        let (rows, columns) = (over_rows.axis(rows)?, over_columns.axis(columns)?);
        Ok(kernel::Pool { batch, rows, columns, count_border: self.count_border })
    }
}

/// Poolings over rows and columns, and their adjoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// `(x)`: the largest number of each window.
    Max(Pool),
    /// `(x, u)`: u where x has the first largest number of each window.
    MaxTake(Pool),
    /// `(x, ct)`: zeros like x, and ct added where x has the first largest number. The adjoint of
    /// [`Pooling::MaxTake`] in u.
    MaxAdd(Pool),
    /// `(x)`: the mean of each window.
    Mean(Pool),
    /// `(ct, like)`: the adjoint of [`Pooling::Mean`]; the elements of `like` are not read.
    MeanAdd(Pool),
}

impl Pooling {
    fn pool(&self) -> &Pool {
        let (Pooling::Max(pool)
        | Pooling::MaxTake(pool)
        | Pooling::MaxAdd(pool)
        | Pooling::Mean(pool)
        | Pooling::MeanAdd(pool)) = self;
        pool
    }

    /// The image among the inputs.
    fn image<'a, X>(&self, x: &'a [X]) -> &'a X {
        if let Pooling::MeanAdd(_) = self { &x[1] } else { &x[0] }
    }
}

impl<T: Scalar> Primitive<T> for Pooling {
    fn name(&self) -> &str {
        match self {
            Pooling::Max(_) => "max_pool2d",
            Pooling::MaxTake(_) => "max_pool2d_take",
            Pooling::MaxAdd(_) => "max_pool2d_add",
            Pooling::Mean(_) => "avg_pool2d",
            Pooling::MeanAdd(_) => "avg_pool2d_add",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let image = self.image(x);
        let value = self.pool().value(image).map_err(|e| e.within(list(x)))?;
        let (given, wanted, out) = match self {
            Pooling::Max(_) | Pooling::Mean(_) => return Ok(value),
            Pooling::MaxTake(_) => (&x[1], image, value),
            Pooling::MaxAdd(_) => (&x[1], &value, *image),
            Pooling::MeanAdd(_) => (&x[0], &value, *image),
        };
        if !wanted.accepts_or_any(given) {
            bail!(Shape, "{}: expected {wanted}, got {given}", list(x));
        }
        Ok(out)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = y.shape().extents()[3];
        self.forward_units(x, y, scratch, 0..units)
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(self.image(x).extents()[3])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        _: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let pool = self.pool().geometry(&self.image(x).shape())?;
        let (image, value) = pool.channels();
        // The numbers of a channel of an input, of which each channel has so many.
        let of = |i: usize, channel: usize, n: usize| &x[i].float()[channel * n..][..n];
        let out = match self {
            Pooling::MaxAdd(_) | Pooling::MeanAdd(_) => image,
            _ => value,
        };
        let y = y.float();
        for (i, at) in units.enumerate() {
            let y = &mut y[i * out..][..out];
            match self {
                Pooling::Max(_) => kernel::max(&pool, of(0, at, image), y),
                Pooling::MaxTake(_) => {
                    kernel::max_take(&pool, of(0, at, image), of(1, at, image), y);
                }
                Pooling::MaxAdd(_) => {
                    kernel::max_add(&pool, of(0, at, image), of(1, at, value), y);
                }
                Pooling::Mean(_) => kernel::mean(&pool, of(0, at, image), y),
                Pooling::MeanAdd(_) => kernel::mean_add(&pool, of(0, at, value), y),
            }
        }
        Ok(())
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        // Each output sees a window, or each image element is in about that many windows.
        let [rows, columns] = self.pool().window;
        let windows = x.iter().map(Shape::len).fold(y.len(), usize::min);
        rows.saturating_mul(columns).saturating_mul(windows)
    }

    fn reads(&self, i: usize) -> bool {
        !matches!((self, i), (Pooling::MeanAdd(_), 1))
    }

    fn derivative(&self, i: usize) -> Derivative {
        match (self, i) {
            (Pooling::MaxTake(_) | Pooling::MaxAdd(_), 0) | (Pooling::MeanAdd(_), 1) => {
                Derivative::Zero
            }
            _ => Derivative::Smooth,
        }
    }

    fn is_linear_in(&self, _: usize) -> bool {
        !matches!(self, Pooling::Max(_))
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let tape = ct.tape();
        Ok(match *self {
            Pooling::Max(pool) => vec![Some(tape.apply(Pooling::MaxAdd(pool), &[x[0], ct]))],
            Pooling::MaxTake(pool) => {
                vec![None, Some(tape.apply(Pooling::MaxAdd(pool), &[x[0], ct]))]
            }
            Pooling::MaxAdd(pool) => {
                vec![None, Some(tape.apply(Pooling::MaxTake(pool), &[x[0], ct]))]
            }
            Pooling::Mean(pool) => vec![Some(tape.apply(Pooling::MeanAdd(pool), &[ct, x[0]]))],
            Pooling::MeanAdd(pool) => vec![Some(tape.apply(Pooling::Mean(pool), &[ct])), None],
        })
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split.iter().all(|&s| s) { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The largest number of each window of each channel, `(batch, rows, columns, c) -> (batch,
    /// rows', columns', c)`; NaN if there is one. The border never counts. The gradient goes to the
    /// first largest number, row by row, as in PyTorch.
    ///
    /// ```
    /// use gradtape::{ANY, Pool, Tape};
    /// let tape = Tape::<f32>::new();
    /// let image = tape.placeholder("image", [ANY, 28, 28, 6]);
    /// assert_eq!(image.max_pool2d(Pool::new([2, 2])).shape(), [ANY, 14, 14, 6].into());
    /// ```
    #[track_caller]
    pub fn max_pool2d(self, pool: Pool) -> Expr<'t, T> {
        self.tape.apply(Pooling::Max(pool), &[self])
    }

    /// The mean of each window of each channel, `(batch, rows, columns, c) -> (batch, rows',
    /// columns', c)`. The zeros of the border count unless [`Pool::without_border`].
    #[track_caller]
    pub fn avg_pool2d(self, pool: Pool) -> Expr<'t, T> {
        self.tape.apply(Pooling::Mean(pool), &[self])
    }

    /// The largest number of each channel, `(batch, rows, columns, c) -> (batch, c)`:
    /// [`Expr::max_axes`], where ties share the gradient.
    #[track_caller]
    pub fn global_max_pool2d(self) -> Expr<'t, T> {
        self.max_axes(&[1, 2])
    }

    /// The mean of each channel, `(batch, rows, columns, c) -> (batch, c)`: [`Expr::mean_axes`].
    #[track_caller]
    pub fn global_avg_pool2d(self) -> Expr<'t, T> {
        self.mean_axes(&[1, 2])
    }
}
