//! One block of a transformer over tokens: embeddings, causal attention, a dense part, logits.

use crate::data;
use crate::models::{Parameters, Value, Workload};
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
    let logits = model(&mut Parameters::new(&tape), x)?;
    let loss = logits.softmax_cross_entropy(y).mean();
    let fetches = vec![loss.into(), Adam::new(1e-3).minimize(loss)?.into()];
    let inputs = vec![x.into(), y.into()];
    let batch = |b| Ok(data::tokens(b, ROWS, TIME)?.map(Value::Index).into());
    let batches = (0..8).map(batch).collect::<Result<_>>()?;
    Ok(Workload { fetches, k: 50, trains: true, inputs, batches, directions: vec![], tape })
}

fn model<'t>(p: &mut Parameters<'t>, tokens: IndexExpr<'t, f32>) -> Result<Expr<'t, f32>> {
    let mut h = embedding(p, TOKENS)?.take(0, tokens) + embedding(p, TIME)?;
    let x = norm(p, h)?;
    let attended =
        dense(p, x, [FEATURES, 3 * FEATURES])?.self_attention(None, Attention::new(HEADS).causal());
    h = h + dense(p, attended, [FEATURES, FEATURES])?;
    let x = norm(p, h)?;
    let wide = dense(p, x, [FEATURES, 4 * FEATURES])?.gelu_tanh();
    h = h + dense(p, wide, [4 * FEATURES, FEATURES])?;
    let x = norm(p, h)?;
    dense(p, x, [FEATURES, TOKENS])
}

fn embedding<'t>(p: &mut Parameters<'t>, rows: usize) -> Result<Expr<'t, f32>> {
    let stream = data::WEIGHTS + p.all.len() as u64;
    let e = p.tape.variable("e", data::reals(stream, 0, 1.0, &[rows, FEATURES])?);
    p.all.push(e);
    Ok(e)
}

fn norm<'t>(p: &mut Parameters<'t>, x: Expr<'t, f32>) -> Result<Expr<'t, f32>> {
    let gain = p.tape.variable("gain", Tensor::full([FEATURES], 1.0)?);
    let bias = p.tape.variable("bias", Tensor::zeros([FEATURES])?);
    p.all.extend([gain, bias]);
    Ok(x.standardize(&[-1], 1e-5) * gain + bias)
}

fn dense<'t>(
    p: &mut Parameters<'t>,
    x: Expr<'t, f32>,
    extents: [usize; 2],
) -> Result<Expr<'t, f32>> {
    let [w, b] = p.next(&extents)?;
    Ok(x.matmul(w) + b)
}
