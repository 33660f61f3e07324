//! Backpropagation through time: the cotangents of what enters each step.

use super::forward::quarters;
use super::{Block, Cell, Cotangent, Read, Rows, Sequence, add_product, cell, cut, ended};
use crate::kernel::gemm::{MatRef, contiguous};
use crate::kernel::math::Elementary;
use crate::kernel::team::Runs;
use crate::scalar::Scalar;

pub(super) fn run<T: Elementary>(
    sequence: &Sequence,
    x: &Cotangent<T>,
    mut y: Runs<T>,
    mut scratch: &mut [T],
) {
    let (hidden, inner) = (sequence.hidden, sequence.cell.gates() * sequence.hidden);
    if hidden == 0 {
        return;
    }
    // Every step multiplies by Whᵀ, whose columns are then contiguous.
    let wh = MatRef::strided(x.wh, (hidden, inner), (1, hidden));
    let transposed = contiguous(wh, cut(&mut scratch, inner * hidden)).t();
    for block in sequence.blocks(y.range()) {
        some_rows(sequence, x, transposed, &block, &mut y, scratch);
    }
}

fn some_rows<T: Elementary>(
    sequence: &Sequence,
    x: &Cotangent<T>,
    transposed: MatRef<T>,
    rows: &Block,
    y: &mut Runs<T>,
    mut scratch: &mut [T],
) {
    let (Sequence { cell, batch, time, hidden, .. }, Block { first, n, whole }) =
        (*sequence, *rows);
    let input = Rows::by_step(first, n, batch, cell.packed() * hidden);
    let read = Rows::over_time(first, n, batch, sequence.read_positions(x.read));
    let output = Rows::over_time(first, n, batch, time + usize::from(x.states));
    let columns = sequence.block_columns(whole);
    let mut dh = cut(&mut scratch, n * hidden);
    let mut dc = cut(&mut scratch, n * hidden);
    let mut new_dh = cut(&mut scratch, n * hidden);
    let mut new_dc = cut(&mut scratch, n * hidden);
    let da = cut(&mut scratch, n * transposed.rows);
    let kept = cut(&mut scratch, 4 * n * columns);
    let rest = cut(&mut scratch, 3 * n * columns);

    for (number, d) in [&mut *dh, &mut *dc].into_iter().enumerate() {
        match x.read {
            Read::OutputsAndLast if number < cell.states() => {
                read.load(x.ct, time + number, 0, d);
            }
            _ => d.fill(T::zero()),
        }
    }
    for (steps_left, step) in (0..time).rev().zip(sequence.steps().rev()) {
        if x.read != Read::Previous {
            add_unless_ended(x, &read, step.at, dh);
        }
        for j in (0..hidden).step_by(columns) {
            let columns = columns.min(hidden - j);
            let (len, block) = (n * columns, n * j..n * (j + columns));
            let mut gates = quarters(kept, len);
            for (number, gate) in gates.iter_mut().enumerate().take(cell.kept()) {
                let column = (cell.states() + number) * hidden + j;
                input.load(x.packed, step.at, column, gate);
            }
            let (before, other) = rest.split_at_mut(n * columns);
            let (after, dn) = other.split_at_mut(n * columns);
            let dn = &mut dn[..len];
            let [k0, k1, k2, k3] = gates.map(|gate| &*gate);
            let (dh_part, dc_part) = (&dh[block.clone()], &dc[block.clone()]);
            let (new_dh, new_dc) = (&mut new_dh[block.clone()], &mut new_dc[block.clone()]);
            let mut of_gates = da.chunks_exact_mut(n * hidden).map(|da| &mut da[block.clone()]);
            let mut d: [&mut [T]; 4] = std::array::from_fn(|_| of_gates.next().unwrap_or_default());
            match cell {
                Cell::Lstm => {
                    input.load(x.packed, step.before, hidden + j, before);
                    input.load(x.packed, step.after, hidden + j, after);
                    new_dh.fill(T::zero());
                    let [d0, d1, d2, d3] = &mut d;
                    cell::lstm_gradient(
                        k0, k1, k2, k3, before, after, dh_part, dc_part, new_dc, d0, d1, d2, d3,
                    );
                }
                Cell::Gru => {
                    input.load(x.packed, step.before, j, before);
                    let [d0, d1, d2, _] = &mut d;
                    cell::gru_gradient(k0, k1, k2, k3, before, dh_part, new_dh, d0, d1, dn, d2);
                }
                Cell::Tanh | Cell::Relu => {
                    input.load(x.packed, step.after, j, after);
                    new_dh.fill(T::zero());
                    match cell {
                        Cell::Relu => cell::relu_gradient(after, dh_part, d[0]),
                        _ => cell::tanh_gradient(after, dh_part, d[0]),
                    }
                }
            }
            ended(x.lengths, &output, step.at, |row| {
                for at in (row..len).step_by(n) {
                    d.iter_mut().take(cell.gates()).for_each(|d| d[at] = T::zero());
                    dn[at] = T::zero();
                    new_dh[at] = dh_part[at];
                    new_dc[at] = dc_part[at];
                }
            });
            for (number, d) in d.iter().enumerate().take(cell.gates()) {
                // Of a GRU, the cotangent of the product n comes last.
                let is_product = cell == Cell::Gru && number == 2;
                let number = if is_product { 3 } else { number };
                output.store(d, step.at, number * hidden + j, y);
            }
            if cell == Cell::Gru {
                output.store(dn, step.at, 2 * hidden + j, y);
            }
        }
        if steps_left > 0 || x.states {
            add_product(rows, da, transposed, new_dh, scratch);
            if x.read == Read::Previous {
                add(&read, x.ct, step.at, new_dh);
            }
        }
        std::mem::swap(&mut dh, &mut new_dh);
        std::mem::swap(&mut dc, &mut new_dc);
    }
    if x.states {
        output.store(dh, time, 0, y);
        if cell == Cell::Lstm {
            output.store(dc, time, hidden, y);
        }
        let used = cell.states();
        output.clear(time, used * hidden, (cell.cotangents() - used) * hidden, y);
    }
}

/// dh += the cotangent of h after the step at `at`, which is 0 where the sequence has ended.
fn add_unless_ended<T: Scalar>(x: &Cotangent<T>, read: &Rows, at: usize, dh: &mut [T]) {
    let Some(lengths) = x.lengths else { return add(read, x.ct, at, dh) };
    let lengths = &lengths[read.first..][..read.n];
    let (from, step) = read.place(at, 0);
    for (j, dh) in dh.chunks_exact_mut(read.n).enumerate() {
        let ct = &x.ct[from + j * step..];
        for ((dh, &ct), _) in dh.iter_mut().zip(ct).zip(lengths).filter(|(_, n)| at < **n as usize)
        {
            *dh += ct;
        }
    }
}

/// dh += what is at this position of the cotangent.
fn add<T: Scalar>(read: &Rows, ct: &[T], at: usize, dh: &mut [T]) {
    let (from, step) = read.place(at, 0);
    for (j, dh) in dh.chunks_exact_mut(read.n).enumerate() {
        dh.iter_mut().zip(&ct[from + j * step..]).for_each(|(dh, &ct)| *dh += ct);
    }
}
