//! The numbers of the peers' benchmark, bit for bit: a counter-based generator, so that any
//! element of any array can be had alone. Knows nothing of tapes.

use gradtape::{Index, Result, Shape, Tensor};

/// Streams of the generator: 100 + p are the initial values of parameter p, 200 + p directions.
pub const INPUTS: u64 = 1;
pub const TARGETS: u64 = 2;
pub const TOKENS: u64 = 3;
pub const WEIGHTS: u64 = 100;
pub const DIRECTIONS: u64 = 200;

/// Element `i` of stream `k`: a 24-bit integer.
fn integer(k: u64, i: usize) -> i64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let seed = mix64(0x6772_6164_7461_7065 + k);
    (mix64(seed.wrapping_add((i as u64 + 1).wrapping_mul(GAMMA))) >> 40) as i64
}

fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Element `i` of stream `k` as an exact number in [-1, 1).
fn real(k: u64, i: usize) -> f32 {
    (integer(k, i) - (1 << 23)) as f32 * 2f32.powi(-23)
}

/// Stream `k` from element `from` on, times `scale`, in reading order.
pub fn reals(k: u64, from: usize, scale: f32, shape: &[usize]) -> Result<Tensor<f32>> {
    Tensor::from_fn(Shape::new(shape)?, |at| {
        scale * real(k, from + at.iter().zip(shape).fold(0, |i, (&at, &extent)| i * extent + at))
    })
}

/// Initial weights of parameter number `p`, uniform with the bound √(3 / fan-in). The last axis is
/// the outputs.
pub fn weights(p: u64, shape: &[usize]) -> Result<Tensor<f32>> {
    let fan_in = shape.iter().rev().skip(1).product::<usize>();
    reals(WEIGHTS + p, 0, (3.0 / fan_in as f64).sqrt() as f32, shape)
}

/// The label of each row of a batch of inputs: the block of features with the largest sum, the
/// first of equals.
pub fn labels(batch: usize, rows: usize, features: usize, classes: usize) -> Tensor<Index> {
    let block = features / classes;
    let label = |row: usize| {
        let sum = |class: usize| -> i64 {
            let from = row * features + class * block;
            (from..from + block).map(|i| integer(INPUTS, i)).sum()
        };
        (0..classes).rev().max_by_key(|&class| sum(class)).unwrap_or(0) as Index
    };
    Tensor::vector((batch * rows..(batch + 1) * rows).map(label).collect())
}

/// A linear function of each row of inputs, with noise.
pub fn linear_targets(rows: usize, features: usize) -> Tensor<f32> {
    let target = |row: usize| {
        let term =
            |j: usize| (integer(INPUTS, row * features + j) - (1 << 23)) * (j as i64 % 7 - 3);
        let sum = (0..features).map(term).sum::<i64>() as f64;
        (sum * 2f64.powi(-23) + 0.1 * f64::from(real(TARGETS, row))) as f32
    };
    Tensor::vector((0..rows).map(target).collect())
}

/// A batch of sequences of 64 tokens, and for each token the sum of it and the one before.
pub fn tokens(batch: usize, rows: usize, steps: usize) -> Result<[Tensor<Index>; 2]> {
    let token = |row: usize, t: usize| (integer(TOKENS, row * steps + t) >> 18) as Index;
    let table = |of: &dyn Fn(usize, usize) -> Index| {
        Tensor::from_fn([rows, steps], |at| of(batch * rows + at[0], at[1]))
    };
    let before = |row, t: usize| if t == 0 { 0 } else { token(row, t - 1) };
    Ok([table(&token)?, table(&|row, t| (token(row, t) + before(row, t)) % 64)?])
}
