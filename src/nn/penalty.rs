//! Penalties on weights, to be added to a loss.

use crate::{AsNode, Expr, Scalar, Tape};

/// λ·Σ w² over all elements of all weights, without a factor ½: ridge regression's term. Biases
/// are best left out.
///
/// ```
/// use gradtape::{Session, Tape, Tensor, nn};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![3.0, -4.0]));
/// let (l2, l1) = (nn::l2(&tape, &[w], 0.5), nn::l1(&tape, &[w], 0.5));
/// assert_eq!(Session::new(&tape)?.run((l2, l1), &[])?, (12.5.into(), 3.5.into()));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[track_caller]
pub fn l2<'t, T: Scalar>(tape: &'t Tape<T>, weights: &[impl AsNode], lambda: f64) -> Expr<'t, T> {
    let mut total = tape.literal(0.0);
    for &w in weights {
        total = total + tape.expr(w).square().sum();
    }
    total * tape.literal(lambda)
}

/// λ·Σ |w| over all elements of all weights: the lasso's term. The subgradient at 0 is 0.
#[track_caller]
pub fn l1<'t, T: Scalar>(tape: &'t Tape<T>, weights: &[impl AsNode], lambda: f64) -> Expr<'t, T> {
    let mut total = tape.literal(0.0);
    for &w in weights {
        total = total + tape.expr(w).norm_l1();
    }
    total * tape.literal(lambda)
}
