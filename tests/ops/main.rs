//! Every op and method on every case: derivatives to second order, plans, shape and batch rules,
//! f32 against f64, values and cotangents from NumPy, SciPy and PyTorch, and what is refused.

mod cases;
mod reference;
mod refused;
mod table;

use cases::{Case, Input};
use gradtape::check::{self, Check};
use gradtape::tape::op::ScalarOp;
use gradtape::{Error, ErrorKind, NodeInfo, Philox, Result, Tape, Tensor};
use std::collections::BTreeSet;

/// The largest relative error of a right derivative in f64, of first and second order.
const TOLERANCE: f64 = 1e-8;

/// The largest relative difference between forward and reverse mode in f64.
const TOLERANCE_FORWARD: f64 = 1e-12;

/// The most by which f32 may differ from f64, relative to the largest element.
const TOLERANCE_F32: f64 = 2e-5;

/// Numbers from the domain of an input, rounded to f32 so that both precisions see the same.
fn draw(input: &Input, rng: &mut Philox) -> Result<Tensor> {
    Tensor::from_fn(input.shape, |_| {
        let (low, high) = input.domain[rng.below(input.domain.len() as u64) as usize];
        let unit = (rng.below(1 << 20) as f64 + 0.5) / f64::from(1 << 20);
        f64::from((low + (high - low) * unit) as f32)
    })
}

fn check_case(case: &Case, seed: u64, ops: &mut BTreeSet<String>) -> Result<()> {
    let mut rng = Philox::new(seed, 1);
    let inputs: Vec<Tensor> =
        case.inputs.iter().map(|i| draw(i, &mut rng)).collect::<Result<_>>()?;
    let check = Check { tolerance: Some(TOLERANCE), seed, ..Check::default() };
    let mut report = check.gradient(&case.wide, &inputs)?;
    if report.unknown_batch != case.open {
        let text = format!("expected an unknown batch to be {}", case.open);
        return Err(Error::new(ErrorKind::Check, text));
    }
    if report.forward > TOLERANCE_FORWARD {
        let text = format!("forward differs from reverse mode by {:.1e}", report.forward);
        return Err(Error::new(ErrorKind::Check, text));
    }
    ops.append(&mut report.ops);
    let inputs: Vec<_> = inputs.iter().map(|x| x.map(|x| x as f32)).collect();
    let error = check::precision(&case.narrow, &case.wide, &inputs)?;
    if error > TOLERANCE_F32 {
        return Err(Error::new(ErrorKind::Check, format!("f32 differs from f64 by {error:.1e}")));
    }
    // Differences of f32 would say little beside that; plans and rules are checked again.
    Check { order: 0, seed, ..check }.gradient(&case.narrow, &inputs)?;
    Ok(())
}

#[test]
fn b1_every_op_on_every_case() {
    let mut ops = BTreeSet::new();
    let failures: Vec<String> = (0u64..)
        .zip(cases::all())
        .filter_map(|(i, case)| {
            let failure = check_case(&case, i, &mut ops).err()?;
            Some(format!("{}: {failure}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n"));
    let missing: Vec<_> = op_names().into_iter().filter(|name| !ops.contains(name)).collect();
    assert!(missing.is_empty(), "ops without a case: {missing:?}");
}

/// Every node, adjoint and tangent ones too, has the line of the user's file that it is recorded
/// for.
#[test]
fn b1_every_node_has_the_users_line() {
    let mut lost = BTreeSet::new();
    for case in cases::all() {
        let tape = Tape::new();
        let x: Vec<_> = case.inputs.iter().map(|i| tape.placeholder("x", i.shape)).collect();
        let y = (case.wide)(&tape, &x);
        let cts = tape.vjp(y, tape.placeholder("ct", y.shape()), &x).unwrap();
        if cts.iter().any(Option::is_some) {
            let tangents: Vec<_> =
                x.iter().map(|&x| (x, tape.placeholder("v", x.shape()))).collect();
            tape.jvp(y, &tangents).unwrap();
        }
        let foreign = |n: &NodeInfo| !n.at.file().starts_with("tests/ops");
        let name = |n: NodeInfo| format!("{}: {} at {}", case.name, n.name, n.at);
        lost.extend(tape.nodes().into_iter().filter(foreign).map(name));
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The source files of the ops, without their tests.
fn sources() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tape/op");
    let files = ["", "/linalg", "/recurrent"]
        .map(|family| format!("{folder}{family}"))
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    let is_source = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "rs");
    files.filter(is_source).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The names that the ops give themselves, but for leaves and effects.
fn op_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        ScalarOp::ALL.iter().map(|op| op.name().to_string()).collect();
    for source in sources() {
        let code = source.lines().filter(|line| !line.trim_start().starts_with("///"));
        let mut inside = false;
        for line in code {
            inside = (inside || line.contains("fn name(&self) -> &str {")) && line != "    }";
            if inside {
                names.extend(line.split('"').skip(1).step_by(2).map(str::to_string));
            }
        }
    }
    for leaf in ["placeholder", "variable", "constant", "literal", "place", "assign"] {
        assert!(names.remove(leaf), "{leaf}");
    }
    names
}

/// Every method that records an op is called by a case.
#[test]
fn b1_every_method_has_a_case() {
    let cases = include_str!("cases.rs");
    let mut missing = vec![];
    for source in sources() {
        let mut records = true;
        for line in source.lines() {
            if line.starts_with("impl") {
                // What spans, units, arguments and results are asked for is no op.
                let others = ["impl Span ", "impl Units ", " Arg<", " Out<"];
                records = !others.iter().any(|of| line.contains(of));
            }
            let Some(method) = line.strip_prefix("    pub fn ").filter(|_| records) else {
                continue;
            };
            let name = method.split(['(', '<']).next().unwrap_or_default();
            let is_method = method.contains("(self") || method.ends_with('(');
            if is_method && !cases.contains(&format!(".{name}(")) {
                missing.push(name.to_string());
            }
        }
    }
    assert!(missing.is_empty(), "methods without a case: {missing:?}");
    // The reductions are generated: a row of their table names three methods.
    let rows = sources().into_iter().flat_map(|source| {
        let rows = source.split_once("\nreductions! {").map(|(_, rows)| rows.to_string());
        rows.unwrap_or_default().lines().map(str::to_string).collect::<Vec<_>>()
    });
    let methods: Vec<String> = rows
        .filter_map(|row| Some(row.trim().split_once(" (")?.0.to_string()))
        .filter(|row| row.split(' ').count() == 3 && row.contains("_axes"))
        .collect();
    assert_eq!(methods.len(), 11, "{methods:?}");
    for method in methods {
        assert!(cases.contains(&format!("{method} (")), "{method}");
    }
}
