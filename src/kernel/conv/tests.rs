//! All three kernels against the definition, at every level, whole and in parts.

use super::*;
use crate::Philox;
use crate::kernel::cpu::Cpu;

fn axis(input: usize, taps: usize, stride: usize, dilation: usize, sides: (usize, usize)) -> Axis {
    let output = (input + sides.0 + sides.1 - (taps - 1) * dilation - 1) / stride + 1;
    Axis { input, output, taps, stride, dilation, before: sides.0 }
}

/// Every product of the definition: places in x, w and y.
fn products(conv: &Conv) -> Vec<[usize; 3]> {
    let Conv { batch, rows, columns, inputs, outputs, groups } = *conv;
    let (group_in, group_out) = (inputs / groups, outputs / groups);
    let mut all = vec![];
    for o in 0..outputs {
        for c in 0..group_in {
            for (i, p) in (0..rows.output).flat_map(|i| (0..rows.taps).map(move |p| (i, p))) {
                for (j, q) in
                    (0..columns.output).flat_map(|j| (0..columns.taps).map(move |q| (j, q)))
                {
                    let row = (i * rows.stride + p * rows.dilation).wrapping_sub(rows.before);
                    let column =
                        (j * columns.stride + q * columns.dilation).wrapping_sub(columns.before);
                    if row >= rows.input || column >= columns.input {
                        continue;
                    }
                    let channel = o / group_out * group_in + c;
                    let x = batch * (row + rows.input * (column + columns.input * channel));
                    let w = p + rows.taps * (q + columns.taps * (c + group_in * o));
                    let y = batch * (i + rows.output * (j + columns.output * o));
                    all.extend((0..batch).map(|n| [x + n, w, y + n]));
                }
            }
        }
    }
    all
}

/// Σ a·b at the places of c, and the sum of magnitudes there.
fn defined<T: Scalar>(
    all: &[[usize; 3]],
    [a, b, c]: [usize; 3],
    (x, y): (&[T], &[T]),
    len: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut sum, mut size) = (vec![0.0; len], vec![0.0; len]);
    for at in all {
        let product = x[at[a]].to_f64() * y[at[b]].to_f64();
        sum[at[c]] += product;
        size[at[c]] += product.abs();
    }
    (sum, size)
}

/// A kernel, how many units it has, its scratch.
type Kernel<T> = (fn(&Conv, &[T], &[T], &mut [T], Range<usize>, &mut [T]), usize, usize);

/// The kernels that are chosen by the shape: value, adjoint in x, adjoint in w.
fn chosen<T: Scalar>(conv: &Conv) -> [Kernel<T>; 3] {
    [
        (Conv::forward, conv.units(), conv.scratch()),
        (Conv::input, conv.units_of_input(), conv.scratch_of_input()),
        (Conv::weights, conv.outputs, conv.scratch_of_weights::<T>()),
    ]
}

/// Winograd's kernels, whether they pay or not.
fn winograds<T: Scalar>(conv: &Conv) -> [Kernel<T>; 2] {
    let forward = |conv: &Conv, x: &[T], w: &[T], y: &mut [T], units, scratch: &mut [T]| {
        Correlation::forward(conv).run(x, w, y, units, scratch);
    };
    let input = |conv: &Conv, dy: &[T], w: &[T], dx: &mut [T], units, scratch: &mut [T]| {
        Correlation::input(conv).run(dy, w, dx, units, scratch);
    };
    [
        (forward, conv.outputs, Correlation::forward(conv).scratch()),
        (input, conv.inputs, Correlation::input(conv).scratch()),
    ]
}

/// Factors of the three kernels: x, y and w, with the products of the definition.
fn drawn<T: Scalar>(conv: &Conv, seed: u64) -> ([Vec<T>; 3], Vec<[usize; 3]>) {
    let mut rng = Philox::new(seed, 0);
    let mut draw = |n: usize| -> Vec<T> {
        (0..n).map(|_| T::lit(rng.below(2001) as f64 / 1000.0 - 1.0)).collect()
    };
    let image = |rows: usize, columns: usize| conv.batch * rows * columns;
    let x = draw(image(conv.rows.input, conv.columns.input) * conv.inputs);
    let y = draw(image(conv.rows.output, conv.columns.output) * conv.outputs);
    let w = draw(conv.terms() * conv.outputs);
    ([x, w, y], products(conv))
}

/// Of each kernel: the factors' and the result's numbers in x, w and y.
const PLACES: [[usize; 3]; 3] = [[0, 1, 2], [2, 1, 0], [0, 2, 1]];

