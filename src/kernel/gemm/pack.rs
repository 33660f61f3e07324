//! Packing: blocks of a matrix copied into panels that a microkernel reads front to back.

use super::MatRef;
use crate::Scalar;
use crate::kernel::cpu::multiversion;

/// How many columns are transposed at a time, so that the lines written stay in L1.
const COLS: usize = 8;

multiversion! {
    /// Writes `src` as panels of `width` rows, each column-major; the last one's missing rows
    /// are left as they were, as no kernel reads them.
    pub(super) fn pack<T: Scalar>(src: MatRef<T>, width: usize, out: &mut [T]) {
        let panels = out[..src.rows.div_ceil(width) * width * src.cols]
            .chunks_exact_mut(width * src.cols);
        for (panel, i) in panels.zip((0..src.rows).step_by(width)) {
            let rows = width.min(src.rows - i);
            if src.row_stride == 1 {
                for (p, to) in panel.chunks_exact_mut(width).enumerate() {
                    to[..rows].copy_from_slice(&src.from(i, p)[..rows]);
                }
            } else if src.col_stride == 1 {
                for (block, to) in panel.chunks_mut(COLS * width).enumerate() {
                    for r in 0..rows {
                        let from = src.from(i + r, block * COLS);
                        if let (Some((from, _)), true) =
                            (from.split_first_chunk::<COLS>(), to.len() == COLS * width)
                        {
                            for p in 0..COLS {
                                to[p * width + r] = from[p];
                            }
                        } else {
                            for (p, &x) in from[..to.len() / width].iter().enumerate() {
                                to[p * width + r] = x;
                            }
                        }
                    }
                }
            } else {
                for (p, to) in panel.chunks_exact_mut(width).enumerate() {
                    for (r, to) in to[..rows].iter_mut().enumerate() {
                        *to = src.from(i + r, p)[0];
                    }
                }
            }
        }
    }
}
