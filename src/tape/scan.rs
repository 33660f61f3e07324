//! A loop over time, recorded step by step. Stands on what else is recorded.

use super::{AsNode, Expr, Tape};
use crate::error::{Error, ErrorKind};
use crate::scalar::Scalar;
use crate::shape::ANY;
use std::panic::Location;

/// What a step of a [`Tape::scan`] returns, and the whole: the states, and the outputs.
pub type Scanned<'t, T> = (Vec<Expr<'t, T>>, Vec<Expr<'t, T>>);

impl<T: Scalar> Tape<T> {
    /// A function step by step along axis 1 of `xs`, each `[batch, time, …]`: `step` gets the
    /// states and what is at that time of each x, `[batch, …]`, and returns the next states, of the
    /// same shapes, and outputs. The first states are `initial`. Gives the last states, and each
    /// output of all steps, `[batch, time, …]`.
    ///
    /// It is the loop written by hand: every step is recorded, so values, derivatives of any order
    /// and batches of any size are those of its ops, and steps may use
    /// [`cond`](Tape::cond) and [`checkpoint`](Tape::checkpoint). Cost: nodes, and the time to
    /// compile a plan, grow with the number of steps, and a gradient keeps what all steps computed.
    /// The gradient in an x adds up one tensor of the size of x for each step. For the usual cells
    /// [`Expr::recurrent`] is one op, whatever the number of steps.
    ///
    /// ```
    /// use gradtape::{ANY, Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 3]);
    /// let (last, sums) = tape.scan(&[tape.literal(0.0).broadcast_like(x.sum_axes(&[1]))], &[x], |s, x| {
    ///     let sum = s[0] + x[0];
    ///     (vec![sum], vec![sum])
    /// });
    /// let batch = Tensor::from_rows([1, 3], &[1.0, 2.0, 4.0])?;
    /// let out = Session::new(&tape)?.run((last[0], sums[0]), &[x.feed(&batch)])?;
    /// assert_eq!((out.0.as_slice(), out.1.as_slice()), (&[7.0][..], &[1.0, 3.0, 7.0][..]));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// A mistake if there is no x; if the number of steps is not known, is 0, or differs between
    /// the xs; if a step returns states of other shapes, or another number of outputs than the
    /// first.
    #[track_caller]
    pub fn scan<'t>(
        &'t self,
        initial: &[Expr<'t, T>],
        xs: &[Expr<'t, T>],
        mut step: impl FnMut(&[Expr<'t, T>], &[Expr<'t, T>]) -> Scanned<'t, T>,
    ) -> Scanned<'t, T> {
        let time = match n_steps(xs) {
            Ok(time) => time,
            Err(text) => {
                // One step says how many states and outputs stand for the mistake.
                let text = format!("scan: {text}");
                let e = Error::new(ErrorKind::Shape, text).at(Location::caller());
                let mistake = self.mistake(e);
                let (states, outputs) = step(initial, &vec![mistake; xs.len()]);
                return (vec![mistake; states.len()], vec![mistake; outputs.len()]);
            }
        };
        let mut states = initial.to_vec();
        let mut outputs: Vec<Vec<Expr<'t, T>>> = Vec::new();
        for at in 0..time {
            let mut now = xs.to_vec();
            for x in &mut now {
                *x = x.index_axis(1, at as isize);
            }
            let (next, out) = step(&states, &now);
            if at == 0 {
                outputs = vec![Vec::with_capacity(time); out.len()];
            }
            let is_mistaken = next.iter().chain(&out).any(|e| self.resolve(e.node()).is_err());
            if let Err(text) = fits(&states, &next, outputs.len(), out.len())
                && !is_mistaken
            {
                let text = format!("scan: {text} after step {at}");
                let e = Error::new(ErrorKind::Shape, text).at(Location::caller());
                let mistake = self.mistake(e);
                return (vec![mistake; states.len()], vec![mistake; outputs.len()]);
            }
            states = next;
            outputs.iter_mut().zip(out).for_each(|(all, now)| all.push(now));
        }
        let mut stacked = Vec::with_capacity(outputs.len());
        for all in &outputs {
            stacked.push(self.stack(all, 1));
        }
        (states, stacked)
    }
}

/// The extent of axis 1 of all of them.
fn n_steps<T: Scalar>(xs: &[Expr<'_, T>]) -> Result<usize, String> {
    let shapes: Vec<_> = xs.iter().map(|x| x.shape()).collect();
    let Some(first) = shapes.first() else {
        return Err("expected at least one sequence, got none".to_string());
    };
    for shape in &shapes {
        match shape.dim(1) {
            None => return Err(format!("expected sequences with time on axis 1, got {shape}")),
            Some(ANY) => return Err(format!("expected a known number of steps, got {shape}")),
            Some(0) => return Err(format!("expected at least one step, got {shape}")),
            time if time != first.dim(1) => {
                return Err(format!("expected sequences of equal length, got {first} and {shape}"));
            }
            Some(_) => {}
        }
    }
    Ok(first.extents()[1])
}

/// That a step returns states as it got them, and as many outputs as the first.
fn fits<T: Scalar>(
    states: &[Expr<'_, T>],
    next: &[Expr<'_, T>],
    n_outputs: usize,
    n_out: usize,
) -> Result<(), String> {
    if (states.len(), n_outputs) != (next.len(), n_out) {
        let want = format!("{} states and {n_outputs} outputs", states.len());
        return Err(format!("expected {want}, got {} and {n_out}", next.len()));
    }
    for (old, new) in states.iter().zip(next) {
        let (old, new) = (old.shape(), new.shape());
        if !old.accepts_or_any(&new) {
            return Err(format!("expected a state of {old}, got {new}"));
        }
    }
    Ok(())
}
