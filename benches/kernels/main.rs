//! Kernels beside what the core can do: each one through a small tape, so as a plan runs it. One
//! thread, f32; the least time of several chunks. `cargo bench --bench kernels [filter]`.

mod peaks;

use gradtape::data::Dataset;
use gradtape::io::Idx;
use gradtape::optim::{
    AdaGrad, Adadelta, Adam, Adamax, AmsGrad, Asgd, Averaged, Lamb, Lion, NAdam, RmsProp, Rprop,
    Sgd,
};
use gradtape::{
    Arg, Cotangents, Expr, Feed, Fetch, Index, Out, Placeholder, Primitive, Result, RowRule,
    Session, Shape, Tape, Tensor, Vjp,
};
use peaks::Peaks;
use std::time::Instant;

#[allow(unused_imports)] // by the tests in cpu.rs
use gradtape::Scalar;

// What chooses the CPU's level is private to the crate: the bench compiles it from its source.
#[allow(dead_code, unused_imports)]
#[path = "../../src/kernel"]
mod kernel {
    pub mod cpu;
}

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let table = Table { peaks: Peaks::measure(), filter };
    table.peaks.print();
    println!("\n{:<34}{:>11}{:>10}{:>8}{:>8}", "", "µs", "GFLOP/s", "GB/s", "% peak");
    table.tape("a run of an op of nothing", 0, &[&[1]], |x| x[0])?;
    table.tape("a run of 1000 ops of nothing", 0, &[&[1]], |x| {
        (0..1000).fold(x[0], |x, _| x.tape().custom(Sink, &[x]))
    })?;
    reductions(&table)?;
    loops(&table)?;
    products(&table)?;
    softmax(&table)?;
    permutations(&table)?;
    updates(&table)?;
    gather(&table)
}

fn reductions(table: &Table) -> Result<()> {
    for (m, n) in [(100, 100), (1000, 1000), (4000, 4000)] {
        let shape: &[usize] = &[m, n];
        table.tape(&format!("sum {m}x{n}"), m * n, &[shape], |x| x[0].sum())?;
        for axis in [0, 1] {
            let name = format!("sum {m}x{n} axis {axis}");
            table.tape(&name, m * n, &[shape], |x| x[0].sum_axes(&[axis]))?;
        }
        table.tape(&format!("max {m}x{n} axis 1"), m * n, &[shape], |x| x[0].max_axes(&[1]))?;
    }
    table.tape("sum 128x10 axis 0", 1280, &[&[128, 10]], |x| x[0].sum_axes(&[0]))
}

type Formula = for<'t> fn(&[Expr<'t, f32>]) -> Expr<'t, f32>;

fn loops(table: &Table) -> Result<()> {
    const CHEAP: [(&str, usize, Formula); 3] = [
        ("a + b", 1, |x| x[0] + x[1]),
        ("relu((a + b) * c)", 3, |x| ((x[0] + x[1]) * x[2]).relu()),
        ("((a+b)*c-a)^2/(1+b^2)", 7, |x| {
            ((x[0] + x[1]) * x[2] - x[0]).square() / (1.0 + x[1].square())
        }),
    ];
    const FUNCTIONS: [(&str, Formula); 9] = [
        ("exp", |x| x[0].exp()),
        ("log", |x| x[0].abs().log()),
        ("tanh", |x| x[0].tanh()),
        ("sigmoid", |x| x[0].sigmoid()),
        ("sin", |x| x[0].sin()),
        ("erf", |x| x[0].erf()),
        ("sqrt", |x| x[0].abs().sqrt()),
        ("softplus", |x| x[0].softplus()),
        ("pow 2.5", |x| x[0].abs().pow(2.5)),
    ];
    for n in [1_000, 10_000, 1_000_000] {
        for (name, flops, formula) in CHEAP {
            let reads = if name.contains('c') { 3 } else { 2 };
            let extents = [n];
            let inputs = &[&extents[..]; 3][..reads];
            table.tape(&format!("{name} {n}"), flops * n, inputs, formula)?;
        }
    }
    for (name, formula) in FUNCTIONS {
        // Counted as one operation each: the column reads as 10⁹ values a second.
        table.tape(&format!("{name} 10000"), 10_000, &[&[10_000]], formula)?;
    }
    let n = 1_000;
    let add: Formula = |x| x[0] + x[1];
    table.tape("matrix 1000x1000 + row", n * n, &[&[n, n], &[n]], add)?;
    table.tape("matrix 1000x1000 + column", n * n, &[&[n, n], &[n, 1]], add)
}

