//! Moves elements by index: take whole slabs of an axis, gather single elements along it, their
//! adjoints, one-hot rows. Every index is checked before anything is written.

use crate::error::{Result, bail};
use crate::scalar::{Element, Index, Scalar};
use crate::shape::Shape;
use std::ops::{AddAssign, Range};

/// A tensor seen along one axis: `[inner, extent, outer]`, the axes before and after it folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes {
    pub inner: usize,
    pub extent: usize,
    pub outer: usize,
}

impl Lanes {
    /// The lanes of a known shape along one of its axes.
    pub fn of(shape: &Shape, axis: usize) -> Lanes {
        let extents = shape.extents();
        Lanes {
            inner: extents[..axis].iter().product(),
            extent: extents[axis],
            outer: extents[axis + 1..].iter().product(),
        }
    }

    /// These positions of the axes after, and where in memory they are.
    pub fn part(self, outer: &Range<usize>) -> (Lanes, Range<usize>) {
        let each = self.inner * self.extent;
        (Lanes { outer: outer.len(), ..self }, each * outer.start..each * outer.end)
    }

    fn len(self) -> usize {
        self.inner * self.extent * self.outer
    }
}

/// `y[i, j, o] = x[i, indices[j], o]`: whole slabs of an axis, `n_indices` in place of its extent.
///
/// # Errors
/// An index outside the axis.
pub(crate) fn take<E: Element>(
    lanes: Lanes,
    x: &[E],
    indices: &[Index],
    y: &mut [E],
) -> Result<()> {
    slabs(lanes, x.len(), indices, y.len())?;
    let Lanes { inner, extent, .. } = lanes;
    if y.is_empty() {
        return Ok(());
    }
    for (y, x) in y.chunks_exact_mut(inner * indices.len()).zip(x.chunks_exact(inner * extent)) {
        if inner == 1 {
            y.iter_mut().zip(indices).for_each(|(y, &k)| *y = x[k as usize]);
        } else {
            for (y, &k) in y.chunks_exact_mut(inner).zip(indices) {
                y.copy_from_slice(&x[k as usize * inner..][..inner]);
            }
        }
    }
    Ok(())
}

/// `y[i, indices[j], o] += x[i, j, o]`, j increasing: the adjoint of [`take`].
///
/// # Errors
/// An index outside the axis.
pub(crate) fn take_add<E: Element + AddAssign>(
    lanes: Lanes,
    x: &[E],
    indices: &[Index],
    y: &mut [E],
) -> Result<()> {
    slabs(lanes, y.len(), indices, x.len())?;
    let Lanes { inner, extent, .. } = lanes;
    if x.is_empty() {
        return Ok(());
    }
    for (y, x) in y.chunks_exact_mut(inner * extent).zip(x.chunks_exact(inner * indices.len())) {
        if inner == 1 {
            x.iter().zip(indices).for_each(|(&x, &k)| y[k as usize] += x);
        } else {
            for (x, &k) in x.chunks_exact(inner).zip(indices) {
                let y = &mut y[k as usize * inner..][..inner];
                y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
            }
        }
    }
    Ok(())
}

/// `y[i, j, o] = x[i, indices[i, j, o], o]`: single elements along an axis (`take_along_axis`).
///
/// # Errors
/// An index outside the axis.
pub(crate) fn gather<E: Element>(
    lanes: Lanes,
    x: &[E],
    indices: &[Index],
    y: &mut [E],
) -> Result<()> {
    assert_eq!(indices.len(), y.len(), "gather: lengths");
    along(lanes, x.len(), indices, |at, from| y[at] = x[from])
}

/// `y[i, indices[i, j, o], o] += x[i, j, o]`, j increasing: the adjoint of [`gather`].
///
/// # Errors
/// An index outside the axis.
pub(crate) fn gather_add<E: Element + AddAssign>(
    lanes: Lanes,
    x: &[E],
    indices: &[Index],
    y: &mut [E],
) -> Result<()> {
    assert_eq!(indices.len(), x.len(), "gather_add: lengths");
    along(lanes, y.len(), indices, |at, to| y[to] += x[at])
}

/// `y[i, c] = 1` where `c = indices[i]`, else 0: one row of `n_classes` numbers for each index.
///
/// # Errors
/// An index that is no class.
pub(crate) fn one_hot<T: Scalar>(indices: &[Index], n_classes: usize, y: &mut [T]) -> Result<()> {
    assert_eq!(y.len(), indices.len() * n_classes, "one_hot: lengths");
    check(indices, n_classes)?;
    y.fill(T::zero());
    for (i, &class) in indices.iter().enumerate() {
        y[i + indices.len() * class as usize] = T::one();
    }
    Ok(())
}

/// Checks every index against the extent of the axis it points into.
pub(crate) fn check(indices: &[Index], extent: usize) -> Result<()> {
    // The maximum alone is a vector loop; the culprit is looked for only when there is one.
    let max = indices.iter().fold(0, |max, &k| max.max(k));
    if max as usize >= extent
        && let Some((at, k)) = indices.iter().enumerate().find(|&(_, &k)| k as usize >= extent)
    {
        bail!(Index, "expected an index below {extent}, got {k} at position {at}");
    }
    Ok(())
}

fn slabs(lanes: Lanes, n_whole: usize, indices: &[Index], n_taken: usize) -> Result<()> {
    assert_eq!(n_whole, lanes.len(), "take: {lanes:?}");
    assert_eq!(n_taken, lanes.inner * indices.len() * lanes.outer, "take: {lanes:?}");
    check(indices, lanes.extent)
}

