//! Parts of a tensor along its axes, backwards too, and the adjoint that puts a part back.

use super::strided::{self, Layout};
use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Axes, Shape};
use crate::tape::{Expr, IndexExpr};
use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

/// The positions of one axis that a slice keeps: `start..stop` by `step`, as in Python, where
/// negative numbers count from the end. Unlike Python's, it must lie within the axis.
///
/// ```
/// use gradtape::{Span, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.constant(Tensor::zeros([7])?);
/// assert_eq!(x.slice([Span::from(..-2)]).shape(), [5].into());
/// assert_eq!(x.slice([Span::new(1, -1).by(2)]).shape(), [3].into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    start: Option<isize>,
    stop: Option<isize>,
    step: isize,
}

impl Span {
    /// The whole axis.
    pub const ALL: Span = Span { start: None, stop: None, step: 1 };

    /// From `start` to before `stop`. For a stop that counts from the end this is better than a
    /// range: the compiler's lints take `1..-1` for an empty loop.
    pub fn new(start: isize, stop: isize) -> Span {
        Span { start: Some(start), stop: Some(stop), step: 1 }
    }

    /// Every `step`-th position. A negative step goes backwards: then `start` is the last position
    /// kept first, and without one the end of the axis.
    pub fn by(self, step: isize) -> Span {
        Span { step, ..self }
    }

    /// All but some positions before and after.
    pub(super) fn inside(before: usize, after: usize) -> Span {
        let stop = (after > 0).then(|| -position(after));
        Span { start: Some(position(before)), stop, step: 1 }
    }

    fn is_all(self) -> bool {
        matches!(self, Span { start: None | Some(0), stop: None, step: 1 })
    }

    /// The first position and one step past the last, each as (counted from the end?, number).
    fn ends(self) -> [(bool, isize); 2] {
        let defaults =
            if self.step > 0 { [(false, 0), (true, 0)] } else { [(true, -1), (false, -1)] };
        let end = |given: Option<isize>, default| given.map_or(default, |at| (at < 0, at));
        [end(self.start, defaults[0]), end(self.stop, defaults[1])]
    }

    /// The number of positions kept of an axis of this extent; [`ANY`] where it is not known yet.
    fn len(self, extent: usize) -> Result<usize> {
        if self.step == 0 {
            bail!(Argument, "expected a step other than 0");
        }
        let [start, stop] = self.ends();
        if extent != ANY {
            return self.positions(extent).map(|(_, len)| len);
        }
        if start.0 != stop.0 {
            return Ok(ANY);
        }
        match self.count(start.1, stop.1) {
            Some(len) => Ok(len),
            None => bail!(Argument, "expected {self} to run towards its stop"),
        }
    }

    /// The first position and the number of positions kept of an axis of a known extent.
    fn positions(self, extent: usize) -> Result<(usize, usize)> {
        let n = extent as isize;
        let [start, stop] = self.ends().map(|(from_end, at)| if from_end { at + n } else { at });
        let len = self.count(start, stop);
        let past = |at: isize| at.saturating_add(1);
        let (low, high) = if self.step > 0 { (start, stop) } else { (past(stop), past(start)) };
        match len {
            Some(0) if (0..=n).contains(&low) => Ok((0, 0)),
            Some(len) if low >= 0 && high <= n => Ok((start as usize, len)),
            _ => bail!(Argument, "expected {self} within an axis of extent {extent}"),
        }
    }

    /// The number of steps from `start` before `stop`, `None` if they lead away from it.
    fn count(self, start: isize, stop: isize) -> Option<usize> {
        let way = stop.saturating_sub(start).checked_mul(self.step.signum())?;
        usize::try_from(way).ok().map(|way| way.div_ceil(self.step.unsigned_abs()))
    }
}