fn products(table: &Table) -> Result<()> {
    let product: Formula = |x| x[0].matmul(x[1]);
    let transposed: Formula = |x| x[0].t().matmul(x[1]);
    for (m, n) in [(128, 784), (1000, 1000), (4096, 4096), (100_000, 100)] {
        let flops = 2 * m * n;
        table.tape(&format!("A x, {m}x{n}"), flops, &[&[m, n], &[n]], product)?;
        table.tape(&format!("Aᵀ x, {m}x{n}"), flops, &[&[m, n], &[m]], transposed)?;
        table.tape(&format!("x A, {m}x{n}"), flops, &[&[m], &[m, n]], product)?;
    }
    for n in [100, 1000] {
        let outer: Formula = |x| x[0].outer(x[1]);
        table.tape(&format!("outer product {n}x{n}"), n * n, &[&[n], &[n]], outer)?;
    }
    for (batch, m, k, n) in [(1, 16, 4, 16), (128, 16, 16, 16), (32, 64, 32, 64)] {
        let name = format!("{batch} products {m}x{k}x{n}");
        let shapes: [&[usize]; 2] = [&[batch, m, k], &[batch, k, n]];
        table.tape(&name, 2 * batch * m * k * n, &shapes, product)?;
    }
    Ok(())
}

fn softmax(table: &Table) -> Result<()> {
    for (m, n, axis) in [(128, 10, 1), (1000, 1000, 1), (1000, 1000, 0)] {
        let name = format!("softmax {m}x{n} axis {axis}");
        table.tape(&name, 4 * m * n, &[&[m, n]], |x| x[0].softmax(axis))?;
        let name = format!("logsumexp {m}x{n} axis {axis}");
        table.tape(&name, 3 * m * n, &[&[m, n]], |x| x[0].logsumexp(axis))?;
    }
    Ok(())
}

fn permutations(table: &Table) -> Result<()> {
    for n in [100, 1000, 4000] {
        table.tape(&format!("transpose {n}x{n}"), 0, &[&[n, n]], |x| x[0].t())?;
    }
    for axes in [[0, 2, 1], [2, 0, 1], [2, 1, 0]] {
        let name = format!("permute 64x128x100 {axes:?}");
        table.tape(&name, 0, &[&[64, 128, 100]], |x| x[0].permute(&axes))?;
    }
    Ok(())
}

/// Of loss = w · g, so that the gradient is copied from what is fed.
fn updates(table: &Table) -> Result<()> {
    for n in [10_000, 1_000_000, 8_000_000] {
        let (g, tape) = (Tensor::full([n], 1e-3)?, Tape::<f32>::new());
        let fed = tape.placeholder("g", [n]);
        let loss = (tape.variable("w", Tensor::zeros([n])?) * fed).sum();
        let feeds = [fed.feed(&g)];
        let (adam, sgd) = (Adam::new(1e-3).minimize(loss)?, Sgd::new(1e-3).minimize(loss)?);
        let floats = |words: usize| words * n * size_of::<f32>();
        table.plan(
            &format!("Adam {n}"),
            12 * n,
            [floats(4), floats(3)],
            &tape,
            adam.into(),
            &feeds,
        )?;
        table.plan(
            &format!("SGD {n}"),
            2 * n,
            [floats(2), floats(1)],
            &tape,
            sgd.into(),
            &feeds,
        )?;
    }
    // The other rules: name, FLOPs a parameter, slots that are read and written.
    let n = 1_000_000;
    let (g, tape) = (Tensor::full([n], 1e-3)?, Tape::<f32>::new());
    let fed = tape.placeholder("g", [n]);
    let loss = (tape.variable("w", Tensor::zeros([n])?) * fed).sum();
    for (name, flops, slots, train) in [
        ("AMSGrad", 14, 3, AmsGrad::new(1e-3).minimize(loss)?),
        ("NAdam", 15, 2, NAdam::new(1e-3).minimize(loss)?),
        ("Adamax", 9, 2, Adamax::new(1e-3).minimize(loss)?),
        ("LAMB", 30, 2, Lamb::new(1e-3).minimize(loss)?),
        ("RMSProp", 9, 1, RmsProp::new(1e-3).minimize(loss)?),
        ("AdaGrad", 8, 1, AdaGrad::new(1e-3).minimize(loss)?),
        ("Adadelta", 15, 2, Adadelta::new(1.0).minimize(loss)?),
        ("Rprop", 5, 2, Rprop::new(1e-3).minimize(loss)?),
        ("ASGD", 6, 1, Asgd::new(1e-3).minimize(loss)?),
        ("Lion", 9, 1, Lion::new(1e-3).minimize(loss)?),
        ("Adam, averaged", 15, 3, Averaged::exponential(Adam::new(1e-3), 0.999).minimize(loss)?),
    ] {
        let moved = [2 + slots, 1 + slots].map(|words: usize| words * n * size_of::<f32>());
        table.plan(
            &format!("{name} {n}"),
            flops * n,
            moved,
            &tape,
            train.into(),
            &[fed.feed(&g)],
        )?;
    }
    Ok(())
}

