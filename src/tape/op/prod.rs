//! The derivatives of a product, a family that is closed under differentiation.

use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::kernel::reduce::{MAX_ORDER, prod_grad};
use crate::scalar::Scalar;
use crate::shape::{ANY, Axes, Shape};

/// `(x, v_1, …, v_m)`: y_i = D^{m+1} P(x)[v_1, …, v_m, e_i], where P is the product over `axes`.
/// With m = 0 it is the gradient. D^{m+1} P is symmetric and linear in each direction, so every
/// cotangent is a member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProdGrad {
    /// The axes of the product.
    pub axes: Axes,
}

impl<T: Scalar> Primitive<T> for ProdGrad {
    fn name(&self) -> &str {
        "prod_grad"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x.len() > MAX_ORDER + 1 {
            bail!(Gradient, "expected at most {MAX_ORDER} directions, got {}", x.len() - 1);
        }
        let may_be_equal = |(&a, &b): (&usize, &usize)| a == b || a == ANY || b == ANY;
        let fits = |v: &&Shape| {
            v.rank() == x[0].rank() && x[0].extents().iter().zip(v.extents()).all(may_be_equal)
        };
        match x.iter().find(|v| !fits(v)) {
            Some(v) => bail!(Shape, "{}, {v}: expected equal shapes", x[0]),
            None => Ok(x[0]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let mut v = [&[][..]; MAX_ORDER];
        v.iter_mut().zip(&x[1..]).for_each(|(v, x)| *v = x.float());
        prod_grad(&x[0].shape(), self.axes, x[0].float(), &v[..x.len() - 1], y.float());
        Ok(())
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i > 0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let cotangent = |k: usize| {
            let mut inputs = x.to_vec();
            match k {
                0 => inputs.push(ct),
                k => inputs[k] = ct,
            }
            x[0].tape().apply(*self, &inputs)
        };
        Ok((0..x.len()).map(|k| want[k].then(|| cotangent(k))).collect())
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        let all_split = split.iter().all(|&s| s);
        if all_split && !self.axes.contains(0) { RowRule::Split } else { RowRule::Mixes }
    }
}
