//! Numbers brought to mean 0 and variance 1 along some axes: what layer, group and batch
//! normalization share.

use super::{Arg, Cotangents, Out, Primitive, Reduction, RowRule, Units, Vjp};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::normalize as kernel;
use crate::scalar::Scalar;
use crate::shape::{ANY, Axes, MAX_RANK, Shape};
use crate::tape::Expr;
use std::ops::Range;

/// A normalization over neighboring axes, none of them the first, and its derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Normalize {
    /// `(x)`: the normalized numbers y.
    Value(Norm),
    /// `(x, ct)`: the cotangent of x for that of y. It is linear and symmetric in ct.
    Slope(Norm),
}

/// How numbers are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Norm {
    /// Whether the mean is subtracted.
    center: bool,
    axes: Axes,
    /// The bits of eps, an f64: so it compares and hashes.
    eps: u64,
}

impl Norm {
    fn eps(&self) -> f64 {
        f64::from_bits(self.eps)
    }

    fn kernel(&self, x: &Shape) -> kernel::Normalize {
        let product = |before: bool| {
            let axes = (0..x.rank()).filter(|&axis| !self.axes.contains(axis));
            let first = self.axes.iter().next().unwrap_or(0);
            axes.filter(|&axis| (axis < first) == before).map(|axis| x.extents()[axis]).product()
        };
        let n = self.axes.iter().map(|axis| x.extents()[axis]).product();
        let (inner, outer) = (product(true), product(false));
        kernel::Normalize { inner, n, outer, center: self.center, eps: self.eps() }
    }
}

/// Whether these axes follow each other and leave the batch alone: then [`Normalize`] does it.
fn are_neighbors_within_rows(axes: Axes) -> bool {
    let (first, last) = (axes.iter().next(), axes.iter().last());
    match (first, last) {
        (Some(first), Some(last)) => first > 0 && last - first + 1 == axes.count(),
        _ => false,
    }
}