/// Batches of a data set of MNIST's size, kept as bytes and as floats.
fn gather(table: &Table) -> Result<()> {
    let mut file = vec![0, 0, 8, 3, 0, 0, 0xEA, 0x60, 0, 0, 0, 28, 0, 0, 0, 28];
    let samples = 60_000;
    file.extend((0..samples * 784).map(|i| (i % 251) as u8));
    let labels = Tensor::vector(vec![0 as Index; samples]);
    let bytes = Dataset::<f32, Index>::from_idx(Idx::from_bytes(&file)?, 1.0 / 255.0, labels)?;
    let x = Tensor::full([10_000, 784], 0.5)?;
    let floats = Dataset::<f32, Index>::new(x, Tensor::vector(vec![0; 10_000]))?;
    for (name, data, element) in [("bytes", bytes, 1), ("floats", floats, 4)] {
        let (mut x, mut y) = Default::default();
        let mut next = 0;
        let mut rows = [0 as Index; 128];
        let moved = [128 * 784 * element, 128 * 784 * size_of::<f32>()];
        let all = data.len() * 784 * element;
        table.row(&format!("gather 128 rows of {name}"), 0, moved, all, || {
            for row in &mut rows {
                next = (next + 7919) % data.len();
                *row = next as Index;
            }
            data.gather_into(&rows, &mut x, &mut y)
        })?;
    }
    Ok(())
}

/// Reads nothing of its input, which a plan computes all the same: no fetch has to copy it.
#[derive(Debug)]
struct Sink;

impl Primitive<f32> for Sink {
    fn name(&self) -> &str {
        "sink"
    }
    fn shape(&self, _: &[Shape]) -> Result<Shape> {
        Ok(Shape::SCALAR)
    }
    fn forward(&self, _: &[Arg<'_, f32>], y: Out<'_, f32>, _: &mut [f32]) -> Result<()> {
        y.float().fill(0.0);
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Mixes
    }
    fn vjp<'t>(&self, _: Vjp<'_, 't, f32>) -> Result<Cotangents<'t, f32>> {
        Ok(vec![None])
    }
}

struct Table {
    peaks: Peaks,
    filter: String,
}

impl Table {
    /// What is recorded over inputs of these shapes.
    fn tape(
        &self,
        name: &str,
        flops: usize,
        inputs: &[&[usize]],
        record: impl for<'t> Fn(&[Expr<'t, f32>]) -> Expr<'t, f32>,
    ) -> Result<()> {
        if !name.contains(&self.filter) {
            return Ok(());
        }
        let tape = Tape::<f32>::new();
        let mut fed = Vec::new();
        for shape in inputs {
            let shape = Shape::new(shape)?;
            // Numbers of both signs, in no order that a branch could learn.
            let mut i = 0u32;
            let value = Tensor::from_fn(shape, |_| {
                i = i.wrapping_add(0x9E37_79B9);
                (i >> 8) as f32 / (1 << 22) as f32 - 2.0
            })?;
            fed.push((tape.placeholder("x", shape), value));
        }
        let value = record(&fed.iter().map(|f| f.0).collect::<Vec<_>>());
        let floats = |n: usize| n * size_of::<f32>();
        let moved = [floats(fed.iter().map(|f| f.1.len()).sum()), floats(value.shape().len())];
        let fetch = tape.custom(Sink, &[value]).into();
        let feeds: Vec<_> =
            fed.iter().map(|(x, value)| Placeholder::from(*x).feed(value)).collect();
        self.plan(name, flops, moved, &tape, fetch, &feeds)
    }

    /// A plan that reads and writes so many bytes, each once.
    fn plan(
        &self,
        name: &str,
        flops: usize,
        moved: [usize; 2],
        tape: &Tape<f32>,
        fetch: Fetch,
        feeds: &[Feed<'_, f32>],
    ) -> Result<()> {
        let (mut session, mut out) = (Session::new(tape)?, Tensor::default());
        self.row(name, flops, moved, moved[0] + moved[1], || {
            session.run_into(fetch, feeds, &mut out)
        })
    }

    /// With the bytes read and written and those that are touched from call to call.
    fn row(
        &self,
        name: &str,
        flops: usize,
        [read, written]: [usize; 2],
        working_set: usize,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        if !name.contains(&self.filter) {
            return Ok(());
        }
        run()?;
        let mut ran = Ok(());
        let seconds = least_seconds(&mut || ran = run());
        ran?;
        let bytes = (read + written) as f64;
        let level = self.peaks.level(working_set);
        let rate = if 4 * written < read { level.read } else { level.copy };
        let floor = (flops as f64 / self.peaks.flops).max(bytes / rate) * 1e-9;
        let (gflops, gbs) = (flops as f64 / seconds * 1e-9, bytes / seconds * 1e-9);
        let (us, peak) = (seconds * 1e6, 100.0 * floor / seconds);
        println!("{name:<34}{us:>11.2}{gflops:>10.1}{gbs:>8.1}{peak:>8.0}");
        Ok(())
    }
}

/// The seconds a call takes in the fastest of some chunks of milliseconds.
fn least_seconds(run: &mut dyn FnMut()) -> f64 {
    let mut time = |reps: usize| {
        let start = Instant::now();
        (0..reps).for_each(|_| run());
        start.elapsed().as_secs_f64() / reps as f64
    };
    time(1);
    let reps = (0.001 / time(1)).ceil() as usize;
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < 0.3 {
        least = time(reps).min(least);
    }
    least
}
