//! Convolution over rows and columns and its two adjoints. It is linear in the image and in the
//! weights, so the three are closed under differentiation.

use super::window::{Moves, Padding, fits};
use super::{Arg, Combine, Cotangents, Out, Primitive, RowRule, Units, Vjp, list};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::conv as kernel;
use crate::scalar::Scalar;
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, Operand};
use std::ops::Range;

/// How a convolution over `N` axes moves its window. Made by its padding, with stride 1,
/// dilation 1 and one group unless told otherwise.
///
/// ```
/// use gradtape::Conv;
/// let halved = Conv::same().with_stride([2, 2]);
/// assert_eq!(halved, Conv { stride: [2, 2], ..Conv::same() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv<const N: usize> {
    /// Positions from a window to the next.
    pub stride: [usize; N],
    /// What lies around the image.
    pub padding: Padding<N>,
    /// Positions from a tap of the window to the next.
    pub dilation: [usize; N],
    /// Channels fall into so many groups of neighbors, each with its own weights.
    pub groups: usize,
}

impl<const N: usize> Conv<N> {
    /// With this padding.
    pub fn padded(padding: Padding<N>) -> Self {
        Conv { stride: [1; N], padding, dilation: [1; N], groups: 1 }
    }

    /// Windows lie within the image.
    pub fn valid() -> Self {
        Conv::padded(Padding::Valid)
    }

    /// As many windows as positions; see [`Padding::Same`].
    pub fn same() -> Self {
        Conv::padded(Padding::Same)
    }

    /// With so many positions from a window to the next.
    pub fn with_stride(self, stride: [usize; N]) -> Self {
        Conv { stride, ..self }
    }

    /// With so many positions from a tap to the next.
    pub fn with_dilation(self, dilation: [usize; N]) -> Self {
        Conv { dilation, ..self }
    }

    /// With so many groups of channels; as many as channels is a depthwise convolution.
    pub fn with_groups(self, groups: usize) -> Self {
        Conv { groups, ..self }
    }
}

impl Conv<1> {
    fn on_rows(self) -> Conv<2> {
        Conv {
            stride: [self.stride[0], 1],
            padding: self.padding.on_rows(),
            dilation: [self.dilation[0], 1],
            groups: self.groups,
        }
    }
}

impl Conv<2> {
    fn moves(&self, w: &[usize; 4]) -> [Moves; 2] {
        Moves::both([w[0], w[1]], self.stride, self.dilation, self.padding)
    }

    /// The extents of the weights and their channels, (inputs, outputs), in all groups.
    fn weights(&self, w: &Shape) -> Result<([usize; 4], (usize, usize))> {
        let Ok(extents) = <[usize; 4]>::try_from(w.extents()) else {
            bail!(Shape, "expected weights of [rows, columns, channels, channels]")
        };
        let [_, _, inputs, outputs] = extents;
        if inputs == 0 || outputs == 0 {
            bail!(Shape, "expected weights for at least one channel");
        }
        let groups = self.groups;
        if groups == 0 || (outputs != ANY && !outputs.is_multiple_of(groups)) {
            bail!(Shape, "expected output channels in {groups} equal groups, got {outputs}");
        }
        let inputs = if inputs == ANY { Some(ANY) } else { inputs.checked_mul(groups) };
        Ok((extents, (inputs.unwrap_or(ANY), outputs)))
    }

    /// The shape of the value.
    fn value(&self, x: &Shape, w: &Shape) -> Result<Shape> {
        let (w, (inputs, outputs)) = self.weights(w)?;
        let &[batch, rows, columns, channels] = x.extents() else {
            bail!(Shape, "expected an image of [batch, rows, columns, channels]")
        };
        if !fits(channels, inputs) {
            bail!(Shape, "expected {inputs} channels, got {channels}");
        }
        let moves = self.moves(&w);
        Ok([batch, moves[0].outputs(rows)?, moves[1].outputs(columns)?, outputs].into())
    }

