//! Elements set to zero at random: which ones is a function of (seed, step, position) alone.

use super::cpu::multiversion;
use super::rng::{LANES, blocks};
use crate::Scalar;

/// Which elements stay, and what they are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dropout {
    /// The key of the generator.
    pub seed: u64,
    /// Its stream.
    pub step: u64,
    /// Of 2³² words, so many drop an element: those below.
    pub drops: u32,
    pub scale: f64,
}

/// Elements that one call of the generator decides on: element 64·g + 16·w + l by word w of block
/// 16·g + l, so that lanes of blocks are lanes of elements.
const GROUP: usize = 4 * LANES;

impl Dropout {
    /// y = x · scale where x stays, else 0. The slices begin at position `first` of the whole.
    pub(crate) fn run<T: Scalar>(&self, first: usize, x: &[T], y: &mut [T]) {
        // The rest of a group that begins before, then whole ones.
        let head = (first.next_multiple_of(GROUP) - first).min(x.len());
        let ((x_head, x), (y_head, y)) = (x.split_at(head), y.split_at_mut(head));
        groups(self, first, x_head, y_head);
        groups(self, first + head, x, y);
    }
}

multiversion! {
    fn groups<T: Scalar>(of: &Dropout, first: usize, x: &[T], y: &mut [T]) {
        let scale = T::lit(of.scale);
        for (i, (x, y)) in x.chunks(GROUP).zip(y.chunks_mut(GROUP)).enumerate() {
            let at = first + i * GROUP;
            let words = blocks((at / GROUP * LANES) as u64, of.step, of.seed);
            let words = &words.as_flattened()[at % GROUP..];
            for ((y, &x), &word) in y.iter_mut().zip(x).zip(words) {
                *y = if word < of.drops { T::zero() } else { x * scale };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Philox;
    use crate::kernel::cpu::Cpu;

    #[test]
    fn each_element_has_its_word() {
        let of = Dropout { seed: 7 << 40, step: 3, drops: 3 << 30, scale: 4.0 };
        let rng = Philox::new(of.seed, of.step);
        let x: Vec<f32> = (0..333).map(|i| i as f32 + 1.0).collect();
        let want: Vec<f32> = (0..x.len())
            .map(|i| {
                let (group, word, lane) = (i / 64, i % 64 / 16, i % 16);
                let stays = rng.at((16 * group + lane) as u64)[word] >= of.drops;
                if stays { x[i] * 4.0 } else { 0.0 }
            })
            .collect();
        Cpu::for_each(|cpu| {
            for cut in [0, 1, 63, 64, 100, 333] {
                let mut y = vec![f32::NAN; x.len()];
                let (head, tail) = y.split_at_mut(cut);
                of.run(0, &x[..cut], head);
                of.run(cut, &x[cut..], tail);
                assert!(y == want, "{cpu:?}, cut at {cut}");
            }
        });
    }
}
