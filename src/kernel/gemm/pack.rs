//! Packing: blocks of a matrix copied into panels that a microkernel reads front to back.

use super::micro::{Kernels, Square};
use super::{MatRef, steps};
use crate::Scalar;

/// Writes `src` as panels of `width` rows, each column-major; the last one's missing rows are left
/// as they were, as no kernel reads them.
pub(super) fn pack<T: Scalar>(src: MatRef<T>, width: usize, out: &mut [T]) {
    let len = src.rows.div_ceil(width) * width * src.cols;
    let out = &mut out[..len];
    if src.row_stride == 1 {
        // Of the usual widths the length of a copy is known, which makes it a few moves.
        return match width {
            48 => columns::<T, 48>(src, out),
            32 => columns::<T, 32>(src, out),
            24 => columns::<T, 24>(src, out),
            16 => columns::<T, 16>(src, out),
            8 => columns::<T, 8>(src, out),
            _ => {
                let panels = out.chunks_exact_mut(width * src.cols);
                panels.enumerate().for_each(|(n, panel)| rest(src, n * width, width, panel));
            }
        };
    }
    let panels = out.chunks_exact_mut(width * src.cols);
    for (panel, i) in panels.zip(steps(src.rows, width)) {
        let rows = width.min(src.rows - i);
        if src.col_stride == 1 {
            transposed(src, i, rows, width, panel);
        } else {
            for (p, to) in panel.chunks_exact_mut(width).enumerate() {
                for (r, to) in to[..rows].iter_mut().enumerate() {
                    *to = src.from(i + r, p)[0];
                }
            }
        }
    }
}

/// Panels of R rows, of a matrix whose columns are contiguous. Column after column, through all
/// panels: memory is read in order.
fn columns<T: Scalar, const R: usize>(src: MatRef<T>, out: &mut [T]) {
    let (full, panel) = (src.rows / R, R * src.cols);
    for p in 0..src.cols {
        let from = src.from(0, p)[..src.rows].as_chunks::<R>().0;
        for (n, from) in from.iter().enumerate() {
            if let Some(to) = out[n * panel + p * R..].first_chunk_mut::<R>() {
                *to = *from;
            }
        }
    }
    if full * R < src.rows {
        rest(src, full * R, R, &mut out[full * panel..]);
    }
}

/// A panel of the rows from `i` on, of a matrix whose columns are contiguous.
fn rest<T: Scalar>(src: MatRef<T>, i: usize, width: usize, panel: &mut [T]) {
    let rows = width.min(src.rows - i);
    for (p, to) in panel.chunks_exact_mut(width).enumerate() {
        to[..rows].copy_from_slice(&src.from(i, p)[..rows]);
    }
}

/// A panel of rows that are contiguous themselves: squares are transposed in registers.
fn transposed<T: Scalar>(src: MatRef<T>, i: usize, rows: usize, width: usize, panel: &mut [T]) {
    let kernels = Kernels::<T>::get();
    let lanes = kernels.lanes;
    let (full_rows, full_cols) = (rows / lanes * lanes, src.cols / lanes * lanes);
    // A few rows to their ends: memory is read in order.
    for r in steps(full_rows, lanes) {
        for p in steps(full_cols, lanes) {
            let square = Square { data: src.from(i + r, p), step: src.row_stride };
            kernels.transpose(&square, &mut panel[p * width + r..], width);
        }
    }
    let first = if full_cols == src.cols { full_rows } else { 0 };
    for r in first..rows {
        let done = if r < full_rows { full_cols } else { 0 };
        let row = &src.from(i + r, done)[..src.cols - done];
        let column = panel[done * width + r..].iter_mut().step_by(width);
        column.zip(row).for_each(|(to, &x)| *to = x);
    }
}
