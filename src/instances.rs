//! What nearly every program calls, compiled here for both types of numbers: debug builds of
//! programs, tests and examples find it in this crate and need not compile it once more each.

use crate::error::Result;
use crate::optim::{Adam, Sgd};
use crate::plan::Passes;
use crate::run::{Notes, Session};
use crate::scalar::Scalar;
use crate::tape::{Expr, Feed, Tape};
use crate::tensor::Tensor;

/// Never called; that it could be is what compiles all that it names.
fn all_of<T: Scalar>(tape: &Tape<T>, x: Expr<'_, T>, feeds: &[Feed<'_, T>]) -> Result<()> {
    let gradients = tape.gradient(x, &[x])?;
    tape.gradient_allow_unused(x, &[x])?;
    let (sgd, adam) = (Sgd::new(0.1).minimize(x)?, Adam::new(0.1).minimize(x)?);
    let session = Session::new(tape)?.with_passes(Passes::ALL).with_threads(1)?.with_shards(1)?;
    let mut session = session;
    session.run(x, feeds)?;
    session.run((x, sgd), feeds)?;
    session.run((x, adam), feeds)?;
    session.run(&gradients[..], feeds)?;
    session.interpret(x, feeds)?;
    session.report(x, feeds)?.to_string();
    session.trace(x, feeds)?;
    session.save("", &Notes::new())?;
    session.load("")?;
    session.assign(x, &Tensor::default())?;
    session.value(x).map(drop)
}

type All<T> = fn(&Tape<T>, Expr<'_, T>, &[Feed<'_, T>]) -> Result<()>;

#[used]
static COMPILED: (All<f32>, All<f64>) = (all_of::<f32>, all_of::<f64>);