impl std::fmt::Display for Span {
    /// As Python writes it: `1:-1:2`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.start.map_or(Ok(()), |at| write!(f, "{at}"))?;
        f.write_str(":")?;
        self.stop.map_or(Ok(()), |at| write!(f, "{at}"))?;
        if self.step == 1 { Ok(()) } else { write!(f, ":{}", self.step) }
    }
}

impl From<RangeFull> for Span {
    fn from(_: RangeFull) -> Span {
        Span::ALL
    }
}

// A literal range is one of `i32`, so that type must be among them.
macro_rules! spans {
    ($($t:ty),*) => {$(
        impl From<Range<$t>> for Span {
            fn from(r: Range<$t>) -> Span {
                Span { start: Some(position(r.start)), stop: Some(position(r.end)), step: 1 }
            }
        }
        impl From<RangeFrom<$t>> for Span {
            fn from(r: RangeFrom<$t>) -> Span {
                Span { start: Some(position(r.start)), ..Span::ALL }
            }
        }
        impl From<RangeTo<$t>> for Span {
            fn from(r: RangeTo<$t>) -> Span {
                Span { stop: Some(position(r.end)), ..Span::ALL }
            }
        }
    )*};
}
spans! { i32, isize, usize }

/// A number too large for an axis stays too large, and is refused with the extent.
fn position(at: impl TryInto<isize>) -> isize {
    at.try_into().unwrap_or(isize::MAX)
}

/// One [`Span`] for each of the first axes: a tuple of ranges, an array or a slice of spans.
pub trait Spans {
    /// The spans, axis 0 first; the axes after them are kept whole.
    fn spans(&self) -> Vec<Span>;
}

impl Spans for &[Span] {
    fn spans(&self) -> Vec<Span> {
        self.to_vec()
    }
}

impl<S: Into<Span> + Clone, const N: usize> Spans for [S; N] {
    fn spans(&self) -> Vec<Span> {
        self.iter().cloned().map(Into::into).collect()
    }
}

macro_rules! tuples {
    ($($s:ident $at:tt),+) => {
        impl<$($s: Into<Span> + Clone),+> Spans for ($($s,)+) {
            fn spans(&self) -> Vec<Span> {
                vec![$(self.$at.clone().into()),+]
            }
        }
    };
}
tuples! { A 0 }
tuples! { A 0, B 1 }
tuples! { A 0, B 1, C 2 }
tuples! { A 0, B 1, C 2, D 3 }
tuples! { A 0, B 1, C 2, D 3, E 4 }

/// The part of x that the spans keep, one span for each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// One for each axis.
    pub spans: Box<[Span]>,
}

/// `(part, like)`: zeros of the shape of `like`, whose elements are not read, with the part where
/// [`Slice`] takes it from. The adjoint of [`Slice`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unslice {
    /// One for each axis.
    pub spans: Box<[Span]>,
}

fn sliced(spans: &[Span], x: &Shape) -> Result<Shape> {
    if x.rank() != spans.len() {
        bail!(Shape, "{x}: expected {} axes", spans.len());
    }
    let mut out = Shape::SCALAR;
    for (span, &extent) in spans.iter().zip(x.extents()) {
        out.push(span.len(extent).map_err(|e| e.within(x))?);
    }
    Ok(out)
}

fn layout(spans: &[Span], x: &Shape) -> Result<Layout> {
    let mut layout = Layout::dense(x);
    for ((span, &extent), stride) in spans.iter().zip(x.extents()).zip(&mut layout.strides) {
        layout.offset += span.positions(extent)?.0 * *stride as usize;
        // One position has no stride, so a step that overflows is never walked.
        *stride = stride.wrapping_mul(span.step);
    }
    Ok(layout)
}