    /// What the kernels want to know, of known shapes.
    fn geometry(&self, x: &Shape, w: &Shape) -> Result<kernel::Conv> {
        let (w, (inputs, outputs)) = self.weights(w)?;
        let &[batch, rows, columns, _] = x.extents() else {
            bail!(Shape, "expected an image of [batch, rows, columns, channels]")
        };
        let moves = self.moves(&w);
        let (rows, columns) = (moves[0].axis(rows)?, moves[1].axis(columns)?);
        Ok(kernel::Conv { batch, rows, columns, inputs, outputs, groups: self.groups })
    }

    /// Zero where there is no geometry, which the shape rule has refused.
    fn ask(&self, x: &Shape, w: &Shape, f: impl Fn(&kernel::Conv) -> usize) -> usize {
        self.geometry(x, w).map_or(0, |conv| f(&conv))
    }
}

/// `(x, w)`: the convolution, `(batch, rows, columns, c) (p, q, c / groups, o) -> (batch, rows',
/// columns', o)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d(pub Conv<2>);

/// `(y, w)` or `(y, w, like)`: the adjoint of the convolution with weights w in its input, which
/// has the shape of `like`, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvTranspose2d {
    /// The convolution this is the adjoint of.
    pub conv: Conv<2>,
    /// Without `like`: rows and columns after the last that a window reaches.
    pub extra: [usize; 2],
}

/// `(x, y, like)`: the adjoint of the convolution of x in its weights, which have the shape of
/// `like`, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvWeights(pub Conv<2>);

/// Of an adjoint's inputs: whether `y` has the shape that the convolution gives.
fn expect_value(all: &[Shape], y: &Shape, value: Shape) -> Result<()> {
    if value.accepts_or_any(y) {
        return Ok(());
    }
    bail!(Shape, "{}: expected values of shape {value}, got {y}", list(all))
}

impl<T: Scalar> Primitive<T> for Conv2d {
    fn name(&self) -> &str {
        "conv2d"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let [image, w] = x else { bail!(Shape, "expected two inputs, got {}", x.len()) };
        self.0.value(image, w).map_err(|e| e.within(list(x)))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = Primitive::<T>::units(self, &[x[0].shape(), x[1].shape()]);
        self.forward_units(x, y, scratch, 0..units.count())
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.0.ask(&x[0], &x[1], kernel::Conv::scratch)
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(self.0.ask(&x[0], &x[1], kernel::Conv::units))
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let conv = self.0.geometry(&x[0].shape(), &x[1].shape())?;
        conv.forward(x[0].float(), x[1].float(), y.float(), units, scratch);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.0.ask(&x[0], &x[1], kernel::Conv::flops)
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let transpose = ConvTranspose2d { conv: self.0, extra: [0, 0] };
        let dx = || ct.tape().apply(transpose, &[ct, x[1], x[0]]);
        let dw = || ct.tape().apply(ConvWeights(self.0), &[x[0], ct, x[1]]);
        Ok(vec![want[0].then(dx), want[1].then(dw)])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split == [true, false] { RowRule::Split } else { RowRule::Mixes }
    }
}

impl ConvTranspose2d {
    /// The shape of the value.
    fn image(&self, x: &[Shape]) -> Result<Shape> {
        let (w, (inputs, outputs)) = self.conv.weights(&x[1])?;
        let &[batch, rows, columns, channels] = x[0].extents() else {
            bail!(Shape, "expected values of [batch, rows, columns, channels]")
        };
        if !fits(channels, outputs) {
            bail!(Shape, "expected {outputs} channels, got {channels}");
        }
        let moves = self.conv.moves(&w);
        let rows = moves[0].inputs(rows, self.extra[0])?;
        Ok([batch, rows, moves[1].inputs(columns, self.extra[1])?, inputs].into())
    }

    fn geometry(&self, x: &[Shape]) -> Result<kernel::Conv> {
        match x {
            [_, w, like] => self.conv.geometry(like, w),
            _ => self.conv.geometry(&self.image(x)?, &x[1]),
        }
    }
}

