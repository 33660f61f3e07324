//! Dropout by a counter-based generator: the mask is computed where it is needed, never stored.

use super::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Units, Vjp, list};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::dropout as kernel;
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::{Expr, Operand};
use std::ops::Range;

/// `(x, step, place)`: x with some elements set to 0 and the others scaled up. Linear in x, so it is its
/// own adjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dropout {
    seed: u64,
    /// The bits of the probability to drop, an f64: so it compares and hashes.
    p: u64,
}

impl Dropout {
    fn kernel<T: Scalar>(&self, step: T) -> Result<kernel::Dropout> {
        let p = f64::from_bits(self.p);
        // From here on a step and the next would be one number.
        let limit = 1.0 / T::EPSILON;
        let step = step.to_f64();
        if !(step >= 0.0 && step < limit && step.fract() == 0.0) {
            bail!(Argument, "expected a step that is a whole number below {limit}, got {step}");
        }
        let drops = (p * (1u64 << 32) as f64) as u32;
        let scale = 1.0 / (1.0 - p);
        Ok(kernel::Dropout { seed: self.seed, step: step as u64, drops, scale })
    }
}

impl<T: Scalar> Primitive<T> for Dropout {
    fn name(&self) -> &str {
        "dropout"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match *x {
            [x, Shape::SCALAR, _] => Ok(x),
            _ => bail!(Shape, "{}: expected one number as the step", list(x.get(..2).unwrap_or(x))),
        }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x {
            [DType::Float, DType::Float, DType::Index] => Ok(DType::Float),
            _ => bail!(Shape, "expected numbers, a step, and a place, got {x:?}"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = Primitive::<T>::units(self, &[x[0].shape()]);
        self.forward_units(x, y, scratch, 0..units.count())
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(x[0].extents().last().copied().unwrap_or(1))
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        _: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let kernel = self.kernel(x[1].float()[0])?;
        let (own, place) = (x[0].shape().dim(0).unwrap_or(1), x[2].index());
        let (x, y) = (x[0].float(), y.float());
        let first = units.start * (y.len() / units.len().max(1));
        let x = &x[first..][..y.len()];
        let [row, rows] = [place[0], place[1]].map(|n| n as usize);
        if rows == 0 || own == 0 {
            kernel.run(first, x, y);
            return Ok(());
        }
        // A shard: each column is a run of rows of the batch's.
        for (i, (x, y)) in x.chunks(own).zip(y.chunks_mut(own)).enumerate() {
            kernel.run((first / own + i) * rows + row + first % own, x, y);
        }
        Ok(())
    }

    /// Ten rounds of the generator for four elements.
    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        x[0].len().saturating_mul(20)
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 { Derivative::Smooth } else { Derivative::Zero }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(*self, &[ct, x[1], x[2]])), None, None])
    }

    /// The mask counts all elements; a shard is told which are its own.
    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split == [true, false, false] { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// x where each element is 0 with probability p and else x/(1 − p), so that the mean stays
    /// (Srivastava et al. 2014). p is from 0 to below 1; 0 is x itself.
    ///
    /// Which elements go is a function of the seed, the step and the position alone, the same for
    /// any number of threads; the gradient has the same mask. Give each dropout of a model its own
    /// seed, and a step that counts: one that is fed, or a variable that is
    /// [added to](crate::Tape::assign_add) in every step, and that a resumed training goes on from.
    /// For inference, record the model once more without dropout: both share the variables.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let step = tape.variable("step", 0.0);
    /// let y = tape.constant(Tensor::full([1000], 3.0)?).dropout(0.25, 7, step);
    /// let count = tape.assign_add(step, 1.0);
    /// let mut session = Session::new(&tape)?;
    /// let (first, _) = session.run((y, count), &[])?;
    /// assert!(first.as_slice().iter().all(|&y| y == 0.0 || y == 4.0));
    /// assert_ne!(session.run(y, &[])?, first);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// When run: a step that is no whole number from 0 up, or is so large that the next would be
    /// the same number: 2²³ for f32, 2⁵² for f64.
    #[track_caller]
    pub fn dropout(self, p: f64, seed: u64, step: impl Operand<'t, T>) -> Expr<'t, T> {
        // Not a variable to be trained.
        let step = step.on(self.tape()).stop_gradient();
        if !(0.0..1.0).contains(&p) {
            let text = format!("expected a probability from 0 to below 1, got {p}");
            return self.refuse("dropout", Error::new(ErrorKind::Argument, text));
        }
        if p == 0.0 {
            return self;
        }
        let place = self.tape().place();
        self.tape().apply(Dropout { seed, p: p.to_bits() }, &[self, step, place])
    }
}
