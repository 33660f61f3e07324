//! Shapes: extents of up to eight axes, some of them not known yet; broadcasting; sets of axes.
//! Knows nothing of values.

use crate::error::{Result, bail};
use std::fmt;

/// The largest number of axes a tensor may have.
pub const MAX_RANK: usize = 8;

/// The extent of an axis that is not known while recording, a placeholder's batch for instance.
/// It prints as `?`.
pub const ANY: usize = usize::MAX;

/// The extents of a tensor's axes, axis 0 (the batch) first. `Copy`, at most [`MAX_RANK`] axes.
///
/// ```
/// use gradtape::{ANY, Shape};
/// let image: Shape = [ANY, 28, 28].into();
/// assert_eq!((image.rank(), image.to_string()), (3, "[?, 28, 28]".to_string()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    rank: u8,
    extents: [usize; MAX_RANK],
}

impl Shape {
    /// The shape of a single number: no axes.
    pub const SCALAR: Shape = Shape { rank: 0, extents: [0; MAX_RANK] };

    /// A shape of these extents.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] axes.
    pub fn new(extents: &[usize]) -> Result<Shape> {
        if extents.len() > MAX_RANK {
            bail!(Shape, "shape: expected at most {MAX_RANK} axes, got {}", extents.len());
        }
        let mut shape = Shape::SCALAR;
        extents.iter().for_each(|&e| shape.push(e));
        Ok(shape)
    }

    /// Appends an axis. The caller has checked the rank.
    pub(crate) fn push(&mut self, extent: usize) {
        self.extents[self.rank as usize] = extent;
        self.rank += 1;
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The extents, axis 0 first.
    pub fn extents(&self) -> &[usize] {
        &self.extents[..self.rank as usize]
    }

    pub(crate) fn extents_mut(&mut self) -> &mut [usize] {
        &mut self.extents[..self.rank as usize]
    }

    /// The extent of one axis, or `None` past the last.
    pub fn dim(&self, axis: usize) -> Option<usize> {
        self.extents().get(axis).copied()
    }

    /// Whether every extent is a number.
    pub fn is_known(&self) -> bool {
        !self.extents().contains(&ANY)
    }

    /// The number of elements, `None` if it overflows or an extent is unknown.
    pub fn checked_len(&self) -> Option<usize> {
        if !self.is_known() {
            return None;
        }
        // As in NumPy, the others must fit also where an extent of 0 makes the tensor empty: so
        // that products of some extents never overflow.
        let n = self.extents().iter().try_fold(1usize, |n, &e| n.checked_mul(e.max(1)))?;
        (n <= isize::MAX as usize / 8).then_some(if self.is_empty() { 0 } else { n })
    }

    /// The number of elements of a shape whose [`Shape::checked_len`] has been checked.
    pub fn len(&self) -> usize {
        debug_assert!(self.checked_len().is_some(), "length of {self}");
        self.checked_len().unwrap_or(0)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.extents().contains(&0)
    }

    /// Whether `other` may be the shape that is fed where `self` was declared.
    pub fn accepts(&self, other: &Shape) -> bool {
        self.rank == other.rank
            && self.extents().iter().zip(other.extents()).all(|(&a, &b)| a == b || a == ANY)
    }

    /// As [`Shape::accepts`], where an unknown extent of either side fits.
    pub(crate) fn accepts_or_any(&self, other: &Shape) -> bool {
        let fits = |(&a, &b): (&usize, &usize)| a == b || a == ANY || b == ANY;
        self.rank() == other.rank() && self.extents().iter().zip(other.extents()).all(fits)
    }

    /// Whether both are equal, extent by extent, for shapes that were just written: `==` reads
    /// several extents at once and has to wait until they are in the cache.
    #[inline]
    pub(crate) fn same(&self, other: &Shape) -> bool {
        self.rank == other.rank && self.extents().iter().eq(other.extents())
    }

    /// Whether both are surely the same shape when run (unknown extents are never sure).
    pub fn surely_eq(&self, other: &Shape) -> bool {
        self == other && self.is_known()
    }

    /// Column-major strides, in elements: axis 0 is contiguous.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1usize;
        for (stride, &extent) in strides.iter_mut().zip(self.extents()) {
            *stride = step;
            // Wraps only for a tensor without elements, whose strides nobody uses.
            step = step.wrapping_mul(extent);
        }
        strides
    }

    /// The shape both broadcast to, trailing axes aligned, as in NumPy; `None` if they do not fit.
    /// An unknown extent fits everything: it is looked at again when shapes are fed.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut out = Shape { rank: rank as u8, ..Shape::SCALAR };
        for back in 0..rank {
            let extent =
                |s: &Shape| if back < s.rank() { s.extents[s.rank() - 1 - back] } else { 1 };
            out.extents[rank - 1 - back] = match (extent(self), extent(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                (ANY, b) => b,
                (a, ANY) => a,
                _ => return None,
            };
        }
        Some(out)
    }

