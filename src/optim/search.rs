//! The line search for the strong Wolfe conditions, on one variable: the step. Knows nothing of
//! vectors, tapes or the method that asks.

use crate::error::{Result, bail};

/// The most points tried on one line.
const MAX_TRIALS: usize = 60;
/// How far a step grows that is still too short, at least and at most: a factor.
const GROWTH: (f64, f64) = (2.0, 10.0);
/// What an interval is cut to when its far end has no finite value.
const RETREAT: f64 = 0.1;
/// How close an interpolated step may come to the ends of an interval of length 1.
const MARGIN: (f64, f64) = (1e-3, 0.1);
/// A trial is to make the interval shorter by this factor, or the next one cuts it in half. (Hager
/// and Zhang 2005, their γ; two trials for it, as Moré and Thuente allow, took more in all.)
const SHRINKAGE: f64 = 0.66;

/// The strong Wolfe conditions on a step α along a descent direction, φ(α) = f(x + αd):
///
/// ```text
/// φ(α) ≤ φ(0) + c₁ α φ'(0)                             sufficient decrease
/// |φ'(α)| ≤ c₂ |φ'(0)|                                 curvature
/// ```
///
/// Next to a minimum the first is lost in rounding long before the second. So where φ(α) and φ(0)
/// differ by rounding only, its other form for a parabola counts (Hager and Zhang 2005):
///
/// ```text
/// φ'(α) ≤ (2c₁ − 1) φ'(0)
/// ```
///
/// The search keeps an interval whose near end decreases φ sufficiently and still falls, and whose
/// far end does not decrease it, or rises, or is not finite. Then φ(α) − φ(0) − c₁αφ'(0) has a
/// minimum inside that satisfies both conditions (Moré and Thuente 1994, theorem 2.1), and every
/// trial makes the interval shorter: at the minimum of the cubic through both ends, or at half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wolfe {
    pub(super) c1: f64,
    pub(super) c2: f64,
}

/// A point of the line: φ and φ' at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) step: f64,
    pub(super) loss: f64,
    pub(super) slope: f64,
}

/// What there is to say of a step that is tried.
pub(super) enum Trial {
    /// φ and φ', finite or not.
    At(Point),
    /// So short that it moves nothing.
    Still,
    /// No more evaluations are allowed.
    Exhausted,
}

/// How a search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// At the point tried last: the conditions hold, or at least the first, if [`MAX_TRIALS`] were
    /// not enough for both.
    Step(Point),
    /// No point decreases φ.
    Nothing,
    /// As that, and none that was tried was finite.
    NotFinite,
    /// φ is −∞ somewhere.
    Unbounded,
    /// No more evaluations are allowed.
    Exhausted,
}

impl Wolfe {
    pub(super) fn check(&self) -> Result<()> {
        let Wolfe { c1, c2 } = *self;
        match 0.0 < c1 && c1 < 0.5 && c1 < c2 && c2 < 1.0 {
            true => Ok(()),
            false => bail!(Argument, "expected 0 < c1 < 1/2 and c1 < c2 < 1, got {c1} and {c2}"),
        }
    }

    /// A step from `start`, whose slope is negative, that `at` has tried last. `first` > 0 is tried
    /// first, none beyond `longest`, where only the first condition is asked for; losses that
    /// differ by no more than `rounding` are taken as equal.
    pub(super) fn search(
        &self,
        start: Point,
        first: f64,
        longest: f64,
        rounding: f64,
        at: &mut dyn FnMut(f64) -> Result<Trial>,
    ) -> Result<Found> {
        let (mut near, mut far): (Point, Option<Point>) = (start, None);
        let mut any_finite = false;
        let mut last_length = f64::INFINITY;
        let mut step = first.min(longest);
        for _ in 0..MAX_TRIALS {
            let point = match at(step)? {
                Trial::At(point) => point,
                Trial::Still if far.is_none() && step < longest => {
                    step = (step * GROWTH.1).min(longest);
                    continue;
                }
                Trial::Still => break,
                Trial::Exhausted => return Ok(Found::Exhausted),
            };
            if point.loss == f64::NEG_INFINITY {
                return Ok(Found::Unbounded);
            }
            any_finite |= point.is_finite();
            let decreases = point.is_finite() && self.decreases(&start, &point, rounding);
            if decreases && point.slope.abs() <= self.c2 * start.slope.abs() {
                return Ok(Found::Step(point));
            }
            if decreases && point.slope < 0.0 && step >= longest {
                return Ok(Found::Step(point));
            }
            let before = near;
            match decreases && point.slope < 0.0 {
                true => near = point,
                false => far = Some(point),
            }
            step = match far {
                None => further(&before, &near).min(longest),
                Some(far) => {
                    let length = far.step - near.step;
                    let slow = length > SHRINKAGE * last_length;
                    last_length = length;
                    between(&near, &far, slow, rounding)
                }
            };
            if step <= near.step {
                break;
            }
        }
        if near.step == 0.0 {
            return Ok(if any_finite { Found::Nothing } else { Found::NotFinite });
        }
        // Perhaps not the last one tried, as whoever asks wants it to be.
        Ok(match at(near.step)? {
            Trial::Exhausted => Found::Exhausted,
            Trial::At(point) => Found::Step(point),
            Trial::Still => Found::Nothing,
        })
    }

