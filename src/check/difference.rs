//! Gradients against central differences, along random directions and, where those disagree,
//! element by element.

use super::place;
use super::record::{Recorded, signed};
use crate::Philox;
use crate::Session;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Scalar;
use crate::tape::Expr;
use crate::tensor::Tensor;

/// Rounding errors that a difference of two values may have, in units of ε of the values.
const ROUNDINGS: f64 = 16.0;

/// The most elements that are looked at one by one to find the wrong one.
const MAX_ELEMENTS: usize = 1000;

/// The gradient that the sweep gave for ⟨weights, y⟩ in the first placeholders.
pub(super) struct Claim<'a, 't, T: Scalar> {
    pub(super) of: &'a Recorded<'t, T>,
    pub(super) order: u8,
    pub(super) y: Expr<'t, T>,
    pub(super) value: Option<Tensor<T>>,
    pub(super) weights: Vec<f64>,
    /// `None` says that y does not depend on the input.
    pub(super) gradients: Vec<Option<Tensor<T>>>,
    pub(super) point: &'a [Tensor<T>],
}

/// How a gradient and a difference agree along one direction.
#[derive(Clone, Copy)]
pub(super) struct Agreement {
    pub(super) want: f64,
    pub(super) got: f64,
    pub(super) error: f64,
}

/// For each input the step in each of its elements; empty for an input that stays.
pub(super) type Direction = Vec<Vec<f64>>;

impl<T: Scalar> Claim<'_, '_, T> {
    /// The largest relative error, or the failure of the input that has it.
    pub(super) fn check(&self, session: &mut Session<T>, tolerance: f64, seed: u64) -> Result<f64> {
        let title = self.of.title();
        if let Some(bad) = self.value.iter().flat_map(Tensor::as_slice).find(|y| !y.is_finite()) {
            bail!(Check, "{title}: expected finite values at these inputs, got {bad}");
        }
        for (i, (g, x)) in self.gradients.iter().zip(self.point).enumerate() {
            if let Some(g) = g.as_ref().filter(|g| g.shape() != x.shape()) {
                let (want, got) = (x.shape(), g.shape());
                let what = self.what(i);
                bail!(Check, "{title}: {what}: expected the shape {want}, got {got}");
            }
        }
        let mut rng = Philox::new(seed, u64::from(self.order));
        let n = self.gradients.len();
        let all: Direction = self.point[..n]
            .iter()
            .map(|x| x.as_slice().iter().map(|_| size(x) * signed(&mut rng)).collect())
            .collect();
        let one = |i: usize| -> Direction {
            (0..n).map(|k| if k == i { all[i].clone() } else { vec![] }).collect()
        };
        let mut worst = 0.0;
        for i in 0..n {
            let found = self.along(session, &one(i), tolerance)?;
            if found.error > tolerance {
                return Err(self.locate(session, i..i + 1, found, tolerance));
            }
            worst = f64::max(worst, found.error);
        }
        let found = self.along(session, &all, tolerance)?;
        if found.error > tolerance {
            return Err(self.locate(session, 0..n, found, tolerance));
        }
        Ok(worst.max(found.error))
    }

    fn what(&self, i: usize) -> String {
        let order = if self.order == 1 { "derivative" } else { "second derivative" };
        match i < self.of.n_x {
            true => format!("{order} in input {i}"),
            false => format!("{order} in the cotangent"),
        }
    }

    /// Gradient and difference along a direction, at the step where they agree best.
    fn along(&self, session: &mut Session<T>, v: &Direction, tolerance: f64) -> Result<Agreement> {
        let (mut got, mut size) = (0.0, 0.0);
        for (g, v) in self.gradients.iter().zip(v) {
            for (g, v) in g.iter().flat_map(Tensor::as_slice).zip(v) {
                got += g.to_f64() * v;
                size += (g.to_f64() * v).abs();
            }
        }
        let value = self.value.iter().flat_map(Tensor::as_slice);
        let values: f64 = value.zip(&self.weights).map(|(y, w)| (y.to_f64() * w).abs()).sum();
        let mut best = Agreement { want: f64::NAN, got, error: f64::INFINITY };
        for h in steps::<T>() {
            let want = self.slope(session, v, h)?;
            // Below this the difference is rounding, and agreement with it says nothing.
            let noise = ROUNDINGS * T::EPSILON * values / h;
            let scale = size.max(want.abs()).max(noise / tolerance);
            let error = if want == got { 0.0 } else { (want - got).abs() / scale };
            if error < best.error || best.want.is_nan() {
                let error = if error.is_nan() { f64::INFINITY } else { error };
                best = Agreement { want, got, error };
            }
            if best.error <= 0.1 * tolerance {
                break;
            }
        }
        Ok(best)
    }

    /// d⟨weights, y(x + t·v)⟩/dt at 0.
    fn slope(&self, session: &mut Session<T>, v: &Direction, h: f64) -> Result<f64> {
        let slopes = self.slopes(session, v, h)?;
        Ok(slopes.iter().zip(&self.weights).map(|(slope, w)| slope * w).sum())
    }

