//! Both ways at every level of the CPU: the states against the equations on single numbers, the
//! gradients against differences of the states, parts against the whole.

use super::*;
use crate::kernel::cpu::Cpu;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = crate::Philox::new(seed, 0);
    (0..n).map(|_| rng.below(2001) as f64 / 1000.0 - 1.0).collect()
}

/// The samples cut before each of these, as threads would have them.
fn parts<'a, T>(whole: Runs<'a, T>, cuts: &[usize]) -> Vec<Runs<'a, T>> {
    let (mut parts, mut rest) = (vec![], whole);
    for cut in cuts {
        let at = cut - rest.range().start;
        let (part, others) = rest.split_at(at);
        parts.push(part);
        rest = others;
    }
    parts.push(rest);
    parts
}

/// What a forward pass is given, with everything there is.
struct Given {
    sequence: Sequence,
    pre: Vec<f64>,
    wh: Vec<f64>,
    initial: [Vec<f64>; 2],
    bias: Vec<f64>,
    lengths: Vec<Index>,
}

impl Given {
    fn new(sequence: Sequence) -> Self {
        let Sequence { cell, batch, time, hidden, .. } = sequence;
        let width = cell.gates() * hidden;
        let lengths = (0..batch).map(|i| ((i * 7 + 2) % (time + 1)) as Index).collect();
        Given {
            sequence,
            pre: numbers(batch * time * width, 1),
            wh: numbers(hidden * width, 2),
            initial: [3, 4].map(|seed| numbers(batch * hidden, seed)),
            bias: numbers(hidden, 5),
            lengths,
        }
    }

    fn forward<T: Scalar>(&self, cuts: &[usize]) -> Vec<T> {
        let Sequence { cell, batch, time, hidden, .. } = self.sequence;
        let lit = |x: &[f64]| -> Vec<T> { x.iter().map(|&x| T::lit(x)).collect() };
        let (pre, wh, bias) = (lit(&self.pre), lit(&self.wh), lit(&self.bias));
        let initial = [lit(&self.initial[0]), lit(&self.initial[1])];
        let inputs = Inputs {
            pre: &pre,
            wh: &wh,
            initial: [Some(&initial[0]), (cell == Cell::Lstm).then_some(&*initial[1])],
            bias: (cell == Cell::Gru).then_some(&bias),
            lengths: Some(&self.lengths),
        };
        // What memory holds before is arbitrary; NaN shows if it is read.
        let mut packed = vec![T::lit(f64::NAN); batch * (time + 1) * cell.packed() * hidden];
        for part in parts(Runs::new(&mut packed, batch), cuts) {
            let mut scratch = vec![T::lit(f64::NAN); self.sequence.scratch::<T>()];
            self.sequence.forward(&inputs, part, &mut scratch);
        }
        packed
    }

    /// The states after all steps as the equations say, sample by sample.
    fn expected(&self, row: usize) -> [Vec<f64>; 2] {
        let Sequence { cell, batch, time, hidden, reversed } = self.sequence;
        let state = |x: &[f64]| -> Vec<f64> { (0..hidden).map(|j| x[row + batch * j]).collect() };
        let [mut h, mut c] = [state(&self.initial[0]), state(&self.initial[1])];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for s in 0..time {
            let t = if reversed { time - 1 - s } else { s };
            if t >= self.lengths[row] as usize {
                continue;
            }
            let before = h.clone();
            for j in 0..hidden {
                let a = |g: usize| self.pre[row + batch * (t + time * (g * hidden + j))];
                let product = |g: usize| -> f64 {
                    (0..hidden).map(|k| before[k] * self.wh[k + hidden * (g * hidden + j)]).sum()
                };
                let gate = |g: usize| a(g) + product(g);
                h[j] = match cell {
                    Cell::Lstm => {
                        c[j] = sigmoid(gate(1)) * c[j] + sigmoid(gate(0)) * gate(2).tanh();
                        sigmoid(gate(3)) * c[j].tanh()
                    }
                    Cell::Gru => {
                        let (r, z) = (sigmoid(gate(0)), sigmoid(gate(1)));
                        let n = (a(2) + r * (product(2) + self.bias[j])).tanh();
                        (1.0 - z) * n + z * before[j]
                    }
                    Cell::Tanh => gate(0).tanh(),
                    Cell::Relu => gate(0).max(0.0),
                };
            }
        }
        [h, c]
    }

    fn last<T: Scalar>(&self, packed: &[T], state: usize, row: usize, j: usize) -> f64 {
        let Sequence { cell, batch, hidden, .. } = self.sequence;
        let columns = cell.packed() * hidden;
        packed[row + batch * (state * hidden + j + columns * self.sequence.last())].to_f64()
    }

    /// ⟨ct, outputs and last states⟩ and the cotangents of what enters each step.
    fn backward<T: Scalar>(&self, ct: &[f64], cuts: &[usize]) -> (f64, Vec<T>) {
        let Sequence { cell, batch, time, hidden, .. } = self.sequence;
        let (packed, read) = (self.forward::<T>(&[]), Read::OutputsAndLast);
        let [wh, own_ct] = [&self.wh, ct].map(|x| x.iter().map(|&x| T::lit(x)).collect::<Vec<_>>());
        let mut outputs = vec![T::lit(f64::NAN); ct.len()];
        self.sequence.read(read, &packed, Some(&self.lengths), 0..hidden, &mut outputs);
        let cotangent = Cotangent {
            packed: &packed,
            wh: &wh,
            lengths: Some(&self.lengths),
            ct: &own_ct,
            read,
            states: true,
        };
        let mut y = vec![T::lit(f64::NAN); batch * (time + 1) * cell.cotangents() * hidden];
        for part in parts(Runs::new(&mut y, batch), cuts) {
            let mut scratch = vec![T::lit(f64::NAN); self.sequence.scratch_of_backward::<T>()];
            self.sequence.backward(&cotangent, part, &mut scratch);
        }
        (outputs.iter().zip(ct).map(|(y, ct)| y.to_f64() * ct).sum(), y)
    }
}