    fn decreases(&self, start: &Point, point: &Point, rounding: f64) -> bool {
        point.loss <= start.loss + self.c1 * point.step * start.slope
            || (point.loss - start.loss).abs() <= rounding
                && point.slope <= (2.0 * self.c1 - 1.0) * start.slope
    }
}

impl Point {
    fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.slope.is_finite()
    }
}

/// The next step when φ still falls too steeply at `now`: where the slopes would reach 0.
fn further(before: &Point, now: &Point) -> f64 {
    let rise = (now.slope - before.slope) / (now.step - before.step);
    let to_zero = if rise > 0.0 { -now.slope / rise } else { f64::INFINITY };
    let step = (now.step + to_zero).clamp(GROWTH.0 * now.step, GROWTH.1 * now.step);
    step.min(f64::MAX)
}

/// The next step inside an interval.
fn between(near: &Point, far: &Point, slow: bool, rounding: f64) -> f64 {
    let length = far.step - near.step;
    if !far.is_finite() {
        return near.step + RETREAT * length;
    }
    if slow {
        return near.step + 0.5 * length;
    }
    // As a part of the interval.
    let blurred = (far.loss - near.loss).abs() <= rounding && far.slope > 0.0;
    let part = match blurred {
        true => near.slope / (near.slope - far.slope),
        false => cubic(near, far),
    };
    let part = if part.is_nan() { 0.5 } else { part };
    near.step + part.clamp(MARGIN.0, 1.0 - MARGIN.1) * length
}

