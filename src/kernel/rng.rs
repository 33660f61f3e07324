//! Random words that are a function of (seed, stream, position) alone: Philox4x32-10. The same on
//! every machine and for any number of workers. Knows nothing of what they are used for.

use rand::rand_core::utils;
use rand::{Rng, TryRng};
use std::convert::Infallible;

/// The counter-based generator Philox4x32-10 of Salmon, Moraes, Dror and Shaw, *Parallel random
/// numbers: as easy as 1, 2, 3*, SC11.
///
/// A seed has 2⁶⁴ streams of 2⁶⁴ words of 32 bits, all independent; any of them is found in
/// constant time, so that no word depends on how many workers draw. The seed is the key of the
/// paper; the low half of its counter counts blocks of four words, the high half is the stream.
/// Ten rounds of two multiplications make four words. Not for cryptography.
///
/// ```
/// use gradtape::Philox;
/// use rand_distr::{Distribution, StandardNormal};
/// let mut rng = Philox::new(7, 0);
/// let x: f64 = StandardNormal.sample(&mut rng);
/// rng.seek(0);
/// let again: f64 = StandardNormal.sample(&mut rng);
/// assert_eq!(x, again);
/// ```
#[derive(Clone, Debug)]
pub struct Philox {
    seed: u64,
    stream: u64,
    /// The number of words drawn.
    position: u64,
    /// The block that holds the next word, unless that begins a block.
    block: [u32; 4],
}

impl Philox {
    /// The words of this stream, from its first.
    pub fn new(seed: u64, stream: u64) -> Self {
        Philox { seed, stream, position: 0, block: [0; 4] }
    }

    /// Words 4·`counter` to 4·`counter` + 3 of the stream; what is drawn next stays the same.
    pub fn at(&self, counter: u64) -> [u32; 4] {
        let [c, s] = [counter, self.stream];
        block([c as u32, (c >> 32) as u32, s as u32, (s >> 32) as u32], self.seed)
    }

    /// The number of words drawn so far: with seed and stream the whole state.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to a position of the stream, counted in words. Constant time.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
        self.block = self.at(position / 4);
    }

    /// A uniform integer in 0..`n`, without bias (Lemire 2019, *Fast random integer generation in
    /// an interval*, ACM TOMACS 29). `n` = 0 gives 0.
    pub fn below(&mut self, n: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let low = product as u64;
            // 2⁶⁴ mod n of the 2⁶⁴ words are too many; the remainder is below n, so most draws
            // need no division.
            if low >= n || low >= n.wrapping_neg() % n.max(1) {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts the items into an order drawn uniformly from all orders (Fisher and Yates).
    pub fn shuffle<E>(&mut self, items: &mut [E]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.block = self.at(self.position / 4);
        }
        self.position = self.position.wrapping_add(1);
        Ok(self.block[lane])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        utils::next_u64_via_u32(self)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        utils::fill_bytes_via_next_word(bytes, || self.try_next_u32())
    }
}

// The paper's names: c (counter), k (key), M (multipliers), W (Weyl).
const M: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The bijection of the paper.
fn block(mut c: [u32; 4], key: u64) -> [u32; 4] {
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..ROUNDS {
        let [p, q] = [M[0] * u64::from(c[0]), M[1] * u64::from(c[2])];
        c = [(q >> 32) as u32 ^ c[1] ^ k[0], q as u32, (p >> 32) as u32 ^ c[3] ^ k[1], p as u32];
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}

/// Blocks that [`blocks`] makes at a time.
pub(crate) const LANES: usize = 16;

/// The words of the blocks from `counter` on, word w of block l at `[w][l]`: [`block`] in lanes,
/// for loops that are compiled for a level.
#[inline(always)]
pub(crate) fn blocks(counter: u64, stream: u64, key: u64) -> [[u32; LANES]; 4] {
    let mut c = [[0; LANES]; 4];
    for l in 0..LANES {
        let counter = counter + l as u64;
        let start = [counter as u32, (counter >> 32) as u32, stream as u32, (stream >> 32) as u32];
        c.iter_mut().zip(start).for_each(|(c, start)| c[l] = start);
    }
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = &mut c;
        for ((c0, c1), (c2, c3)) in c0.iter_mut().zip(c1).zip(c2.iter_mut().zip(c3)) {
            let [p, q] = [M[0] * u64::from(*c0), M[1] * u64::from(*c2)];
            let upper = [(q >> 32) as u32 ^ *c1 ^ k[0], (p >> 32) as u32 ^ *c3 ^ k[1]];
            [*c0, *c1, *c2, *c3] = [upper[0], q as u32, upper[1], p as u32];
        }
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the paper's library, Random123 1.14, `tests/kat_vectors`.
    #[test]
    fn known_answers() {
        for (c, k, want) in [
            ([0; 4], 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], u64::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                0x299f_31d0_a409_3822,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(block(c, k), want);
        }
        let rng = Philox::new(0x299f_31d0_a409_3822, 0x0370_7344_1319_8a2e);
        assert_eq!(rng.at(0x85a3_08d3_243f_6a88)[0], 0xd16c_fe09);
    }

    #[test]
    fn words_are_a_function_of_their_position() {
        let mut rng = Philox::new(3, 9);
        let words: Vec<u32> = (0..11).map(|_| rng.next_u32()).collect();
        assert_eq!(words[4..8], rng.at(1));
        for (i, &word) in words.iter().enumerate() {
            rng.seek(i as u64);
            assert_eq!(rng.next_u32(), word);
            assert_eq!(rng.position(), i as u64 + 1);
        }
        let mut bytes = [0; 6];
        Philox::new(3, 9).fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], words[0].to_le_bytes());
        assert_ne!(Philox::new(3, 10).next_u32(), words[0]);
        assert_ne!(Philox::new(4, 9).next_u32(), words[0]);
    }

    /// χ² over the 24 orders of four items, 23 degrees of freedom: P(χ² > 49.7) = 0.001.
    #[test]
    fn every_order_is_as_likely_as_every_other() {
        let mut rng = Philox::new(1, 0);
        let mut counts = [0u32; 256];
        const DRAWS: u32 = 24_000;
        for _ in 0..DRAWS {
            let mut items = [0, 1, 2, 3];
            rng.shuffle(&mut items);
            counts[items.iter().fold(0, |code, i| code * 4 + i)] += 1;
        }
        let seen: Vec<f64> = counts.iter().filter(|&&c| c > 0).map(|&c| f64::from(c)).collect();
        assert_eq!(seen.len(), 24);
        let want = f64::from(DRAWS) / 24.0;
        let chi2: f64 = seen.iter().map(|c| (c - want).powi(2) / want).sum();
        assert!(chi2 < 49.7, "{chi2}");
    }

    /// Without the rejection, half of the draws instead of a third would be multiples of 3.
    #[test]
    fn below_has_no_bias_for_large_n() {
        let n = 3u64 << 62;
        let mut rng = Philox::new(2, 0);
        const DRAWS: u32 = 30_000;
        let multiples = (0..DRAWS).filter(|_| rng.below(n).is_multiple_of(3)).count() as f64;
        let (want, sd) = (f64::from(DRAWS) / 3.0, (f64::from(DRAWS) * 2.0 / 9.0).sqrt());
        assert!((multiples - want).abs() < 4.0 * sd, "{multiples}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