    /// The axis an `isize` names; negative ones count from the end, as in NumPy.
    ///
    /// # Errors
    /// No such axis.
    pub fn axis(&self, axis: isize) -> Result<usize> {
        let rank = self.rank() as isize;
        let at = if axis < 0 { axis + rank } else { axis };
        if at < 0 || at >= rank {
            bail!(Argument, "expected an axis of {self}, which has {rank}, got axis {axis}");
        }
        Ok(at as usize)
    }

    /// The shape without `axes`, or with extent 1 in their place.
    pub fn reduced(&self, axes: Axes, keep: bool) -> Shape {
        let mut out = Shape::SCALAR;
        for (axis, &extent) in self.extents().iter().enumerate() {
            match (axes.contains(axis), keep) {
                (false, _) => out.push(extent),
                (true, true) => out.push(1),
                (true, false) => {}
            }
        }
        out
    }

    /// The shape with `extent` on `axis`.
    pub(crate) fn with(mut self, axis: usize, extent: usize) -> Shape {
        self.extents[axis] = extent;
        self
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, &e) in self.extents().iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match e {
                ANY => write!(f, "{comma}?")?,
                e => write!(f, "{comma}{e}")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// More than [`MAX_RANK`] extents do not compile.
    fn from(extents: [usize; N]) -> Shape {
        const { assert!(N <= MAX_RANK, "a shape has at most 8 axes") };
        let mut shape = Shape::SCALAR;
        extents.iter().for_each(|&e| shape.push(e));
        shape
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Shape {
        Shape::SCALAR
    }
}

impl From<usize> for Shape {
    fn from(extent: usize) -> Shape {
        [extent].into()
    }
}

/// A set of axes, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Axes(u8);

impl Axes {
    /// Every axis of a shape of this rank.
    pub fn all(rank: usize) -> Axes {
        Axes(((1u16 << rank) - 1) as u8)
    }

    /// This axis alone.
    pub fn one(axis: usize) -> Axes {
        Axes(1 << axis)
    }

    /// The axes that `axes` name in `shape`.
    ///
    /// # Errors
    /// An axis that is not there, or one named twice.
    pub fn of(shape: &Shape, axes: &[isize]) -> Result<Axes> {
        let mut set = Axes(0);
        for &axis in axes {
            let one = Axes::one(shape.axis(axis)?);
            if set.0 & one.0 != 0 {
                bail!(Argument, "axis {axis} is named twice");
            }
            set.0 |= one.0;
        }
        Ok(set)
    }

    /// Whether `axis` is in the set.
    pub fn contains(self, axis: usize) -> bool {
        axis < MAX_RANK && self.0 >> axis & 1 == 1
    }

    /// The axes in increasing order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_RANK).filter(move |&a| self.contains(a))
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<usize> for Axes {
    /// Each below [`MAX_RANK`].
    fn from_iter<I: IntoIterator<Item = usize>>(axes: I) -> Self {
        axes.into_iter().fold(Axes::default(), |set, axis| Axes(set.0 | Axes::one(axis).0))
    }
}

impl fmt::Debug for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        let s = |e: &[usize]| Shape::new(e).unwrap();
        for (a, b, want) in [
            (&[2, 3][..], &[3][..], Some(&[2, 3][..])),
            (&[2, 1], &[1, 4], Some(&[2, 4])),
            (&[], &[5], Some(&[5])),
            (&[ANY, 3], &[3], Some(&[ANY, 3])),
            (&[ANY], &[4], Some(&[4])),
            (&[0], &[1], Some(&[0])),
            (&[2, 3], &[2], None),
            (&[0], &[2], None),
        ] {
            assert_eq!(s(a).broadcast(&s(b)), want.map(s), "{a:?} {b:?}");
            assert_eq!(s(b).broadcast(&s(a)), want.map(s), "{b:?} {a:?}");
        }
    }

    #[test]
    fn lengths_do_not_overflow() {
        assert_eq!(Shape::from([1 << 40, 1 << 40]).checked_len(), None);
        assert_eq!(Shape::from([1 << 40, 0, 1 << 40]).checked_len(), None);
        assert_eq!(Shape::from([1 << 40, 0, 1 << 10]).checked_len(), Some(0));
        assert_eq!(Shape::SCALAR.checked_len(), Some(1));
        assert!(Shape::new(&[1; 9]).is_err());
    }

    #[test]
    fn axes_count_from_both_ends() {
        let s = Shape::from([2, 3, 4]);
        assert_eq!(s.axis(-1).unwrap(), 2);
        assert!(s.axis(3).is_err() && s.axis(-4).is_err());
        assert!(Axes::of(&s, &[0, -3]).is_err());
        assert_eq!(s.reduced(Axes::of(&s, &[0, 2]).unwrap(), false), [3].into());
        assert_eq!(s.reduced(Axes::of(&s, &[0, 2]).unwrap(), true), [1, 3, 1].into());
    }
}
