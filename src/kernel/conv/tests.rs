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

fn check<T: Scalar>(conv: &Conv, seed: u64) {
    let mut rng = Philox::new(seed, 0);
    let mut draw = |n: usize| -> Vec<T> {
        (0..n).map(|_| T::lit(rng.below(2001) as f64 / 1000.0 - 1.0)).collect()
    };
    let image = |rows: usize, columns: usize| conv.batch * rows * columns;
    let x = draw(image(conv.rows.input, conv.columns.input) * conv.inputs);
    let y = draw(image(conv.rows.output, conv.columns.output) * conv.outputs);
    let w = draw(conv.terms() * conv.outputs);
    let all = products(conv);

    type Kernel<T> = fn(&Conv, &[T], &[T], &mut [T], Range<usize>, &mut [T]);
    let kernels: [(Kernel<T>, _, _, _, _, _); 3] = [
        (Conv::forward, &x, &w, [0, 1, 2], conv.columns.output * conv.outputs, conv.scratch()),
        (Conv::input, &y, &w, [2, 1, 0], conv.columns.input * conv.inputs, conv.scratch_of_input()),
        (Conv::weights, &x, &y, [0, 2, 1], conv.outputs, conv.scratch_of_weights::<T>()),
    ];
    for (k, (kernel, a, b, places, units, scratch)) in kernels.into_iter().enumerate() {
        let len = [&x, &w, &y][places[2]].len();
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
            assert!(off <= 64.0 * T::EPSILON * size[i], "{k} {conv:?} at {i}: {value} {}", want[i]);
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
                check::<f32>(&conv, seed);
                check::<f64>(&conv, seed);
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
