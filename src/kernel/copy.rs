//! Moves elements between a dense column-major slice and a strided one: broadcast, permute,
//! slice, flip, tile (as gathers), concat, pad and the adjoints (as scatters); triangles.
//! Knows extents and strides only, and any element type.

use crate::scalar::Element;
use crate::shape::MAX_RANK;
use std::ops::AddAssign;

/// The most axes a copy may have: a tile has two for each axis of its tensor.
pub(crate) const MAX_AXES: usize = 2 * MAX_RANK;

/// Elements along each side of a block when both sides cannot be contiguous at once. 16 columns
/// of 16 f64 are 2 KiB a side: they stay in L1 even where power-of-two strides share its sets.
const TILE: usize = 16;

/// `y[i] = x[offset + Σ i_k · strides_k]`, where `y` is dense over `extents`.
///
/// Stride 0 broadcasts, a negative one flips, permuted ones transpose (in blocks).
///
/// # Panics
/// `y` has another length, or a position lies outside `x`.
pub(crate) fn copy_strided<E: Element>(
    extents: &[usize],
    strides: &[isize],
    offset: usize,
    x: &[E],
    y: &mut [E],
) {
    let Some(walk) = Walk::new(extents, strides, offset, y.len(), x.len()) else { return };
    walk.runs(|dense, at, len, stride| {
        let y = &mut y[dense..][..len];
        match stride {
            1 => y.copy_from_slice(&x[at..][..len]),
            0 => y.fill(x[at]),
            _ => {
                let mut at = at;
                for y in y {
                    *y = x[at];
                    at = at.wrapping_add_signed(stride);
                }
            }
        }
    });
}

/// `y[offset + Σ i_k · strides_k] = x[i]`, where `x` is dense over `extents`. The rest of `y`
/// keeps its values. Positions must differ: with a stride of 0 any of the elements may win.
///
/// # Panics
/// `x` has another length, or a position lies outside `y`.
pub(crate) fn scatter_strided<E: Element>(
    extents: &[usize],
    strides: &[isize],
    offset: usize,
    x: &[E],
    y: &mut [E],
) {
    scatter(extents, strides, offset, x, y, |y, x| *y = x);
}

/// `y[offset + Σ i_k · strides_k] += x[i]`, where `x` is dense over `extents`: the adjoint of
/// [`copy_strided`]. The order of the additions depends on extents and strides only.
///
/// # Panics
/// As [`scatter_strided`].
pub(crate) fn scatter_add_strided<E: Element + AddAssign>(
    extents: &[usize],
    strides: &[isize],
    offset: usize,
    x: &[E],
    y: &mut [E],
) {
    scatter(extents, strides, offset, x, y, |y, x| *y += x);
}

#[inline(always)]
fn scatter<E: Element>(
    extents: &[usize],
    strides: &[isize],
    offset: usize,
    x: &[E],
    y: &mut [E],
    put: impl Fn(&mut E, E),
) {
    let Some(walk) = Walk::new(extents, strides, offset, x.len(), y.len()) else { return };
    walk.runs(|dense, at, len, stride| {
        let x = &x[dense..][..len];
        if stride == 1 {
            y[at..][..len].iter_mut().zip(x).for_each(|(y, &x)| put(y, x));
        } else {
            let mut at = at;
            for &x in x {
                put(&mut y[at], x);
                at = at.wrapping_add_signed(stride);
            }
        }
    });
}

/// Which side of a diagonal a triangle keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Triangle {
    /// Column − row ≤ the diagonal.
    Lower,
    /// Column − row ≥ the diagonal.
    Upper,
}

/// Copies one triangle of every `rows × columns` matrix over the last two axes, `inner` matrices
/// side by side (the leading axes), and writes zeros elsewhere.
pub(crate) fn triangle<E: Element>(
    keep: Triangle,
    diagonal: isize,
    [inner, rows, columns]: [usize; 3],
    x: &[E],
    y: &mut [E],
) {
    assert!(x.len() == y.len() && y.len() == inner * rows * columns, "triangle: lengths");
    for column in 0..columns {
        // The row at which this column meets the diagonal.
        let meet = (column as isize).saturating_sub(diagonal);
        let kept = match keep {
            Triangle::Lower => (meet.max(0) as usize).min(rows)..rows,
            Triangle::Upper => 0..(meet.saturating_add(1).max(0) as usize).min(rows),
        };
        let (from, to) = (kept.start * inner, kept.end * inner);
        let column = column * rows * inner..(column + 1) * rows * inner;
        let (x, y) = (&x[column.clone()], &mut y[column]);
        y[..from].fill(E::default());
        y[from..to].copy_from_slice(&x[from..to]);
        y[to..].fill(E::default());
    }
}

