//! What a fit returns: how it ended, and how well the parameters are known.

use super::factor::Factor;
use crate::error::{Error, ErrorKind, Result};
use crate::optim::Outcome;
use nalgebra::DMatrix;

/// How a fit ended, and the uncertainty of its parameters. Parameters are counted through the
/// variables in the order recorded, each in memory order.
#[derive(Clone, Debug)]
#[must_use = "a fit may end without convergence"]
pub struct Fit {
    /// How it ended. The loss is ½Σr², with a robust loss what that makes of it; gradient norms
    /// are ‖Jᵀr‖∞; products count Jacobians.
    pub outcome: Outcome,
    pub(super) method: String,
    pub(super) n_residuals: usize,
    /// The numbers of the parameters that no bound holds.
    pub(super) free: Vec<usize>,
    pub(super) n_parameters: usize,
    /// Of the free columns of the Jacobian, each divided by its length; `None` if not finite.
    pub(super) factor: Option<Factor>,
    pub(super) lengths: Vec<f64>,
}

impl Fit {
    /// As many numbers as the residuals alone determine: the rank of the Jacobian, columns of
    /// parameters at their bounds left out.
    pub fn rank(&self) -> usize {
        self.factor.as_ref().map_or(0, Factor::rank)
    }

    /// s² = Σr² / (m − n), the estimated variance of a residual, for m residuals and n parameters,
    /// those that a bound holds not counted.
    ///
    /// # Errors
    /// No more residuals than parameters (`Singular`).
    pub fn residual_variance(&self) -> Result<f64> {
        let (m, n) = (self.n_residuals, self.free.len());
        if m <= n {
            let text = format!("expected more residuals than parameters, got {m} and {n}");
            return Err(Error::new(ErrorKind::Singular, text).within(&self.method));
        }
        Ok(2.0 * self.outcome.loss / (m - n) as f64)
    }

    /// The covariance s²(JᵀJ)⁻¹ of the parameters at the end, (n, n), by the QR factors of J: what
    /// linearization says of parameters whose residuals have one variance, estimated as s². A
    /// parameter that a bound holds has zeros. With a robust loss J is the weighted one.
    ///
    /// Cost: n³ operations.
    ///
    /// # Errors
    /// J of a rank less than n: some parameters can change together without a change of residuals
    /// (`Singular`, with the number of one of them); no more residuals than parameters
    /// (`Singular`); a Jacobian that is not finite (`NotFinite`).
    pub fn covariance(&self) -> Result<DMatrix<f64>> {
        let fail = |kind, text: String| Error::new(kind, text).within(&self.method);
        let variance = self.residual_variance()?;
        let Some(factor) = &self.factor else {
            let text = "expected a finite Jacobian, got one that is not";
            return Err(fail(ErrorKind::NotFinite, text.into()));
        };
        let Some(inverse) = factor.inverse() else {
            let (n, rank) = (self.free.len(), factor.rank());
            let which = factor.dependent().map_or(0, |at| self.free[at]);
            let text = format!(
                "expected a Jacobian of rank {n}, got {rank}: the residuals do not determine \
                 parameter {which} beside the others"
            );
            return Err(fail(ErrorKind::Singular, text));
        };
        let k = self.free.len();
        let mut covariance = DMatrix::zeros(self.n_parameters, self.n_parameters);
        for (a, &i) in self.free.iter().enumerate() {
            for (b, &j) in self.free.iter().enumerate() {
                let scale = self.lengths[a] * self.lengths[b];
                covariance[(i, j)] = variance * inverse[a + b * k] / scale;
            }
        }
        Ok(covariance)
    }

    /// The square roots of the variances of the parameters.
    ///
    /// # Errors
    /// As [`Fit::covariance`].
    pub fn standard_errors(&self) -> Result<Vec<f64>> {
        Ok(self.covariance()?.diagonal().iter().map(|v| v.sqrt()).collect())
    }
}