fn sequences() -> impl Iterator<Item = Sequence> {
    [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu].into_iter().flat_map(|cell| {
        [(1, 2, 1), (3, 3, 5), (8, 1, 17), (33, 2, 40), (66, 3, 9)].into_iter().map(
            move |(batch, time, hidden)| {
                let reversed = hidden % 2 == 0 || batch == 3;
                Sequence { cell, batch, time, hidden, reversed }
            },
        )
    })
}

#[test]
fn states_are_those_of_the_equations_at_every_level() {
    for sequence in sequences() {
        let given = Given::new(sequence);
        Cpu::for_each(|cpu| {
            let (double, single) = (given.forward::<f64>(&[]), given.forward::<f32>(&[]));
            assert!(double.iter().all(|x| !x.is_nan()), "{sequence:?} {cpu:?}");
            for row in 0..sequence.batch {
                let want = given.expected(row);
                for (state, want) in want.iter().enumerate().take(sequence.cell.states()) {
                    for (j, want) in want.iter().enumerate() {
                        let size = want.abs().max(1.0);
                        let got = given.last(&double, state, row, j);
                        assert!(
                            (got - want).abs() < 1e-12 * size,
                            "{sequence:?} {cpu:?} {row} {j}"
                        );
                        let got = given.last(&single, state, row, j);
                        assert!((got - want).abs() < 1e-4 * size, "{sequence:?} {cpu:?} {row} {j}");
                    }
                }
            }
        });
    }
}

#[test]
fn gradients_are_those_of_differences_at_every_level() {
    for sequence in sequences().filter(|s| s.cell != Cell::Relu && s.batch < 66) {
        let mut given = Given::new(sequence);
        let Sequence { batch, time, hidden, .. } = sequence;
        let positions = sequence.read_positions(Read::OutputsAndLast);
        let ct = numbers(batch * positions * hidden, 6);
        let mut levels = vec![];
        Cpu::for_each(|_| levels.push(given.backward::<f64>(&ct, &[]).1));
        for level in &levels {
            assert!(level.iter().zip(&levels[0]).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        // Along a direction of the pre-activations, then of the first h.
        let direction = numbers(given.pre.len(), 7);
        let (mut want, step) = (0.0, 1e-5);
        for sign in [1.0, -1.0] {
            let pre = given.pre.clone();
            given.pre.iter_mut().zip(&direction).for_each(|(x, d)| *x += sign * step * d);
            want += sign * given.backward::<f64>(&ct, &[]).0 / (2.0 * step);
            given.pre = pre;
        }
        let mut got = 0.0;
        for (i, d) in direction.iter().enumerate() {
            let (row, column) = (i % (batch * time), i / (batch * time));
            got += d * levels[0][row + batch * (time + 1) * column];
        }
        assert!((got - want).abs() < 1e-7 * want.abs().max(1.0), "{sequence:?} {got} {want}");

        let direction = numbers(batch * hidden, 8);
        let mut want = 0.0;
        for sign in [1.0, -1.0] {
            let h = given.initial[0].clone();
            given.initial[0].iter_mut().zip(&direction).for_each(|(x, d)| *x += sign * step * d);
            want += sign * given.backward::<f64>(&ct, &[]).0 / (2.0 * step);
            given.initial[0] = h;
        }
        let place = |i: usize| i % batch + batch * (time + (time + 1) * (i / batch));
        let got: f64 = direction.iter().enumerate().map(|(i, d)| d * levels[0][place(i)]).sum();
        assert!((got - want).abs() < 1e-7 * want.abs().max(1.0), "{sequence:?} {got} {want}");
    }
}

#[test]
fn parts_have_the_bits_of_the_whole_at_every_level() {
    // Rows within a block and of several, the last of a few; blocks of columns with one left over.
    let extents =
        [(33, 3, 17, &[16, 32][..]), (100, 2, 17, &[16, 80]), (130, 2, 5, &[48, 64, 128])];
    for (cell, (batch, time, hidden, cuts)) in [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu]
        .into_iter()
        .flat_map(|cell| extents.map(|extents| (cell, extents)))
    {
        let sequence = Sequence { cell, batch, time, hidden, reversed: batch == 100 };
        let given = Given::new(sequence);
        let ct = numbers(batch * sequence.read_positions(Read::OutputsAndLast) * hidden, 6);
        Cpu::for_each(|cpu| {
            let same = |cuts: &[usize]| {
                given.forward::<f32>(&[]) == given.forward::<f32>(cuts)
                    && given.forward::<f64>(&[]) == given.forward::<f64>(cuts)
                    && given.backward::<f32>(&ct, &[]).1 == given.backward::<f32>(&ct, cuts).1
                    && given.backward::<f64>(&ct, &[]).1 == given.backward::<f64>(&ct, cuts).1
            };
            assert!(same(cuts), "{sequence:?} cut at {cuts:?}, {cpu:?}");
        });
    }
}
