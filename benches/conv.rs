//! Convolutions of small networks and their gradients: µs and GFLOP/s, one thread, medians.
//! `cargo bench --bench conv [filter]`; GRADTAPE_CPU=avx2|portable lowers the instructions.

use gradtape::{Conv, Expr, Pool, Result, Session, Tape, Tensor};
use std::hint::black_box;
use std::time::Instant;

/// name, [batch, rows, columns, channels], [rows, columns, outputs] of the window, padding
type Case = (&'static str, [usize; 4], [usize; 3], Conv<2>);

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let cases: [Case; 5] = [
        ("lenet 1", [64, 28, 28, 1], [5, 5, 6], Conv::same()),
        ("lenet 2", [64, 14, 14, 6], [5, 5, 16], Conv::valid()),
        ("cifar 1", [32, 32, 32, 3], [3, 3, 32], Conv::same()),
        ("cifar 2", [32, 32, 32, 32], [3, 3, 64], Conv::same()),
        ("cifar 3", [32, 16, 16, 64], [3, 3, 64], Conv::same()),
    ];
    println!("{:<10}{:>26}{:>26}{:>26}", "µs GFLOP/s", "value", "gradient of x", "of w");
    for (name, image, [p, q, outputs], conv) in cases {
        if name.contains(&filter) {
            let (tape, weights) = (Tape::<f32>::new(), [p, q, image[3], outputs]);
            let (x, w) = (tape.variable("x", tensor(image)?), tape.variable("w", tensor(weights)?));
            let y = x.conv2d(w, conv);
            let extents: [usize; 4] = y.shape().extents().try_into().expect("an image");
            let ct = tape.variable("ct", tensor(extents)?);
            let g = tape.vjp(y, ct, &[x, w])?;
            let flops = 2.0 * (y.shape().len() * p * q * image[3]) as f64;
            print!("{name:<10}");
            for value in [Some(y), g[0], g[1]].into_iter().flatten() {
                let us = time(&tape, value)?;
                print!("{us:>16.1}{:>10.1}", flops / us / 1e3);
            }
            println!();
        }
    }
    for (name, image) in [("pool 1", [64, 28, 28, 6]), ("pool 2", [32, 32, 32, 64])] {
        if name.contains(&filter) {
            let tape = Tape::<f32>::new();
            let x = tape.variable("x", tensor(image)?);
            let y = x.max_pool2d(Pool::new([2, 2]));
            let [b, h, w, c] = image;
            let ct = tape.variable("ct", tensor([b, h / 2, w / 2, c])?);
            let g = tape.vjp(y, ct, &[x])?;
            print!("{name:<10}");
            for value in [Some(y), g[0]].into_iter().flatten() {
                print!("{:>16.1}{:>10}", time(&tape, value)?, "");
            }
            println!();
        }
    }
    Ok(())
}

fn tensor(shape: [usize; 4]) -> Result<Tensor<f32>> {
    let mut n = 0u32;
    Tensor::from_fn(shape, |_| {
        n = n.wrapping_mul(1664525).wrapping_add(1013904223);
        (n >> 8) as f32 / 8388608.0 - 1.0
    })
}

/// The median of a run in µs.
fn time(tape: &Tape<f32>, value: Expr<'_, f32>) -> Result<f64> {
    let mut session = Session::new(tape)?;
    let mut out = Tensor::default();
    let mut us = vec![];
    let start = Instant::now();
    while us.len() < 5 || (start.elapsed().as_secs_f64() < 0.5 && us.len() < 1000) {
        let run = Instant::now();
        session.run_into(value, &[], &mut out)?;
        us.push(run.elapsed().as_secs_f64() * 1e6);
        black_box(out.as_slice());
    }
    us.sort_by(f64::total_cmp);
    Ok(us[us.len() / 2])
}