/// Where the part that the spans keep lies in a tensor of this shape, if it is in one piece.
pub(crate) fn piece(spans: &[Span], x: &Shape) -> Option<Range<usize>> {
    let (part, Layout { offset, strides }) = (sliced(spans, x).ok()?, layout(spans, x).ok()?);
    let own = part.strides();
    let follows = |axis: usize| part.extents()[axis] == 1 || strides[axis] == own[axis] as isize;
    let whole = !part.is_empty() && (0..part.rank()).all(follows);
    whole.then(|| offset..offset + part.len())
}

impl<T: Scalar> Primitive<T> for Slice {
    fn name(&self) -> &str {
        "slice"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        sliced(&self.spans, &x[0])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        strided::gather(&layout(&self.spans, &x[0].shape())?, &x[0], y);
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
        Ok(vec![Some(ct.tape().apply(Unslice { spans: self.spans.clone() }, &[ct, x[0]]))])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.spans[0].is_all() { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<T: Scalar> Primitive<T> for Unslice {
    fn name(&self) -> &str {
        "unslice"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let part = sliced(&self.spans, &x[1])?;
        if !part.accepts_or_any(&x[0]) {
            bail!(Shape, "{}, {}: expected a part of shape {part}", x[0], x[1]);
        }
        Ok(x[1])
    }

    fn forward(&self, x: &[Arg<'_, T>], mut y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let to = layout(&self.spans, &y.shape())?;
        strided::fill(&mut y, 0.0);
        strided::scatter(&to, &x[0], &mut y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(Slice { spans: self.spans.clone() }, &[ct])), None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [true, true] if self.spans[0].is_all() => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// A part of this: one range for each of the first axes, the others whole. Negative numbers
    /// count from the end. A range that leaves its axis is an error, not cut as Python's are.
    /// Cost: one copy of the part.
    ///
    /// ```
    /// use gradtape::{ANY, Span, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 6, 4]);
    /// assert_eq!(x.slice((.., Span::new(1, -1))).shape(), [ANY, 4, 4].into());
    /// assert_eq!(x.slice((..10, .., Span::ALL.by(-2))).shape(), [10, 6, 2].into());
    /// assert_eq!(x.slice((1..,)).shape(), [ANY, 6, 4].into());
    /// ```
    #[track_caller]
    pub fn slice(self, spans: impl Spans) -> Expr<'t, T> {
        let (mut spans, rank) = (spans.spans(), self.rank());
        if spans.len() > rank {
            let text = format!("expected at most {rank} ranges, got {}", spans.len());
            return self.refuse("slice", Error::new(ErrorKind::Argument, text));
        }
        spans.resize(rank, Span::ALL);
        match spans.iter().all(|s| s.is_all()) {
            true => self,
            false => self.tape.apply(Slice { spans: spans.into() }, &[self]),
        }
    }

    /// A part of one axis, the others whole; see [`Expr::slice`].
    #[track_caller]
    pub fn slice_axis(self, axis: isize, span: impl Into<Span>) -> Expr<'t, T> {
        match self.shape().axis(axis) {
            Ok(axis) => {
                let mut spans = vec![Span::ALL; axis + 1];
                spans[axis] = span.into();
                self.slice(&spans[..])
            }
            Err(e) => self.refuse("slice_axis", e),
        }
    }

    /// Position `at` of an axis, which is taken out: `(batch, time, features)` at a time is
    /// `(batch, features)`. Negative numbers count from the end.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 6, 4]);
    /// assert_eq!(x.index_axis(1, -1).shape(), [ANY, 4].into());
    /// ```
    #[track_caller]
    pub fn index_axis(self, axis: isize, at: isize) -> Expr<'t, T> {
        let stop = if at == -1 { None } else { Some(at.saturating_add(1)) };
        self.slice_axis(axis, Span { start: Some(at), stop, step: 1 }).squeeze(&[axis])
    }

    /// Backwards along these axes.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::vector(vec![1.0, 2.0, 3.0]));
    /// let y = x.flip(&[0]);
    /// let y = Session::new(&tape)?.run(y, &[])?;
    /// assert_eq!(y.as_slice(), [3.0, 2.0, 1.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn flip(self, axes: &[isize]) -> Expr<'t, T> {
        match Axes::of(&self.shape(), axes) {
            Ok(axes) => {
                let mut spans = vec![Span::ALL; self.rank()];
                axes.iter().for_each(|a| spans[a] = Span::ALL.by(-1));
                self.slice(&spans[..])
            }
            Err(e) => self.refuse("flip", e),
        }
    }

    /// Parts of these sizes along an axis, one after the other. One size may be
    /// [`ANY`]: what the others leave. It must be, where the extent is not known.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 6]);
    /// let parts = x.split(1, &[2, ANY, 1]);
    /// assert_eq!(parts[1].shape(), [ANY, 3].into());
    /// ```
    #[track_caller]
    pub fn split(self, axis: isize, sizes: &[usize]) -> Vec<Expr<'t, T>> {
        let spans = self.shape().axis(axis).and_then(|at| parts(self.shape().extents()[at], sizes));
        match spans {
            Ok(spans) => {
                // A closure would take the place of the user's line.
                let mut parts = Vec::with_capacity(spans.len());
                for span in spans {
                    parts.push(self.slice_axis(axis, span));
                }
                parts
            }
            Err(e) => vec![self.refuse("split", e); sizes.len()],
        }
    }
}

