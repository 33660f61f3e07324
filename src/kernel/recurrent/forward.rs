//! All steps of a sequence, and what its gradient will read.

use super::{Block, Cell, Inputs, Rows, Sequence, add_product, cell, cut, ended};
use crate::kernel::gemm::MatRef;
use crate::kernel::math::Elementary;
use crate::kernel::team::Runs;

pub(super) fn run<T: Elementary>(
    sequence: &Sequence,
    x: &Inputs<T>,
    mut packed: Runs<T>,
    scratch: &mut [T],
) {
    if sequence.hidden == 0 {
        return;
    }
    for block in sequence.blocks(packed.range()) {
        some_rows(sequence, x, &block, &mut packed, scratch);
    }
}

fn some_rows<T: Elementary>(
    sequence: &Sequence,
    x: &Inputs<T>,
    rows: &Block,
    packed: &mut Runs<T>,
    mut scratch: &mut [T],
) {
    let (Sequence { cell, batch, time, hidden, .. }, Block { first, n, whole }) =
        (*sequence, *rows);
    let input = Rows::over_time(first, n, batch, time);
    let output = Rows::by_step(first, n, batch, cell.packed() * hidden);
    let state = Rows::by_step(first, n, batch, hidden);
    let columns = sequence.block_columns(whole);
    let mut h = cut(&mut scratch, n * hidden);
    let mut c = cut(&mut scratch, n * hidden);
    let mut new_h = cut(&mut scratch, n * hidden);
    let mut new_c = cut(&mut scratch, n * hidden);
    let gates = cut(&mut scratch, 4 * n * columns);

    for (number, to) in [&mut *h, &mut *c].into_iter().take(cell.states()).enumerate() {
        match x.initial[number] {
            Some(initial) => state.load(initial, 0, 0, to),
            None => to.fill(T::zero()),
        }
        output.store(to, sequence.first(), number * hidden, packed);
    }
    let mut is_zero = x.initial[0].is_none();
    for step in sequence.steps() {
        for j in (0..hidden).step_by(columns) {
            let columns = columns.min(hidden - j);
            let (len, block) = (n * columns, n * j..n * (j + columns));
            let [a0, a1, a2, a3] = quarters(gates, len);
            // Of a GRU, what r is multiplied by goes apart.
            let mut parts = [a0, a1, a2, a3];
            for (gate, part) in parts.iter_mut().enumerate().take(cell.gates()) {
                input.load(x.pre, step.at, gate * hidden + j, part);
            }
            if cell == Cell::Gru {
                for (at, part) in (j..).zip(parts[3].chunks_exact_mut(n)) {
                    part.fill(x.bias.map_or(T::zero(), |bias| bias[at]));
                }
            }
            for gate in (0..cell.gates()).filter(|_| !is_zero) {
                let part = if cell == Cell::Gru && gate == 2 { 3 } else { gate };
                let weights = &x.wh[hidden * (gate * hidden + j)..];
                let weights = MatRef::strided(weights, (hidden, columns), (1, hidden));
                add_product(rows, h, weights, parts[part], scratch);
            }
            let (h_part, c_part) = (&h[block.clone()], &c[block.clone()]);
            let (new_h, new_c) = (&mut new_h[block.clone()], &mut new_c[block]);
            let [a0, a1, a2, a3] = parts;
            match cell {
                Cell::Lstm => cell::lstm(a0, a1, a2, a3, c_part, new_c, new_h),
                Cell::Gru => cell::gru(a0, a1, a2, a3, h_part, new_h),
                Cell::Tanh => cell::tanh(a0, new_h),
                Cell::Relu => cell::relu(a0, new_h),
            }
            ended(x.lengths, &output, step.at, |row| {
                for at in (row..len).step_by(n) {
                    new_h[at] = h_part[at];
                    new_c[at] = c_part[at];
                }
            });
            for (kept, part) in [&*a0, a1, a2, a3].into_iter().enumerate().take(cell.kept()) {
                let column = (cell.states() + kept) * hidden + j;
                output.store(part, step.at, column, packed);
            }
        }
        std::mem::swap(&mut h, &mut new_h);
        output.store(h, step.after, 0, packed);
        if cell == Cell::Lstm {
            std::mem::swap(&mut c, &mut new_c);
            output.store(c, step.after, hidden, packed);
        }
        is_zero = false;
    }
    // There is one step less than positions.
    output.clear(time, cell.states() * hidden, cell.kept() * hidden, packed);
}

/// The first elements of each quarter.
pub(super) fn quarters<T>(gates: &mut [T], len: usize) -> [&mut [T]; 4] {
    let quarter = gates.len() / 4;
    let (a, b) = gates.split_at_mut(2 * quarter);
    let ((a0, a1), (a2, a3)) = (a.split_at_mut(quarter), b.split_at_mut(quarter));
    [a0, a1, a2, a3].map(|part| &mut part[..len])
}
