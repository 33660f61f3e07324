//! The convolutional workloads. A classifier folds its image by columns, the benchmark by rows:
//! instead of moving numbers in every step, its weights start in the order of ours.

use crate::models::{Parameters, Workload, labeled};
use gradtape::optim::{Adam, Sgd};
use gradtape::{ANY, Conv, Expr, Padding, Pool, Result, Tape};

pub fn lenet() -> Result<Workload> {
    let network: Network = |p, x| {
        let h = convolved(p, x, [5, 5, 1, 6], 2)?.max_pool2d(HALF);
        let h = convolved(p, h, [5, 5, 6, 16], 0)?.max_pool2d(HALF);
        let h = p.dense(h, &[5, 5, 16, 120])?.relu();
        let h = p.dense(h, &[120, 84])?.relu();
        p.dense(h, &[84, 10])
    };
    classifier([28, 28, 1], (64, 8), 20, network, |loss| {
        Sgd::new(0.05).with_momentum(0.9).minimize(loss)
    })
}

pub fn cifar() -> Result<Workload> {
    let network: Network = |p, x| {
        let h = convolved(p, x, [3, 3, 3, 32], 1)?;
        let h = convolved(p, h, [3, 3, 32, 64], 1)?.max_pool2d(HALF);
        let h = convolved(p, h, [3, 3, 64, 64], 1)?.max_pool2d(HALF);
        p.dense(h, &[8, 8, 64, 10])
    };
    classifier([32, 32, 3], (32, 4), 10, network, |loss| Adam::new(1e-3).minimize(loss))
}

/// From the images to the classes.
type Network = for<'t> fn(&mut Parameters<'t>, Expr<'t, f32>) -> Result<Expr<'t, f32>>;

const HALF: Pool = Pool::new([2, 2]);

/// A convolution with its bias and relu.
fn convolved<'t>(
    p: &mut Parameters<'t>,
    x: Expr<'t, f32>,
    shape: [usize; 4],
    border: usize,
) -> Result<Expr<'t, f32>> {
    let [w, b] = p.next(&shape)?;
    let conv = Conv::padded(Padding::Explicit([(border, border); 2]));
    Ok((x.conv2d(w, conv) + b).relu())
}

fn classifier(
    image: [usize; 3],
    (rows, n_batches): (usize, usize),
    k: usize,
    network: Network,
    minimize: for<'t> fn(Expr<'t, f32>) -> Result<Expr<'t, f32>>,
) -> Result<Workload> {
    let tape = Tape::new();
    let [height, width, channels] = image;
    let x = tape.placeholder("x", [ANY, height, width, channels]);
    let y = tape.index_placeholder("y", [ANY]);
    let z = network(&mut Parameters::new(&tape), x)?;
    let loss = z.softmax_cross_entropy(y).mean();
    let fetches = vec![loss.into(), minimize(loss)?.into()];
    let (inputs, batches) = (vec![x.into(), y.into()], labeled(&image, 10, rows, n_batches)?);
    Ok(Workload { fetches, k, trains: true, inputs, batches, directions: vec![], tape })
}
