//! How long it takes to record, differentiate and compile tapes of many nodes.
//!
//!     cargo bench --bench compile

use gradtape::optim::Adam;
use gradtape::{ANY, Result, Session, Tape, Tensor};
use std::time::Instant;

/// Milliseconds: the least of some tries.
fn least<R>(mut f: impl FnMut() -> Result<R>) -> Result<(f64, R)> {
    let (mut best, mut value) = (f64::INFINITY, None);
    for _ in 0..9 {
        let start = Instant::now();
        let result = f()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        value = Some(result);
    }
    Ok((best, value.unwrap_or(f()?)))
}

fn main() -> Result<()> {
    println!(
        "{:>7} {:>7} {:>7} {:>10} {:>10}",
        "layers", "nodes", "kernels", "record ms", "compile ms"
    );
    for layers in [1, 10, 100, 120, 1000] {
        let record = || {
            let tape = Tape::<f32>::new();
            let x = tape.placeholder("x", [ANY, 8]);
            let mut h = x;
            for _ in 0..layers {
                let w = tape.variable("w", Tensor::full([8, 8], 0.1)?);
                let b = tape.variable("b", Tensor::zeros([8])?);
                h = (h.matmul(w) + b).tanh();
            }
            let loss = h.square().mean();
            let train = Adam::new(1e-3).minimize(loss)?;
            let handles: (gradtape::Placeholder, gradtape::Fetch, gradtape::Fetch) =
                (x.into(), loss.into(), train.into());
            Ok((tape, handles))
        };
        let (record_ms, (tape, (x, loss, train))) = least(record)?;
        let batch = Tensor::full([16, 8], 0.5)?;
        let compile = || Session::new(&tape)?.report((loss, train), &[x.feed(&batch)]);
        let (compile_ms, report) = least(compile)?;
        let (nodes, kernels) = (report.nodes_recorded, report.kernels);
        println!("{layers:7} {nodes:7} {kernels:7} {record_ms:10.2} {compile_ms:10.2}");
    }
    Ok(())
}