    /// The element of the tangent `dy` along `v` that agrees least with the difference, at the step
    /// where it agrees best. Errors are relative to the largest element.
    pub(super) fn tangent(
        &self,
        session: &mut Session<T>,
        v: &Direction,
        dy: &Tensor<T>,
        tolerance: f64,
    ) -> Result<(usize, Agreement)> {
        let value = self.value.as_ref().map_or(0.0, largest);
        let mut best = (0, Agreement { want: 0.0, got: 0.0, error: f64::INFINITY });
        for h in steps::<T>() {
            let slopes = self.slopes(session, v, h)?;
            let noise = ROUNDINGS * T::EPSILON * value / h;
            let scale = slopes.iter().fold(largest(dy), |m, slope| m.max(slope.abs()));
            let scale = scale.max(noise / tolerance);
            let mut worst = (0, Agreement { want: 0.0, got: 0.0, error: 0.0 });
            for (k, (&want, got)) in slopes.iter().zip(dy.as_slice()).enumerate() {
                let got = got.to_f64();
                let error = relative(want - got, scale);
                if error > worst.1.error {
                    worst = (k, Agreement { want, got, error });
                }
            }
            if worst.1.error < best.1.error {
                best = worst;
            }
            if best.1.error <= 0.1 * tolerance {
                break;
            }
        }
        Ok(best)
    }

    /// dy(x + t·v)/dt at 0 from central differences at h and h/2, extrapolated.
    fn slopes(&self, session: &mut Session<T>, v: &Direction, h: f64) -> Result<Vec<f64>> {
        let mut difference = |h: f64| -> Result<Vec<f64>> {
            let (up, down) = (self.value_at(session, v, h)?, self.value_at(session, v, -h)?);
            let steps = up.as_slice().iter().zip(down.as_slice());
            Ok(steps.map(|(a, b)| (a.to_f64() - b.to_f64()) / (2.0 * h)).collect())
        };
        let (far, near) = (difference(h)?, difference(h / 2.0)?);
        Ok(far.iter().zip(near).map(|(far, near)| (4.0 * near - far) / 3.0).collect())
    }

    fn value_at(&self, session: &mut Session<T>, v: &Direction, h: f64) -> Result<Tensor<T>> {
        let mut point = self.point.to_vec();
        for (x, v) in point.iter_mut().zip(v) {
            x.as_mut_slice().iter_mut().zip(v).for_each(|(x, v)| *x += T::lit(h * v));
        }
        session.run(self.y, &self.of.feeds(&point))
    }

    /// The failure, with the element that is most wrong if one is found.
    fn locate(
        &self,
        session: &mut Session<T>,
        inputs: std::ops::Range<usize>,
        along: Agreement,
        tolerance: f64,
    ) -> Error {
        let mut worst: Option<(String, Agreement)> = None;
        let mut whole = self.what(inputs.start) + " along a random direction";
        if inputs.len() > 1 {
            whole = self.what(0) + " and the others along a random direction";
        }
        for i in inputs {
            let x = &self.point[i];
            for at in 0..x.len().min(MAX_ELEMENTS) {
                let mut v: Direction = vec![vec![]; self.gradients.len()];
                v[i] = vec![0.0; x.len()];
                v[i][at] = size(x);
                let Ok(found) = self.along(session, &v, tolerance) else { continue };
                let gap = |a: &Agreement| (a.want - a.got).abs() / size(x);
                let is_worse =
                    worst.as_ref().is_none_or(|(_, w)| gap(&found) > (w.want - w.got).abs());
                if found.error > tolerance && is_worse {
                    let (want, got) = (found.want / size(x), found.got / size(x));
                    let name = format!("{} at {}", self.what(i), place(&x.shape(), at));
                    worst = Some((name, Agreement { want, got, ..found }));
                }
            }
        }
        let (name, Agreement { want, got, error }) = worst.unwrap_or((whole, along));
        let text = format!(
            "{}: {name}: expected {want:.8} from central differences, got {got:.8}, relative \
             error {error:.1e}",
            self.of.title()
        );
        Error::new(ErrorKind::Check, text)
    }
}

/// The steps: the second is for where the first crosses a kink.
fn steps<T: Scalar>() -> [f64; 2] {
    [T::EPSILON.powf(0.2), T::EPSILON.cbrt()]
}

/// The scale of the steps: the largest element, or 1.
pub(super) fn size<T: Scalar>(x: &Tensor<T>) -> f64 {
    let largest = largest(x);
    if largest > 0.0 && largest.is_finite() { largest } else { 1.0 }
}

pub(super) fn largest<T: Scalar>(x: &Tensor<T>) -> f64 {
    x.as_slice().iter().fold(0.0, |m: f64, x| m.max(x.to_f64().abs()))
}

/// A gap between numbers of this scale; +∞ for NaN.
pub(super) fn relative(gap: f64, scale: f64) -> f64 {
    match gap.abs() / scale {
        _ if gap == 0.0 => 0.0,
        error if error.is_nan() => f64::INFINITY,
        error => error,
    }
}