/// Calls `visit(position of the index, position it points to)` in memory order of the indices.
#[inline(always)]
fn along(
    lanes: Lanes,
    n_whole: usize,
    indices: &[Index],
    mut visit: impl FnMut(usize, usize),
) -> Result<()> {
    let Lanes { inner, extent, outer } = lanes;
    assert_eq!(n_whole, lanes.len(), "gather: {lanes:?}");
    check(indices, extent)?;
    if indices.is_empty() {
        return Ok(());
    }
    assert_eq!(indices.len() % (inner * outer), 0, "gather: {lanes:?}");
    let per_outer = indices.len() / outer;
    for (o, indices) in indices.chunks_exact(per_outer).enumerate() {
        let (at, base) = (o * per_outer, o * inner * extent);
        if inner == 1 {
            indices.iter().enumerate().for_each(|(j, &k)| visit(at + j, base + k as usize));
        } else {
            for (j, indices) in indices.chunks_exact(inner).enumerate() {
                for (i, &k) in indices.iter().enumerate() {
                    visit(at + j * inner + i, base + i + k as usize * inner);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const LANES: &[Lanes] = &[
        Lanes { inner: 17, extent: 5, outer: 2 },
        Lanes { inner: 33, extent: 4, outer: 3 },
        Lanes { inner: 1, extent: 5, outer: 1 },
        Lanes { inner: 1, extent: 4, outer: 3 },
        Lanes { inner: 3, extent: 4, outer: 1 },
        Lanes { inner: 2, extent: 6, outer: 3 },
        Lanes { inner: 0, extent: 6, outer: 3 },
        Lanes { inner: 2, extent: 6, outer: 0 },
    ];

    #[test]
    fn slabs_are_taken_and_added_back() {
        for &lanes in LANES {
            let Lanes { inner, extent, outer } = lanes;
            let x: Vec<u32> = (0..lanes.len() as u32).map(|i| 10 + i * i).collect();
            for indices in [&[][..], &[2], &[0, 3, 3, 1, 0, 3]] {
                let m = indices.len();
                let mut y = vec![0; inner * m * outer];
                take(lanes, &x, indices, &mut y).unwrap();
                let (mut back, mut want_back) = (x.clone(), x.clone());
                take_add(lanes, &y, indices, &mut back).unwrap();
                for o in 0..outer {
                    for (j, &k) in indices.iter().enumerate() {
                        for i in 0..inner {
                            let whole = i + inner * (k as usize + extent * o);
                            let taken = i + inner * (j + m * o);
                            assert_eq!(y[taken], x[whole], "take {lanes:?}");
                            want_back[whole] += y[taken];
                        }
                    }
                }
                assert_eq!(back, want_back, "take_add {lanes:?}");
            }
        }
    }

    #[test]
    fn elements_are_gathered_and_added_back() {
        for &lanes in LANES {
            let Lanes { inner, extent, outer } = lanes;
            let x: Vec<u32> = (0..lanes.len() as u32).map(|i| 10 + i * i).collect();
            for m in [0, 1, 3, 7] {
                let n = inner * m * outer;
                let indices: Vec<Index> = (0..n).map(|i| (i * i % extent) as Index).collect();
                let mut y = vec![0; n];
                gather(lanes, &x, &indices, &mut y).unwrap();
                let (mut back, mut want_back) = (x.clone(), x.clone());
                gather_add(lanes, &y, &indices, &mut back).unwrap();
                for (at, (&y, &k)) in y.iter().zip(&indices).enumerate() {
                    let (i, o) = (at % inner, at / inner / m);
                    let whole = i + inner * (k as usize + extent * o);
                    assert_eq!(y, x[whole], "gather {lanes:?}");
                    want_back[whole] += y;
                }
                assert_eq!(back, want_back, "gather_add {lanes:?}");
            }
        }
    }

    #[test]
    fn lanes_fold_the_other_axes() {
        let lanes = |axis| Lanes::of(&[2, 3, 4].into(), axis);
        assert_eq!(lanes(0), Lanes { inner: 1, extent: 2, outer: 12 });
        assert_eq!(lanes(1), Lanes { inner: 2, extent: 3, outer: 4 });
        assert_eq!(lanes(2), Lanes { inner: 6, extent: 4, outer: 1 });
    }

    #[test]
    fn one_hot_marks_one_class_a_row() {
        let mut y = [9.0; 6];
        one_hot(&[1, 0], 3, &mut y).unwrap();
        assert_eq!(y, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_index_outside_is_an_error_and_writes_nothing() {
        let lanes = Lanes { inner: 1, extent: 3, outer: 1 };
        let (x, mut y) = ([1.0, 2.0, 3.0], [9.0; 3]);
        let bad = [0, 3, 4];
        for result in [
            take(lanes, &x, &bad, &mut y),
            take_add(lanes, &x, &bad, &mut y),
            gather(lanes, &x, &bad, &mut y),
            gather_add(lanes, &x, &bad, &mut y),
            one_hot(&bad, 3, &mut [9.0; 9]),
            take(Lanes { extent: 0, ..lanes }, &[], &[0], &mut [9.0]),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Index);
            assert!(error.message().starts_with("expected an index below "), "{error}");
        }
        assert_eq!(y, [9.0; 3]);
        let error = take(lanes, &x, &bad, &mut y).unwrap_err();
        assert_eq!(error.message(), "expected an index below 3, got 3 at position 1");
    }
}