impl<T: Scalar> Primitive<T> for ConvTranspose2d {
    fn name(&self) -> &str {
        "conv_transpose2d"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match x {
            [_, _] => self.image(x).map_err(|e| e.within(list(x))),
            [y, w, like] => {
                let value = self.conv.value(like, w).map_err(|e| e.within(list(x)))?;
                expect_value(x, y, value).map(|()| *like)
            }
            _ => bail!(Shape, "expected two or three inputs, got {}", x.len()),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let like = self.conv.geometry(&y.shape(), &x[1].shape())?;
        let units = like.units_of_input();
        self.forward_units(x, y, scratch, 0..units)
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.geometry(x).map_or(0, |conv| conv.scratch_of_input())
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(self.geometry(x).map_or(0, |conv| conv.units_of_input()))
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let conv = self.conv.geometry(&y.shape(), &x[1].shape())?;
        conv.input(x[0].float(), x[1].float(), y.float(), units, scratch);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.geometry(x).map_or(0, |conv| conv.flops())
    }

    fn reads(&self, i: usize) -> bool {
        i < 2
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let dy = || ct.tape().apply(Conv2d(self.conv), &[ct, x[1]]);
        let dw = || ct.tape().apply(ConvWeights(self.conv), &[ct, x[0], x[1]]);
        let own = [want[0].then(dy), want[1].then(dw)];
        Ok(own.into_iter().chain(x[2..].iter().map(|_| None)).collect())
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [true, false] | [true, false, true] => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Primitive<T> for ConvWeights {
    fn name(&self) -> &str {
        "conv2d_weights"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let [image, y, like] = x else { bail!(Shape, "expected three inputs, got {}", x.len()) };
        let value = self.0.value(image, like).map_err(|e| e.within(list(x)))?;
        expect_value(x, y, value).map(|()| *like)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = y.shape().extents()[3];
        self.forward_units(x, y, scratch, 0..units)
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.0.ask(&x[0], &x[2], kernel::Conv::scratch_of_weights::<T>)
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(self.0.ask(&x[0], &x[2], |conv| conv.outputs))
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let conv = self.0.geometry(&x[0].shape(), &y.shape())?;
        conv.weights(x[0].float(), x[1].float(), y.float(), units, scratch);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.0.ask(&x[0], &x[2], kernel::Conv::flops)
    }

    fn reads(&self, i: usize) -> bool {
        i < 2
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let transpose = ConvTranspose2d { conv: self.0, extra: [0, 0] };
        let dx = || ct.tape().apply(transpose, &[x[1], ct, x[0]]);
        let dy = || ct.tape().apply(Conv2d(self.0), &[x[0], ct]);
        Ok(vec![want[0].then(dx), want[1].then(dy), None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split == [true, true, false] { RowRule::Partial(Combine::Sum) } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The convolution of images with weights, in the field's sense: the window is not flipped.
    /// y\[n, i, j, o\] = Σ x\[n, i·stride + p·dilation − before, …, c\] w\[p, q, c, o\] over the
    /// taps p, q and the channels c of o's group; x is zero outside.
    ///
    /// ```text
    /// (batch, rows, columns, c) (p, q, c / groups, o) -> (batch, rows', columns', o)
    /// rows' = ⌊(rows + padding − (p − 1)·dilation − 1) / stride⌋ + 1
    /// ```
    ///
    /// The order of axes is TensorFlow's (NHWC, HWIO). A classifier after it folds with
    /// [`Expr::flatten`]. Cost: 2·p·q·c / groups flops for each element of the value; windows of
    /// 3 × 3 with stride and dilation 1, at least 16 samples and 32 channels on either side (or 16
    /// and 64) multiply 2.25 times less often, as does their gradient in x, by Winograd's transforms
    /// (Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, F(2 × 2, 3 × 3)).
    ///
    /// On dense data that is as accurate: the worst error measured was 0.75 ε Σ|terms| either way.
    /// But an error is of the size of the terms of four neighbors: among zeros 2.4 ε Σ|terms| was
    /// seen, and a value whose own terms are all 0 need not be. What is not finite in x still
    /// reaches the windows that see it and no others, but ∞ may become NaN; in the weights it may
    /// also reach windows that have its tap in the border.
    ///
    /// ```
    /// use gradtape::{ANY, Conv, Tape, Tensor};
    /// let tape = Tape::<f32>::new();
    /// let image = tape.placeholder("image", [ANY, 28, 28, 1]);
    /// let w = tape.variable("w", Tensor::zeros([5, 5, 1, 6])?);
    /// assert_eq!(image.conv2d(w, Conv::same()).shape(), [ANY, 28, 28, 6].into());
    /// let halved = Conv::valid().with_stride([2, 2]);
    /// assert_eq!(image.conv2d(w, halved).shape(), [ANY, 12, 12, 6].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn conv2d(self, w: impl Operand<'t, T>, conv: Conv<2>) -> Expr<'t, T> {
        self.tape.apply(Conv2d(conv), &[self, w.on(self.tape)])
    }

    /// [`Expr::conv2d`] of sequences, over one axis:
    /// `(batch, length, c) (p, c / groups, o) -> (batch, length', o)`.
    ///
    /// ```
    /// use gradtape::{ANY, Conv, Padding, Tape, Tensor};
    /// let tape = Tape::<f32>::new();
    /// let x = tape.placeholder("x", [ANY, 100, 8]);
    /// let w = tape.variable("w", Tensor::zeros([3, 8, 16])?);
    /// let causal = Conv::padded(Padding::Explicit([(4, 0)])).with_dilation([2]);
    /// assert_eq!(x.conv1d(w, causal).shape(), [ANY, 100, 16].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn conv1d(self, w: impl Operand<'t, T>, conv: Conv<1>) -> Expr<'t, T> {
        let w = w.on(self.tape);
        match self.sequences("conv1d", w) {
            Ok((x, w)) => x.conv2d(w, conv.on_rows()).squeeze(&[2]),
            Err(mistake) => mistake,
        }
    }

    /// The transposed convolution: the adjoint of [`Expr::conv2d`] with these weights in its
    /// input, so `conv` and `w` are those of the convolution that leads back.
    ///
    /// ```text
    /// (batch, rows', columns', o) (p, q, c / groups, o) -> (batch, rows, columns, c)
    /// rows = (rows' − 1)·stride + (p − 1)·dilation + 1 − padding + extra
    /// ```
    ///
    /// With [`Padding::Same`], rows = rows'·stride. `extra` rows and columns, below the stride,
    /// are added at the end (PyTorch's `output_padding`). Cost: 2·p·q·c / groups flops for each
    /// element of this.
    ///
    /// ```
    /// use gradtape::{ANY, Conv, Tape, Tensor};
    /// let tape = Tape::<f32>::new();
    /// let code = tape.placeholder("code", [ANY, 7, 7, 16]);
    /// let w = tape.variable("w", Tensor::zeros([3, 3, 8, 16])?);
    /// let doubled = code.conv_transpose2d(w, Conv::same().with_stride([2, 2]), [0, 0]);
    /// assert_eq!(doubled.shape(), [ANY, 14, 14, 8].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn conv_transpose2d(
        self,
        w: impl Operand<'t, T>,
        conv: Conv<2>,
        extra: [usize; 2],
    ) -> Expr<'t, T> {
        self.tape.apply(ConvTranspose2d { conv, extra }, &[self, w.on(self.tape)])
    }

    /// [`Expr::conv_transpose2d`] of sequences:
    /// `(batch, length', o) (p, c / groups, o) -> (batch, length, c)`.
    #[track_caller]
    pub fn conv_transpose1d(
        self,
        w: impl Operand<'t, T>,
        conv: Conv<1>,
        extra: usize,
    ) -> Expr<'t, T> {
        let w = w.on(self.tape);
        match self.sequences("conv_transpose1d", w) {
            Ok((x, w)) => x.conv_transpose2d(w, conv.on_rows(), [extra, 0]).squeeze(&[2]),
            Err(mistake) => mistake,
        }
    }

    /// Sequences as images of one column, and weights for them; or the mistake that they are not.
    #[track_caller]
    fn sequences(self, method: &str, w: Expr<'t, T>) -> Result<(Self, Self), Self> {
        if self.rank() == 3 && w.rank() == 3 {
            return Ok((self.expand_dims(&[2]), w.expand_dims(&[1])));
        }
        let text = format!(
            "expected [batch, length, channels] and weights of [length, channels, channels], got \
             {} beside it",
            w.shape()
        );
        Err(self.refuse(method, Error::new(ErrorKind::Shape, text)))
    }
}