#[derive(Clone, Copy, Default)]
struct Axis {
    extent: usize,
    dense: usize,
    strided: isize,
}

/// A visit of every position of a dense and of a strided tensor together, over as few axes as
/// their strides allow.
struct Walk {
    axes: [Axis; MAX_AXES],
    rank: usize,
    offset: usize,
}

impl Walk {
    /// `None` if there is nothing to visit.
    fn new(
        extents: &[usize],
        strides: &[isize],
        offset: usize,
        n_dense: usize,
        n_strided: usize,
    ) -> Option<Walk> {
        assert_eq!(extents.len(), strides.len(), "strided copy: extents and strides");
        assert_eq!(extents.iter().product::<usize>(), n_dense, "strided copy: {extents:?}");
        if n_dense == 0 {
            return None;
        }
        let mut walk = Walk { axes: [Axis::default(); MAX_AXES], rank: 0, offset };
        let (mut first, mut last, mut dense) = (offset as isize, offset as isize, 1);
        for (&extent, &strided) in extents.iter().zip(strides) {
            if extent == 1 {
                continue;
            }
            let reach = (extent - 1) as isize * strided;
            *(if reach < 0 { &mut first } else { &mut last }) += reach;
            match walk.axes[..walk.rank].last_mut() {
                Some(a) if strided == a.strided * a.extent as isize => a.extent *= extent,
                _ => {
                    walk.axes[walk.rank] = Axis { extent, dense, strided };
                    walk.rank += 1;
                }
            }
            dense *= extent;
        }
        let fits = first >= 0 && (last as usize) < n_strided;
        assert!(fits, "strided copy: {first}..={last} of {n_strided}");
        // A block pairs the axis that is contiguous on one side with that of the other side.
        if let Some(k) = (1..walk.rank).min_by_key(|&k| walk.axes[k].strided.unsigned_abs())
            && walk.is_blocked()
        {
            walk.axes.swap(1, k);
        }
        for a in &mut walk.axes[walk.rank..] {
            a.extent = 1;
        }
        Some(walk)
    }

    fn is_blocked(&self) -> bool {
        self.rank > 1 && !matches!(self.axes[0].strided, 0 | 1)
    }