/// Where between both ends, from 0 to 1, the cubic with their values and slopes is least; NaN if it
/// has no minimum. (Nocedal and Wright, *Numerical Optimization*, equation 3.59.)
fn cubic(near: &Point, far: &Point) -> f64 {
    let length = far.step - near.step;
    let d1 = near.slope + far.slope - 3.0 * (far.loss - near.loss) / length;
    let d2 = (d1 * d1 - near.slope * far.slope).sqrt();
    1.0 - (far.slope + d2 - d1) / (far.slope - near.slope + 2.0 * d2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WOLFE: Wolfe = Wolfe { c1: 1e-4, c2: 0.9 };

    /// What the search finds on φ from 0, given as (φ, φ'), and the steps it tried.
    fn search(
        wolfe: Wolfe,
        first: f64,
        rounding: f64,
        phi: impl Fn(f64) -> (f64, f64),
    ) -> (Found, Vec<f64>) {
        let mut tried = vec![];
        let mut at = |step: f64| {
            tried.push(step);
            let (loss, slope) = phi(step);
            let still = 1.0 + step == 1.0;
            Ok(if still { Trial::Still } else { Trial::At(Point { step, loss, slope }) })
        };
        let (loss, slope) = phi(0.0);
        let start = Point { step: 0.0, loss, slope };
        let found = wolfe.search(start, first, f64::INFINITY, rounding, &mut at).unwrap();
        (found, tried)
    }

    /// The functions of Moré and Thuente 1994, section 5, and the c₁ and c₂ of their tables.
    #[test]
    fn the_functions_of_more_and_thuente_from_steps_of_any_size() {
        fn yanai(a: f64, b1: f64, b2: f64) -> (f64, f64) {
            let gamma = |b: f64| (1.0 + b * b).sqrt() - b;
            let (l, r) = ((1.0 - a).hypot(b2), a.hypot(b1));
            let (g1, g2) = (gamma(b1), gamma(b2));
            (g1 * l + g2 * r, -g1 * (1.0 - a) / l + g2 * a / r)
        }
        fn plateau(a: f64) -> (f64, f64) {
            let (b, l) = (0.01, 39.0);
            let (base, slope) = match a {
                a if a <= 1.0 - b => (1.0 - a, -1.0),
                a if a >= 1.0 + b => (a - 1.0, 1.0),
                a => ((a - 1.0).powi(2) / (2.0 * b) + b / 2.0, (a - 1.0) / b),
            };
            let (sin, cos) = (l * std::f64::consts::FRAC_PI_2 * a).sin_cos();
            let height = 2.0 * (1.0 - b) / (l * std::f64::consts::PI);
            (base + height * sin, slope + (1.0 - b) * cos)
        }
        type Phi = fn(f64) -> (f64, f64);
        let cases: [(f64, f64, Phi); 6] = [
            (1e-3, 0.1, |a| (-a / (a * a + 2.0), (a * a - 2.0) / (a * a + 2.0).powi(2))),
            (0.1, 0.1 + 1e-9, |a| {
                let c = a + 0.004;
                (c.powi(5) - 2.0 * c.powi(4), 5.0 * c.powi(4) - 8.0 * c.powi(3))
            }),
            (0.1, 0.1 + 1e-9, plateau),
            (1e-3, 1e-3 + 1e-9, |a| yanai(a, 1e-3, 1e-3)),
            (1e-3, 1e-3 + 1e-9, |a| yanai(a, 0.01, 1e-3)),
            (1e-3, 1e-3 + 1e-9, |a| yanai(a, 1e-3, 0.01)),
        ];
        for (n, (c1, c2, phi)) in cases.into_iter().enumerate() {
            for first in [1e-3, 0.1, 10.0, 1000.0] {
                let (found, tried) = search(Wolfe { c1, c2 }, first, 0.0, phi);
                let Found::Step(p) = found else { panic!("function {}: {found:?}", n + 1) };
                let (start, end) = (phi(0.0), phi(p.step));
                assert_eq!((p.loss, p.slope), end);
                assert_eq!(tried.last(), Some(&p.step), "the point is the last one tried");
                let case = format!("function {} from {first}: {p:?} after {tried:?}", n + 1);
                assert!(end.0 <= start.0 + c1 * p.step * start.1, "{case}");
                assert!(end.1.abs() <= c2 * start.1.abs(), "{case}");
                assert!(tried.len() <= 20, "{} trials: {case}", tried.len());
            }
        }
    }

    #[test]
    fn a_parabola_needs_one_interpolation() {
        let (found, tried) = search(WOLFE, 100.0, 0.0, |a| ((a - 20.0).powi(2), 2.0 * (a - 20.0)));
        assert!(matches!(found, Found::Step(p) if (p.step - 20.0).abs() < 1e-12), "{found:?}");
        assert_eq!(tried.len(), 2);
    }

    #[test]
    fn values_that_are_not_finite_shorten_the_step() {
        for bad in [f64::NAN, f64::INFINITY] {
            let phi = |a: f64| match a {
                a if a < 1e-4 => ((a - 5e-5).powi(2), 2.0 * (a - 5e-5)),
                _ => (bad, f64::NAN),
            };
            let (found, _) = search(WOLFE, 1.0, 0.0, phi);
            assert!(matches!(found, Found::Step(p) if p.loss < phi(0.0).0), "{found:?}");
        }
    }

    #[test]
    fn every_other_end_has_its_name() {
        let (found, _) = search(WOLFE, 1.0, 0.0, |a| (if a > 0.0 { f64::NAN } else { 0.0 }, -1.0));
        assert_eq!(found, Found::NotFinite);
        // A slope that is not that of the function.
        assert_eq!(search(WOLFE, 1.0, 0.0, |a| (a, -1.0)).0, Found::Nothing);
        let falls = |a: f64| (if a > 1e6 { f64::NEG_INFINITY } else { -a }, -1.0);
        assert_eq!(search(WOLFE, 1.0, 0.0, falls).0, Found::Unbounded);
        // Falls for ever, but to nowhere: as far as it got.
        let (found, tried) = search(WOLFE, 1.0, 0.0, |a| (-a, -1.0));
        assert!(matches!(found, Found::Step(p) if p.step > 1e50), "{found:?}");
        assert!(tried.len() <= MAX_TRIALS + 1);
        // A first step that moves nothing grows.
        let (found, _) = search(WOLFE, 1e-20, 0.0, |a| ((a - 1.0).powi(2), 2.0 * (a - 1.0)));
        assert!(matches!(found, Found::Step(_)), "{found:?}");
    }

    /// Next to its minimum a loss of 1 hides in rounding what its slope still shows.
    #[test]
    fn slopes_decide_where_losses_are_equal_but_for_rounding() {
        let width = 1e-9;
        let phi = |a: f64| (1.0 + 2e-16 * (a * 7.0).sin(), 2.0 * width * (a - 1.0));
        let (found, _) = search(WOLFE, 1.9, 1e-14, phi);
        assert!(matches!(found, Found::Step(p) if p.slope.abs() <= 0.9 * 2.0 * width), "{found:?}");
    }
}
