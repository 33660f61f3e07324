//! A border of one number around a tensor.

use super::slice::{Slice, Span};
use super::strided::{self, Layout};
use super::{Arg, Cotangents, Jvp, Out, Primitive, RowRule, Vjp};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, IndexExpr};

/// x with a number before and after it along each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    /// For each axis, how many before and how many after.
    pub widths: Box<[(usize, usize)]>,
    /// The number, as the bits of an `f64`.
    pub value: u64,
}

impl<T: Scalar> Primitive<T> for Pad {
    fn name(&self) -> &str {
        "pad"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() != self.widths.len() {
            bail!(Shape, "{}: expected {} axes", x[0], self.widths.len());
        }
        let mut out = x[0];
        for (extent, &(before, after)) in out.extents_mut().iter_mut().zip(&self.widths) {
            if *extent != ANY {
                let padded = before.checked_add(after).and_then(|w| w.checked_add(*extent));
                match padded {
                    Some(padded) if padded != ANY => *extent = padded,
                    _ => bail!(Shape, "{}: too wide with {before} + {after} more", x[0]),
                }
            }
        }
        Ok(out)
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], mut y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let mut to = Layout::dense(&y.shape());
        let first =
            self.widths.iter().zip(&to.strides).map(|(&(before, _), &s)| before * s as usize);
        to.offset = first.sum();
        strided::fill(&mut y, f64::from_bits(self.value));
        strided::scatter(&to, &x[0], &mut y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { ct, .. } = at;
        let inside = |&(before, after): &(usize, usize)| Span::inside(before, after);
        let spans = self.widths.iter().map(inside).collect();
        Ok(vec![Some(ct.tape().apply(Slice { spans }, &[ct]))])
    }

    /// The border does not change.
    fn jvp<'t>(&self, at: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        Ok(at.dx[0].map(|dx| dx.pad(&self.widths, 0.0)))
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.widths[0] == (0, 0) { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// This with `value` around it: for each axis, how many before and how many after.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 6, 6]);
    /// assert_eq!(x.pad(&[(0, 0), (1, 1), (2, 0)], 0.0).shape(), [ANY, 8, 8].into());
    /// ```
    #[track_caller]
    pub fn pad(self, widths: &[(usize, usize)], value: f64) -> Expr<'t, T> {
        if widths.len() != self.rank() {
            let text = format!("expected {} pairs of widths, got {}", self.rank(), widths.len());
            return self.refuse("pad", Error::new(ErrorKind::Argument, text));
        }
        if widths.iter().all(|&w| w == (0, 0)) {
            return self;
        }
        self.tape.apply(Pad { widths: widths.into(), value: value.to_bits() }, &[self])
    }
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// This with `value` around it; see [`Expr::pad`].
    #[track_caller]
    pub fn pad(self, widths: &[(usize, usize)], value: Index) -> Self {
        IndexExpr(self.0.pad(widths, f64::from(value)))
    }
}