    /// Calls `visit(dense position, strided position, length, stride)` for runs along axis 0,
    /// which is contiguous on the dense side.
    #[inline(always)]
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize, isize)) {
        let [a, b, outer @ ..] = &self.axes;
        let outer = &outer[..self.rank.saturating_sub(2)];
        let tile = if self.is_blocked() { [TILE; 2] } else { [a.extent, b.extent] };
        let mut count = [0; MAX_AXES];
        let (mut dense, mut at) = (0, self.offset as isize);
        loop {
            for j0 in (0..b.extent).step_by(tile[1]) {
                for i0 in (0..a.extent).step_by(tile[0]) {
                    let len = tile[0].min(a.extent - i0);
                    for j in j0..b.extent.min(j0 + tile[1]) {
                        let from = at + i0 as isize * a.strided + j as isize * b.strided;
                        visit(dense + i0 + j * b.dense, from as usize, len, a.strided);
                    }
                }
            }
            let advanced = outer.iter().zip(&mut count).any(|(axis, i)| {
                *i += 1;
                dense += axis.dense;
                at += axis.strided;
                let inside = *i < axis.extent;
                if !inside {
                    *i = 0;
                    dense -= axis.dense * axis.extent;
                    at -= axis.strided * axis.extent as isize;
                }
                inside
            });
            if !advanced {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair (dense position, strided position), by division.
    fn pairs(extents: &[usize], strides: &[isize], offset: usize) -> Vec<(usize, usize)> {
        (0..extents.iter().product())
            .map(|dense| {
                let (mut rest, mut at) = (dense, offset as isize);
                for (&extent, &stride) in extents.iter().zip(strides) {
                    at += (rest % extent) as isize * stride;
                    rest /= extent;
                }
                (dense, at as usize)
            })
            .collect()
    }

    const CASES: &[(&str, &[usize], &[isize], usize)] = &[
        ("a number", &[], &[], 3),
        ("no elements", &[3, 0, 2], &[1, 3, 3], 0),
        ("dense", &[4, 3, 2], &[1, 4, 12], 0),
        ("row broadcast to rows", &[5, 4], &[0, 1], 0),
        ("column broadcast to columns", &[5, 4], &[1, 0], 2),
        ("number broadcast", &[2, 3, 4], &[0, 0, 0], 7),
        ("broadcast in the middle", &[3, 4, 5], &[1, 0, 3], 0),
        ("transpose, whole and partial blocks", &[37, 18], &[18, 1], 0),
        ("transpose of a batch", &[3, 17, 19], &[1, 57, 3], 0),
        ("axis 0 last", &[20, 3, 33], &[99, 1, 3], 0),
        ("all axes reversed", &[5, 4, 3], &[12, 3, 1], 0),
        ("every other row", &[3, 4], &[2, 7], 1),
        ("both axes backwards with steps", &[3, 4], &[-2, -9], 36),
        ("one flipped", &[6, 3], &[-1, 6], 5),
        ("extents of 1 have any stride", &[1, 4, 1], &[1000, 1, -1000], 0),
        ("tile", &[2, 3, 4, 2], &[1, 0, 2, 0], 0),
        ("five axes that do not collapse", &[2, 3, 2, 3, 2], &[2, 5, 20, 41, 130], 0),
    ];

    #[test]
    fn strided_kernels_follow_their_formula() {
        for &(case, extents, strides, offset) in CASES {
            let pairs = pairs(extents, strides, offset);
            let n = pairs.iter().map(|&(_, at)| at + 1).max().unwrap_or(0);
            let strided: Vec<u32> = (0..n as u32).map(|i| 7 * i + 1).collect();
            let dense: Vec<u32> = (0..pairs.len() as u32).map(|i| 3 * i + 2).collect();

            let mut gathered = vec![0; pairs.len()];
            copy_strided(extents, strides, offset, &strided, &mut gathered);
            let want: Vec<u32> = pairs.iter().map(|&(_, at)| strided[at]).collect();
            assert_eq!(gathered, want, "copy, {case}");

            let (mut added, mut want) = (strided.clone(), strided.clone());
            scatter_add_strided(extents, strides, offset, &dense, &mut added);
            pairs.iter().for_each(|&(d, at)| want[at] += dense[d]);
            assert_eq!(added, want, "scatter_add, {case}");

            if !strides.contains(&0) {
                let (mut set, mut want) = (strided.clone(), strided);
                scatter_strided(extents, strides, offset, &dense, &mut set);
                pairs.iter().for_each(|&(d, at)| want[at] = dense[d]);
                assert_eq!(set, want, "scatter, {case}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "0..=6 of 6")]
    fn positions_outside_are_refused() {
        copy_strided(&[4], &[2], 0, &[0.0; 6], &mut [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "-1..=2 of 3")]
    fn positions_before_the_first_are_refused() {
        scatter_strided(&[4], &[-1], 2, &[0.0; 4], &mut [0.0; 3]);
    }

    #[test]
    fn triangles_follow_their_formula() {
        for (inner, rows, columns) in [(1, 4, 4), (3, 2, 5), (2, 5, 2), (0, 2, 2), (2, 0, 3)] {
            let x: Vec<usize> = (1..=inner * rows * columns).collect();
            for diagonal in [0, 1, -1, 3, -4, 9, -9, isize::MIN, isize::MAX] {
                for keep in [Triangle::Lower, Triangle::Upper] {
                    let mut y = vec![99; x.len()];
                    triangle(keep, diagonal, [inner, rows, columns], &x, &mut y);
                    for (at, (&x, &y)) in x.iter().zip(&y).enumerate() {
                        let (row, column) = (at / inner % rows, at / inner / rows);
                        let over = column as i128 - row as i128;
                        let kept = match keep {
                            Triangle::Lower => over <= diagonal as i128,
                            Triangle::Upper => over >= diagonal as i128,
                        };
                        assert_eq!(y, if kept { x } else { 0 }, "{keep:?} {diagonal} at {at}");
                    }
                }
            }
        }
    }
}
