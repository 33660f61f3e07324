//! A tensor repeated along its axes, and the sum of the repeats.

use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::copy::{MAX_AXES, copy_strided, scatter_add_strided};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, IndexExpr};

/// x, `repeats[i]` times along axis i.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// One for each axis.
    pub repeats: Box<[usize]>,
}

/// `(y, like)`: the sum of the repeats of which [`Tile`] would make y, in the shape of `like`,
/// whose elements are not read. The adjoint of [`Tile`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Untile {
    /// One for each axis.
    pub repeats: Box<[usize]>,
}

fn tiled(repeats: &[usize], x: &Shape) -> Result<Shape> {
    if x.rank() != repeats.len() {
        bail!(Shape, "{x}: expected {} axes", repeats.len());
    }
    let mut out = *x;
    for (extent, &n) in out.extents_mut().iter_mut().zip(repeats) {
        *extent = match (*extent, n) {
            (_, 0) => 0,
            (ANY, _) => ANY,
            (extent, n) => match extent.checked_mul(n) {
                Some(tiled) if tiled != ANY => tiled,
                _ => bail!(Shape, "{x}: too large {n} times"),
            },
        };
    }
    Ok(out)
}

/// The tiled tensor with two axes for each of x: the position in x, and the repeat, which does
/// not move it.
fn walk(repeats: &[usize], x: &Shape) -> ([usize; MAX_AXES], [isize; MAX_AXES]) {
    let (mut extents, mut strides) = ([1; MAX_AXES], [0; MAX_AXES]);
    for (axis, (&extent, &n)) in x.extents().iter().zip(repeats).enumerate() {
        extents[2 * axis..][..2].copy_from_slice(&[extent, n]);
        strides[2 * axis] = x.strides()[axis] as isize;
    }
    (extents, strides)
}

impl<T: Scalar> Primitive<T> for Tile {
    fn name(&self) -> &str {
        "tile"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        tiled(&self.repeats, &x[0])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (extents, strides) = walk(&self.repeats, &x[0].shape());
        match y {
            Out::Index(_, y) => copy_strided(&extents, &strides, 0, x[0].index(), y),
            y => copy_strided(&extents, &strides, 0, x[0].float(), y.float()),
        }
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(Untile { repeats: self.repeats.clone() }, &[ct, x[0]]))])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.repeats[0] == 1 { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<T: Scalar> Primitive<T> for Untile {
    fn name(&self) -> &str {
        "untile"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let whole = tiled(&self.repeats, &x[1])?;
        if !whole.accepts_or_any(&x[0]) {
            bail!(Shape, "{}, {}: expected {whole} first", x[0], x[1]);
        }
        Ok(x[1])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (extents, strides) = walk(&self.repeats, &y.shape());
        let y = y.float();
        y.fill(T::zero());
        scatter_add_strided(&extents, &strides, 0, x[0].float(), y);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        x[0].len()
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(Tile { repeats: self.repeats.clone() }, &[ct])), None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [true, true] if self.repeats[0] == 1 => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// This, `repeats[i]` times along axis i: one number for each axis. Cost: one copy. Where
    /// the tile has extent 1, broadcasting does the same without one.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 3]);
    /// assert_eq!(x.tile(&[1, 4]).shape(), [ANY, 12].into());
    /// ```
    #[track_caller]
    pub fn tile(self, repeats: &[usize]) -> Expr<'t, T> {
        if repeats.len() != self.rank() {
            let text = format!("expected {} repeats, got {}", self.rank(), repeats.len());
            return self.refuse("tile", Error::new(ErrorKind::Argument, text));
        }
        match repeats.iter().all(|&n| n == 1) {
            true => self,
            false => self.tape.apply(Tile { repeats: repeats.into() }, &[self]),
        }
    }
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// This, repeated along its axes; see [`Expr::tile`].
    #[track_caller]
    pub fn tile(self, repeats: &[usize]) -> Self {
        IndexExpr(self.0.tile(repeats))
    }
}
