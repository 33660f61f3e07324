//! Losses of residuals that grow more slowly than squares, so that outliers pull less.

use crate::error::Result;
use crate::optim::positive;

/// What a residual r costs: ½C²ρ((r/C)²), with a scale C > 0 beyond which r counts as an outlier.
///
/// ```text
/// Squares   ρ(z) = z
/// Huber     ρ(z) = z if z ≤ 1, else 2√z − 1
/// SoftL1    ρ(z) = 2(√(1 + z) − 1)
/// Cauchy    ρ(z) = ln(1 + z)
/// ```
///
/// All are ½r² for small residuals. A fit sees each as weighted squares, with the weights and the
/// second-order correction of Triggs, McLauchlan, Hartley and Fitzgibbon, *Bundle adjustment, a
/// modern synthesis* (2000), section 4.3; where the corrected curvature ρ' + 2zρ'' would not be
/// positive it is ε, as in SciPy's `least_squares`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum RobustLoss {
    /// ½r².
    #[default]
    Squares,
    /// Squares up to C, straight lines beyond (Huber 1964).
    Huber(f64),
    /// A smooth form of Huber's.
    SoftL1(f64),
    /// Grows like a logarithm: outliers hardly count, and there may be several minima.
    Cauchy(f64),
}

impl RobustLoss {
    pub(super) fn check(self) -> Result<()> {
        match self {
            RobustLoss::Squares => Ok(()),
            RobustLoss::Huber(c) | RobustLoss::SoftL1(c) | RobustLoss::Cauchy(c) => {
                positive::<f64>("scale of a robust loss", c)
            }
        }
    }

    /// ρ, ρ' and ρ'' at z = (r/C)², and C.
    fn rho(self, r: f64) -> ([f64; 3], f64) {
        match self {
            RobustLoss::Squares => ([r * r, 1.0, 0.0], 1.0),
            RobustLoss::Huber(c) => {
                let z = (r / c).powi(2);
                let far = [2.0 * z.sqrt() - 1.0, 1.0 / z.sqrt(), -0.5 / (z * z.sqrt())];
                (if z <= 1.0 { [z, 1.0, 0.0] } else { far }, c)
            }
            RobustLoss::SoftL1(c) => {
                let z = (r / c).powi(2);
                let root = (1.0 + z).sqrt();
                // Not 2(√(1 + z) − 1), which cancels.
                ([2.0 * z / (root + 1.0), 1.0 / root, -0.5 / root.powi(3)], c)
            }
            RobustLoss::Cauchy(c) => {
                let z = (r / c).powi(2);
                ([z.ln_1p(), 1.0 / (1.0 + z), -1.0 / (1.0 + z).powi(2)], c)
            }
        }
    }

    /// Σ of what residuals cost.
    pub(super) fn cost(self, r: &[f64]) -> f64 {
        let cost = |&r: &f64| {
            let ([rho, ..], c) = self.rho(r);
            0.5 * c * c * rho
        };
        r.iter().map(cost).sum()
    }

    /// What to multiply a residual and its row of the Jacobian by, so that their product is the
    /// gradient and the row's square its curvature.
    pub(super) fn weights(self, r: f64) -> (f64, f64) {
        let ([_, first, second], c) = self.rho(r);
        let curvature = (first + 2.0 * second * (r / c).powi(2)).max(f64::EPSILON).sqrt();
        (first / curvature, curvature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_give_the_derivatives_of_the_cost() {
        let all = [
            RobustLoss::Squares,
            RobustLoss::Huber(0.7),
            RobustLoss::SoftL1(0.7),
            RobustLoss::Cauchy(0.7),
        ];
        for loss in all {
            for r in [-5.0, -0.6, -1e-3, 0.0, 0.2, 0.69, 0.71, 3.0] {
                let h = 1e-5;
                let at = |r: f64| loss.cost(&[r]);
                let (slope, curvature) = (
                    (at(r + h) - at(r - h)) / (2.0 * h),
                    (at(r + h) - 2.0 * at(r) + at(r - h)) / (h * h),
                );
                let (of_r, of_row) = loss.weights(r);
                assert!((of_r * r * of_row - slope).abs() < 1e-9, "{loss:?} {r}");
                let want = curvature.max(0.0);
                assert!((of_row * of_row - want).abs() < 1e-4, "{loss:?} {r}: {want}");
            }
            assert!((loss.cost(&[1e-4]) - 0.5e-8).abs() < 1e-15);
        }
        assert!(RobustLoss::Huber(0.0).check().is_err());
        assert!(RobustLoss::Cauchy(f64::NAN).check().is_err());
    }
}
