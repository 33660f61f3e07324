//! The workloads over sequences of characters.

use crate::data;
use crate::models::{Value, Workload};
use gradtape::optim::Adam;
use gradtape::{ANY, Cell, Result, Steps, Tape, Tensor};

const CHARACTERS: usize = 64;
const HIDDEN: usize = 128;
const ROWS: usize = 32;
const STEPS: usize = 32;

/// A recurrent network over embedded characters, and the class of each.
pub fn characters(cell: Cell) -> Result<Workload> {
    let (tape, width) = (Tape::<f32>::new(), cell.gates() * HIDDEN);
    let x = tape.index_placeholder("x", [ANY, STEPS]);
    let y = tape.index_placeholder("y", [ANY, STEPS]);
    let embeddings = data::reals(data::WEIGHTS, 0, 1.0, &[CHARACTERS, CHARACTERS])?;
    let embeddings = tape.variable("embeddings", embeddings);
    let wx = tape.variable("wx", data::weights(1, &[CHARACTERS, width])?);
    let wh = tape.variable("wh", data::weights(2, &[HIDDEN, width])?);
    let b = tape.variable("b", Tensor::zeros([width])?);
    let wo = tape.variable("wo", data::weights(4, &[HIDDEN, CHARACTERS])?);
    let bo = tape.variable("bo", Tensor::zeros([CHARACTERS])?);
    // There are fewer characters than steps: rows of the product, not a product of rows.
    let pre = (embeddings.matmul(wx) + b).take(0, x);
    let logits = pre.recurrent(cell, wh, &Steps::new()).matmul(wo) + bo;
    let loss = logits.softmax_cross_entropy(y).mean();
    let fetches = vec![loss.into(), Adam::new(1e-3).minimize(loss)?.into()];
    let inputs = vec![x.into(), y.into()];
    let batch = |b| Ok(data::tokens(b, ROWS, STEPS)?.map(Value::Index).into());
    let batches = (0..8).map(batch).collect::<Result<_>>()?;
    Ok(Workload { fetches, k: 50, trains: true, inputs, batches, directions: vec![], tape })
}