/// The spans of parts of these sizes: those before [`ANY`] count from the start, others from the
/// end, so that the extent need not be known.
fn parts(extent: usize, sizes: &[usize]) -> Result<Vec<Span>> {
    let open = sizes.iter().position(|&s| s == ANY);
    let given: Vec<usize> = sizes.iter().copied().filter(|&s| s != ANY).collect();
    let total = given.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
    let fits = match total {
        Some(total) if open.is_some() => given.len() + 1 == sizes.len() && total <= extent,
        Some(total) => extent != ANY && total == extent,
        None => false,
    };
    if !fits {
        let sizes = sizes.iter().map(|&s| if s == ANY { "?".into() } else { s.to_string() });
        let sizes: Vec<String> = sizes.collect();
        match extent {
            ANY => bail!(Argument, "expected one size `ANY`, got {}", sizes.join(" + ")),
            n => bail!(Argument, "expected sizes that add up to {n}, got {}", sizes.join(" + ")),
        }
    }
    let mut at = 0;
    let mut spans = Vec::with_capacity(sizes.len());
    for (i, &size) in sizes.iter().enumerate() {
        let start = at;
        at = match size {
            ANY => -(sizes[i + 1..].iter().sum::<usize>() as isize),
            size => at + size as isize,
        };
        let from_end = open.is_some_and(|open| i >= open);
        spans.push(match (from_end, size) {
            // Minus 0 would be the start: the end is written as no stop, and nothing anywhere.
            (true, 0) => Span::from(0..0),
            (true, _) if at == 0 => Span { start: Some(start), ..Span::ALL },
            _ => Span { start: Some(start), stop: Some(at), step: 1 },
        });
    }
    Ok(spans)
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// A part of this; see [`Expr::slice`].
    #[track_caller]
    pub fn slice(self, spans: impl Spans) -> Self {
        IndexExpr(self.0.slice(spans))
    }

    /// A part of one axis; see [`Expr::slice_axis`].
    #[track_caller]
    pub fn slice_axis(self, axis: isize, span: impl Into<Span>) -> Self {
        IndexExpr(self.0.slice_axis(axis, span))
    }

    /// One position of an axis, which is taken out; see [`Expr::index_axis`].
    #[track_caller]
    pub fn index_axis(self, axis: isize, at: isize) -> Self {
        IndexExpr(self.0.index_axis(axis, at))
    }

    /// Backwards along these axes; see [`Expr::flip`].
    #[track_caller]
    pub fn flip(self, axes: &[isize]) -> Self {
        IndexExpr(self.0.flip(axes))
    }
}