impl<T: Scalar> Primitive<T> for Normalize {
    fn name(&self) -> &str {
        match self {
            Normalize::Value(Norm { center: true, .. }) => "standardize",
            Normalize::Slope(Norm { center: true, .. }) => "standardize_slope",
            Normalize::Value(_) => "rms_normalize",
            Normalize::Slope(_) => "rms_normalize_slope",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let (Normalize::Value(norm) | Normalize::Slope(norm)) = self;
        if norm.axes.iter().any(|axis| axis >= x[0].rank()) {
            bail!(Shape, "{}: expected axes {:?}", x[0], norm.axes);
        }
        match x {
            [x, ct] if !x.accepts_or_any(ct) => bail!(Shape, "{x}, {ct}: expected equal shapes"),
            _ => Ok(x[0]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        self.forward_units(x, y, scratch, 0..1)
    }

    fn units(&self, x: &[Shape]) -> Units {
        let (Normalize::Value(norm) | Normalize::Slope(norm)) = self;
        let (period, unit) = norm.kernel(&x[0]).period();
        Units::Strided { period, unit }
    }

    /// Which units is what `y` says.
    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        _: &mut [T],
        _: Range<usize>,
    ) -> Result<()> {
        let (Normalize::Value(norm) | Normalize::Slope(norm)) = self;
        let kernel = norm.kernel(&y.shape());
        let y = y.runs(kernel.period().0);
        match self {
            Normalize::Value(_) => kernel.value(x[0].float(), y),
            Normalize::Slope(_) => kernel.slope(x[0].float(), x[1].float(), y),
        }
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        let each = if let Normalize::Value(_) = self { 6 } else { 13 };
        x[0].len().saturating_mul(each)
    }

    /// With means ⟨·⟩ along the axes and r = 1/√(variance + eps), the slope is
    /// s(u) = r·(u − ⟨u⟩ − y·⟨u·y⟩). So v·s(u) is r·n·(⟨u·v⟩ − ⟨u⟩⟨v⟩ − ⟨u·y⟩⟨v·y⟩), where
    /// ∂r/∂x = −r²·y/n, and y is a function of x with the slope s.
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let tape = ct.tape();
        let (norm, u, v) = match *self {
            Normalize::Value(norm) => {
                return Ok(vec![Some(tape.apply(Normalize::Slope(norm), &[x[0], ct]))]);
            }
            Normalize::Slope(norm) => (norm, x[1], ct),
        };
        let (x, slope) = (x[0], Normalize::Slope(norm));
        let dx = || {
            let n = x.size(norm.axes);
            let mean = |a: Expr<'t, T>| a.reduce(Reduction::Sum, norm.axes, true) / n;
            let y = tape.apply(Normalize::Value(norm), &[x]);
            let deviation = if norm.center { x - mean(x) } else { x };
            let r = (mean(deviation.square()) + x.lit(norm.eps())).rsqrt();
            let (a, b, mut c) = (mean(u * y), mean(v * y), mean(u * v));
            if norm.center {
                c = c - mean(u) * mean(v);
            }
            let through_y = tape.apply(slope, &[x, r * (b * u + a * v)]);
            -(through_y + r.square() * (c - a * b) * y)
        };
        Ok(vec![want[0].then(dx), want[1].then(|| tape.apply(slope, &[x, v]))])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split.iter().all(|&s| s) { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// (x − mean) / √(variance + eps) along these axes, without a gain and a bias. The variance is
    /// the biased one, Σ (x − mean)²/n, in two passes. Layer normalization has the last axis (Ba,
    /// Kiros and Hinton 2016), batch normalization all others (Ioffe and Szegedy 2015).
    ///
    /// Over axes that are neighbors and not the first, one pass over memory; else it is composed
    /// of reductions. One number is 0, and so is its gradient, unless eps is 0.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::from_rows([2, 2], &[1.0, 3.0, 10.0, 50.0])?);
    /// let y = x.standardize(&[-1], 0.0);
    /// let y = Session::new(&tape)?.run(y, &[])?;
    /// assert_eq!(y, Tensor::from_rows([2, 2], &[-1.0, 1.0, -1.0, 1.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn standardize(self, axes: &[isize], eps: f64) -> Expr<'t, T> {
        self.normalized("standardize", axes, eps, true)
    }

    /// x / √(mean of x² + eps) along these axes, without a gain (Zhang and Sennrich 2019, Root
    /// mean square layer normalization); else as [`Expr::standardize`].
    #[track_caller]
    pub fn rms_normalize(self, axes: &[isize], eps: f64) -> Expr<'t, T> {
        self.normalized("rms_normalize", axes, eps, false)
    }

    /// [`Expr::standardize`] of the channels in groups of neighbors, each with all positions of its
    /// sample, `(batch, …, channels) -> (batch, …, channels)` (Wu and He 2018, Group
    /// normalization). One group is the layer normalization of images, as many as channels their
    /// instance normalization.
    #[track_caller]
    pub fn group_standardize(self, groups: usize, eps: f64) -> Expr<'t, T> {
        let shape = self.shape();
        let rank = shape.rank();
        let channels = *shape.extents().last().unwrap_or(&0);
        let fits = groups > 0 && channels != ANY && channels.is_multiple_of(groups);
        if !fits || !(2..MAX_RANK).contains(&rank) {
            let text = format!("expected (batch, …, channels) in {groups} equal groups");
            return self.refuse("group_standardize", Error::new(ErrorKind::Shape, text));
        }
        // Column-major: neighbors of a group come before the groups.
        let mut extents = shape.extents().to_vec();
        extents[rank - 1] = channels / groups;
        extents.push(groups);
        let axes: Vec<isize> = (1..rank as isize).collect();
        match Shape::new(&extents) {
            Ok(to) => self.reshape(to).standardize(&axes, eps).reshape_like(self),
            Err(e) => self.refuse("group_standardize", e),
        }
    }

    #[track_caller]
    fn normalized(self, method: &str, axes: &[isize], eps: f64, center: bool) -> Expr<'t, T> {
        if !(eps >= 0.0 && eps.is_finite()) {
            let text = format!("expected an eps from 0 up, got {eps}");
            return self.refuse(method, Error::new(ErrorKind::Argument, text));
        }
        let axes = match Axes::of(&self.shape(), axes) {
            Ok(axes) => axes,
            Err(e) => return self.refuse(method, e),
        };
        if are_neighbors_within_rows(axes) {
            let norm = Norm { center, axes, eps: eps.to_bits() };
            return self.tape().apply(Normalize::Value(norm), &[self]);
        }
        let n = self.size(axes);
        let deviation = match center {
            true => self - self.reduce(Reduction::Sum, axes, true) / n,
            false => self,
        };
        let spread = deviation.square().reduce(Reduction::Sum, axes, true) / n;
        deviation * (spread + self.lit(eps)).rsqrt()
    }
}