/// Every unit alone or among others has the same bits, and what is wrong with a value, by its
/// number, the number of its kernel and the sum of magnitudes of its terms, is allowed.
fn check<T: Scalar>(
    conv: &Conv,
    seed: u64,
    kernels: impl IntoIterator<Item = Kernel<T>>,
    allowed: impl Fn(usize, f64, &[f64]) -> f64,
) {
    let (values, all) = drawn(conv, seed);
    for (k, ((kernel, units, scratch), places)) in kernels.into_iter().zip(PLACES).enumerate() {
        let [a, b, out] = places.map(|i| &values[i]);
        let len = out.len();
        let (want, size) = defined(&all, places, (a, b), len);
        // Scratch of exactly the size asked for, full of what would spoil a result.
        let run = |range: Range<usize>| {
            let mut out = vec![T::lit(f64::NAN); len / units * range.len()];
            kernel(conv, a, b, &mut out, range, &mut vec![T::lit(f64::NAN); scratch]);
            out
        };
        let whole = run(0..units);
        for (i, value) in whole.iter().enumerate() {
            let off = (value.to_f64() - want[i]).abs();
            let allowed = T::EPSILON * allowed(k, size[i], &size);
            assert!(off <= allowed, "{k} {conv:?} at {i}: {value} {}", want[i]);
        }
        for cut in [1, units / 2, units - 1] {
            let parts = [run(0..cut), run(cut..units)].concat();
            assert!(parts == whole, "{k} {conv:?} cut at {cut} of {units}");
        }
    }
}

#[test]
fn every_kernel_equals_the_definition() {
    let one = |rows, columns| (rows, columns, [1, 1, 1]);
    let cases = [
        one(axis(5, 3, 1, 1, (0, 0)), axis(4, 2, 1, 1, (0, 0))),
        one(axis(5, 3, 1, 1, (1, 1)), axis(4, 3, 1, 1, (1, 1))),
        one(axis(9, 3, 2, 1, (1, 0)), axis(7, 2, 3, 1, (0, 1))),
        one(axis(9, 2, 3, 2, (0, 0)), axis(8, 3, 2, 3, (3, 2))),
        one(axis(4, 1, 1, 1, (0, 0)), axis(5, 1, 1, 1, (0, 0))),
        one(axis(7, 1, 3, 1, (0, 0)), axis(6, 1, 2, 1, (0, 0))),
        one(axis(2, 3, 1, 1, (4, 6)), axis(1, 2, 1, 1, (5, 2))),
        one(axis(3, 2, 1, 5, (4, 4)), axis(3, 2, 2, 7, (6, 6))),
        (axis(4, 2, 1, 1, (0, 1)), axis(3, 2, 1, 1, (0, 0)), [3, 2, 1]),
        (axis(4, 2, 2, 1, (1, 1)), axis(3, 3, 1, 1, (1, 1)), [2, 9, 1]),
        (axis(4, 3, 1, 2, (2, 2)), axis(3, 3, 2, 1, (1, 1)), [6, 4, 2]),
        (axis(3, 2, 1, 1, (0, 0)), axis(3, 2, 1, 1, (0, 0)), [3, 6, 3]),
        // More terms than are added up at a time.
        (axis(3, 3, 1, 1, (1, 1)), axis(3, 3, 1, 1, (1, 1)), [23, 7, 1]),
        (axis(3, 3, 2, 1, (1, 1)), axis(3, 3, 1, 1, (1, 1)), [7, 23, 1]),
    ];
    Cpu::for_each(|_| {
        for (seed, (rows, columns, [inputs, outputs, groups])) in (0..).zip(cases) {
            for batch in [1, 3, 21] {
                let conv = Conv { batch, rows, columns, inputs, outputs, groups };
                assert!(!winograd::pays(&conv));
                check::<f32>(&conv, seed, chosen(&conv), |_, size, _| 64.0 * size);
                check::<f64>(&conv, seed, chosen(&conv), |_, size, _| 64.0 * size);
            }
        }
    });
}

#[test]
fn nothing_of_nothing() {
    let (rows, columns) = (axis(3, 2, 1, 1, (0, 0)), axis(3, 2, 1, 1, (0, 0)));
    let conv = Conv { batch: 0, rows, columns, inputs: 2, outputs: 1, groups: 1 };
    let mut dw = [f64::NAN; 8];
    conv.weights(&[], &[], &mut dw, 0..1, &mut []);
    conv.forward(&[], &[1.0; 8], &mut [], 0..2, &mut []);
    conv.input(&[], &[1.0; 8], &mut [], 0..6, &mut []);
    assert_eq!(dw, [0.0; 8]);
}

