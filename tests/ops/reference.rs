//! Values and cotangents from NumPy, SciPy and PyTorch: `tests/reference/ops.txt`, which
//! `tests/reference/ops.py` writes. Special points, kinks and ties are among them.

use super::cases::{self, Case, record};
use gradtape::tape::op::ScalarOp;
use gradtape::{Result, Session, Shape, Tape, Tensor};
use std::collections::BTreeSet;

/// The most by which an element may differ, relative to itself or, in cotangents and sums, to the
/// largest element of its tensor.
const RELATIVE: f64 = 1e-13;
const OF_LARGEST: f64 = 1e-15;
const COTANGENT: f64 = 1e-13;

/// A case's name, and its tensors by their letters.
struct Record {
    name: String,
    tensors: Vec<(char, Tensor)>,
}

impl Record {
    fn all(&self, letter: char) -> Vec<&Tensor> {
        self.tensors.iter().filter(|t| t.0 == letter).map(|t| &t.1).collect()
    }
}

fn records() -> Vec<Record> {
    let mut records: Vec<Record> = vec![];
    for line in include_str!("../reference/ops.txt").lines() {
        if let Some(name) = line.strip_prefix("case ") {
            records.push(Record { name: name.to_string(), tensors: vec![] });
            continue;
        }
        let mut words = line.split(' ');
        let letter = words.next().unwrap().chars().next().unwrap();
        let extents = words.next().unwrap().split(',').filter(|e| *e != "-");
        let extents: Vec<usize> = extents.map(|e| e.parse().unwrap()).collect();
        let elements = words.map(|x| x.parse().unwrap()).collect();
        let tensor = Tensor::new(Shape::new(&extents).unwrap(), elements).unwrap();
        records.last_mut().unwrap().tensors.push((letter, tensor));
    }
    records
}

/// Value and cotangents, zeros where the value does not depend on an input.
fn ours(record_of: &Record, cases: &[Case]) -> Result<(Tensor, Vec<Tensor>)> {
    let tape = Tape::<f64>::new();
    let inputs = record_of.all('x');
    let x: Vec<_> = inputs.iter().map(|x| tape.placeholder("x", x.shape())).collect();
    let op = ScalarOp::ALL.iter().find(|op| op.name() == record_of.name);
    let case = cases.iter().find(|c| c.name == record_of.name);
    let y = match (op, case) {
        (Some(&op), _) => record(op, &x),
        (None, Some(case)) => (case.wide)(&tape, &x),
        (None, None) => panic!("no case is named {}", record_of.name),
    };
    let ct = tape.placeholder("ct", y.shape());
    let g: Vec<_> = tape.vjp(y, ct, &x)?;
    let zeros = |i: usize| tape.literal(0.0).broadcast_like(x[i]);
    let g: Vec<_> = g.into_iter().enumerate().map(|(i, g)| g.unwrap_or_else(|| zeros(i))).collect();
    let mut session = Session::new(&tape)?;
    let mut feeds: Vec<_> = x.iter().zip(&inputs).map(|(x, value)| x.feed(*value)).collect();
    let value = session.run(y, &feeds)?;
    let cotangent = match record_of.all('c')[..] {
        [c] => c.clone(),
        _ => return Ok((value, vec![])),
    };
    feeds.push(ct.feed(&cotangent));
    Ok((value, session.run(&g, &feeds)?))
}

fn difference(got: &Tensor, want: &Tensor, relative: f64, of_largest: f64) -> Option<String> {
    if got.shape() != want.shape() {
        return Some(format!("expected the shape {}, got {}", want.shape(), got.shape()));
    }
    let finite = want.as_slice().iter().filter(|x| x.is_finite());
    let largest = finite.fold(0.0, |m: f64, x| m.max(x.abs()));
    let near = |a: f64, b: f64| {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= relative * b.abs()
            || (a - b).abs() <= of_largest * largest
    };
    let wrong = (0..want.len()).find(|&i| !near(got.as_slice()[i], want.as_slice()[i]))?;
    let (want, got) = (want.as_slice()[wrong], got.as_slice()[wrong]);
    Some(format!("element {wrong}: expected {want:?}, got {got:?}"))
}

#[test]
fn other_programs_agree() {
    let cases = cases::all();
    let records = records();
    let mut failures = vec![];
    for (i, record) in records.iter().enumerate() {
        let (y, g) = match ours(record, &cases) {
            Ok(values) => values,
            Err(e) => {
                failures.push(format!("{} (record {i}): {e}", record.name));
                continue;
            }
        };
        let wrong = difference(&y, record.all('y')[0], RELATIVE, OF_LARGEST);
        failures.extend(wrong.map(|text| format!("{} (record {i}): value: {text}", record.name)));
        for (k, (g, want)) in g.iter().zip(record.all('g')).enumerate() {
            let wrong = difference(g, want, COTANGENT, COTANGENT);
            let name = format!("{} (record {i}): cotangent {k}", record.name);
            failures.extend(wrong.map(|text| format!("{name}: {text}")));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// −0 stays −0 where the function is odd, or says so.
#[test]
fn zeros_keep_their_sign() {
    let odd =
        ["neg", "expm1", "log1p", "sqrt", "sin", "tan", "asin", "atan", "sinh", "tanh", "erf"];
    for name in odd.into_iter().chain(["floor", "ceil", "round", "identity", "sign"]) {
        let op = *ScalarOp::ALL.iter().find(|op| op.name() == name).unwrap();
        let tape = Tape::new();
        let x = tape.placeholder("x", [2]);
        let y = record(op, &[x]);
        let feed = Tensor::vector(vec![0.0, -0.0]);
        let y = Session::new(&tape).unwrap().run(y, &[x.feed(&feed)]).unwrap();
        let signs: Vec<bool> = y.as_slice().iter().map(|y: &f64| y.is_sign_negative()).collect();
        assert_eq!(signs, [name == "neg", name != "neg"], "{name}");
    }
}

/// Every op and method has a record: the first word of a case's name is that of its method.
#[test]
fn every_case_has_a_reference() {
    let first = |name: &str| name.split(' ').next().unwrap().to_string();
    let referenced: BTreeSet<String> = records().iter().map(|r| first(&r.name)).collect();
    // Compositions and conversions that `cases.rs` checks by their parts.
    let others = [
        "a",
        "broadcast_like",
        "checkpoint",
        "cond",
        "custom_gradient",
        "index",
        "reshape_like",
        "scan",
        "to_float",
    ];
    let missing: BTreeSet<String> = cases::all()
        .iter()
        .map(|c| first(&c.name))
        .filter(|name| !referenced.contains(name) && !others.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "cases without a reference: {missing:?}");
}
