//! One block of a transformer over tokens: embeddings, causal attention, a dense part, logits.

use crate::data;
use crate::models::{Value, Workload};
use gradtape::optim::Adam;
use gradtape::{ANY, Attention, Expr, IndexExpr, Result, Tape, Tensor};

const ROWS: usize = 16;
const TIME: usize = 64;
const FEATURES: usize = 128;
const HEADS: usize = 4;
const TOKENS: usize = 64;

pub fn workload() -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let x = tape.index_placeholder("x", [ANY, TIME]);
    let y = tape.index_placeholder("y", [ANY, TIME]);
    let logits = model(&tape, x)?;
    let loss = logits.softmax_cross_entropy(y).mean();
    let fetches = vec![loss.into(), Adam::new(1e-3).minimize(loss)?.into()];
    let (inputs, batches) = (vec![x.into(), y.into()], data::tokens(ROWS, TIME, TOKENS)?);
    let batches = batches.into_iter().map(|b| b.map(Value::Index).into()).collect();
    Ok(Workload { fetches, k: 50, trains: true, inputs, batches, directions: vec![], tape })
}

fn model<'t>(tape: &'t Tape<f32>, tokens: IndexExpr<'t, f32>) -> Result<Expr<'t, f32>> {
    let embedding = |p, name, rows| -> Result<_> {
        Ok(tape.variable(name, data::reals(data::WEIGHTS + p, 0, 1.0, &[rows, FEATURES])?))
    };
    let dense = |x: Expr<'t, f32>, p, io: [usize; 2]| -> Result<_> {
        let w = tape.variable("w", data::weights(p, io)?);
        Ok(x.matmul(w) + tape.variable("b", Tensor::zeros([io[1]])?))
    };
    let norm = |x: Expr<'t, f32>| -> Result<_> {
        let gain = tape.variable("gain", Tensor::full([FEATURES], 1.0)?);
        Ok(x.standardize(&[-1], 1e-5) * gain + tape.variable("bias", Tensor::zeros([FEATURES])?))
    };
    let mut h = embedding(0, "tokens", TOKENS)?.take(0, tokens) + embedding(1, "places", TIME)?;
    let qkv = dense(norm(h)?, 4, [FEATURES, 3 * FEATURES])?;
    h = h + dense(
        qkv.self_attention(None, Attention::new(HEADS).causal()),
        6,
        [FEATURES, FEATURES],
    )?;
    let wide = dense(norm(h)?, 10, [FEATURES, 4 * FEATURES])?.gelu_tanh();
    h = h + dense(wide, 12, [4 * FEATURES, FEATURES])?;
    dense(norm(h)?, 16, [FEATURES, TOKENS])
}