/// The error is of the size of what the tile's terms have, not of the value's: a value at a corner
/// may see one number of its tile.
#[test]
fn winograd_equals_the_definition() {
    let three = |input, sides| axis(input, 3, 1, 1, sides);
    let one = |rows, columns| (rows, columns, [1, 1, 1]);
    let cases = [
        one(three(4, (0, 0)), three(4, (0, 0))),
        one(three(3, (0, 0)), three(7, (0, 0))),
        one(three(1, (1, 1)), three(1, (1, 1))),
        one(three(1, (2, 2)), three(2, (2, 2))),
        one(three(5, (2, 0)), three(6, (0, 1))),
        one(three(2, (4, 3)), three(1, (5, 2))),
        (three(7, (1, 1)), three(5, (1, 1)), [3, 10, 1]),
        (three(4, (1, 1)), three(6, (2, 2)), [9, 17, 1]),
        (three(6, (1, 1)), three(3, (1, 1)), [6, 18, 2]),
        (three(4, (1, 1)), three(4, (1, 1)), [3, 3, 3]),
    ];
    Cpu::for_each(|_| {
        for (seed, (rows, columns, [inputs, outputs, groups])) in (0..).zip(cases) {
            for batch in [1, 3, 17, 33] {
                let conv = Conv { batch, rows, columns, inputs, outputs, groups };
                let of_tile = |_: usize, _: f64, all: &[f64]| {
                    16.0 * all.iter().fold(1.0, |a: f64, &b| a.max(b))
                };
                check::<f32>(&conv, seed, winograds(&conv), of_tile);
                check::<f64>(&conv, seed, winograds(&conv), of_tile);
            }
        }
    });
}

/// Where it is chosen, it holds what the direct kernels hold.
#[test]
fn winograd_is_chosen_by_shape_and_as_accurate() {
    let side = |input| axis(input, 3, 1, 1, (1, 1));
    let conv = |batch, extent, inputs, outputs, groups| Conv {
        batch,
        rows: side(extent),
        columns: side(extent),
        inputs,
        outputs,
        groups,
    };
    for conv in [conv(16, 4, 32, 32, 1), conv(83, 2, 16, 64, 1), conv(18, 2, 64, 64, 2)] {
        assert!(winograd::pays(&conv));
        Cpu::for_each(|_| {
            check::<f32>(&conv, 1, chosen(&conv), |_, size, _| 64.0 * size);
            check::<f64>(&conv, 1, chosen(&conv), |_, size, _| 64.0 * size);
        });
    }
    let strided = Conv { rows: axis(9, 3, 2, 1, (0, 0)), ..conv(16, 4, 32, 32, 1) };
    let empty = Conv { rows: Axis { output: 0, ..side(4) }, ..conv(16, 4, 32, 32, 1) };
    let small = [conv(15, 4, 32, 32, 1), conv(16, 3, 32, 32, 1), conv(16, 4, 15, 99, 1)];
    let few = [conv(16, 4, 31, 33, 1), conv(16, 4, 32, 32, 2), empty, strided];
    assert!(small.into_iter().chain(few).all(|conv| !winograd::pays(&conv)));
}

/// What is not finite reaches the windows that see it, and no others.
#[test]
fn winograd_keeps_what_is_not_finite_to_its_windows() {
    let (rows, columns) = (axis(6, 3, 1, 1, (1, 1)), axis(5, 3, 1, 1, (1, 1)));
    let conv = Conv { batch: 17, rows, columns, inputs: 2, outputs: 3, groups: 1 };
    let ([mut x, w, mut y], all) = drawn::<f32>(&conv, 7);
    for (i, bad) in [(200, f32::NAN), (33, f32::INFINITY), (411, f32::NEG_INFINITY)] {
        (x[i], y[i]) = (bad, bad);
    }
    for ((kernel, units, scratch), places) in winograds::<f32>(&conv).into_iter().zip(PLACES) {
        let values = [&x, &w, &y];
        let [a, b, out] = places.map(|i| values[i]);
        let mut found = vec![0.0; out.len()];
        kernel(&conv, a, b, &mut found, 0..units, &mut vec![0.0; scratch]);
        let (want, _) = defined(&all, places, (a, b), out.len());
        let same = found.iter().zip(&want).all(|(y, want)| y.is_finite() == want.is_finite());
        assert!(same && want.iter().any(|y| !y.is_finite()));
    }
}
