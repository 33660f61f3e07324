//! Clipping of gradients by their sizes.

use super::positive;
use crate::error::{Result, bail};
use crate::scalar::Scalar;

/// What keeps gradients small. Clipping comes first, before weight decay and moments.
///
/// Pascanu et al., *On the difficulty of training recurrent neural networks* (2013), algorithm 1,
/// for norms. They are divided by as they are, in optax too; PyTorch divides by ‖g‖ + 10⁻⁶, for
/// which every optimizer has `with_clip_epsilon`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Gradients as they are.
    None,
    /// Each element is moved into `[−c, c]`.
    Value(f64),
    /// The gradient of each variable is multiplied by `min(1, c / ‖g‖₂)` with its own norm.
    TensorNorm(f64),
    /// All gradients of the update are multiplied by `min(1, c / ‖g‖₂)`, with one norm over all
    /// of its variables, summed in f64.
    Norm(f64),
}

impl Clip {
    pub(super) fn check<T: Scalar>(self) -> Result<()> {
        match self {
            Clip::None => Ok(()),
            Clip::Value(c) | Clip::TensorNorm(c) | Clip::Norm(c) => {
                positive::<T>("limit to clip to", c)
            }
        }
    }
}

/// `scale · min(1, c / (scale ‖g‖ + ε))` for a gradient of these squares: the factor on gradients
/// that had one already.
pub(super) fn factor(c: f64, epsilon: f64, scale: f64, squares: f64) -> Result<f64> {
    let norm = scale * squares.sqrt() + epsilon;
    if !norm.is_finite() {
        bail!(NotFinite, "expected a finite norm of the gradients, got {norm}");
    }
    // Not c / norm first: that overflows for a norm next to 0.
    Ok(if norm > c { scale * (c / norm) } else { scale })
}
