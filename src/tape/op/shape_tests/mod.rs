//! Every op that only moves elements, on samples: value against its formula, adjoint identity,
//! unknown extents, batch rule, refused inputs.

mod samples;

use self::samples::{SAMPLES, Sample};
use super::{Arg, Combine, Each, Out, Primitive, RowRule, Span, Take, TakeAdd};
use crate::error::ErrorKind;
use crate::tape::{Expr, NodeId, Tape};
use crate::{ANY, AsNode, DType, Index, Shape, Tensor, TensorView};

/// A value of either type.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(Tensor),
    Index(Tensor<Index>),
}

impl Value {
    fn shape(&self) -> Shape {
        match self {
            Value::Float(x) => x.shape(),
            Value::Index(x) => x.shape(),
        }
    }

    fn float(self) -> Tensor {
        match self {
            Value::Float(x) => x,
            Value::Index(x) => panic!("expected floats, got {x:?}"),
        }
    }

    /// Rows `from..to` of axis 0.
    fn rows(&self, from: usize, to: usize) -> Value {
        fn cut<E: crate::Element>(x: &Tensor<E>, from: usize, to: usize) -> Tensor<E> {
            let shape = x.shape().with(0, to - from);
            Tensor::from_fn(shape, |p| {
                let mut p = p.to_vec();
                p[0] += from;
                x.get(&p).unwrap()
            })
            .unwrap()
        }
        match self {
            Value::Float(x) => Value::Float(cut(x, from, to)),
            Value::Index(x) => Value::Index(cut(x, from, to)),
        }
    }
}

/// The value of an expression, one fresh buffer for each node; `feeds` by node.
fn eval(y: Expr<'_>, feeds: &[(NodeId, Value)]) -> Result<Value, crate::Error> {
    let graph = y.tape().snapshot();
    let mut known: Vec<(NodeId, Value)> = feeds.to_vec();
    let mut wanted = vec![y.node().id];
    while let Some(&id) = wanted.last() {
        let find = |id: NodeId| known.iter().find(|(known, _)| *known == id);
        let missing = |id: &NodeId| find(*id).is_none();
        let node = graph.node(id);
        match node.inputs.iter().copied().find(missing) {
            Some(input) if missing(&id) => wanted.push(input),
            _ => {
                wanted.pop();
                if missing(&id) {
                    let inputs = node.inputs.iter().filter_map(|&i| find(i)).cloned();
                    let value = run(Expr::of(y.tape(), id), &inputs.collect::<Vec<_>>())?;
                    known.push((id, value));
                }
            }
        }
    }
    let (_, value) = known.into_iter().find(|(id, _)| *id == y.node().id).unwrap();
    Ok(value)
}

/// The value of one node, its inputs given. What it says it does not read is not there.
fn run(y: Expr<'_>, inputs: &[(NodeId, Value)]) -> Result<Value, crate::Error> {
    let graph = y.tape().snapshot();
    let node = graph.node(y.node().id);
    let op = node.op.primitive();
    let shapes: Vec<Shape> = inputs.iter().map(|(_, x)| x.shape()).collect();
    let shape = op.shape(&shapes)?;
    let args: Vec<Arg<'_, f64>> = inputs
        .iter()
        .enumerate()
        .map(|(i, (_, x))| match x {
            Value::Float(x) if !op.reads(i) => Arg::Float(TensorView::of(x.shape(), &[])),
            Value::Float(x) => Arg::Float(x.view()),
            Value::Index(x) => Arg::Index(x.view()),
        })
        .collect();
    match node.dtype {
        DType::Float => {
            let mut y = Tensor::full(shape, f64::NAN)?;
            op.forward(&args, Out::Float(shape, y.as_mut_slice()), &mut [])?;
            Ok(Value::Float(y))
        }
        DType::Index => {
            let mut y = Tensor::full(shape, 77)?;
            op.forward(&args, Out::Index(shape, y.as_mut_slice()), &mut [])?;
            Ok(Value::Index(y))
        }
    }
}

/// Numbers that differ everywhere and are small integers, so that sums are exact.
fn numbers(shape: Shape, salt: usize) -> Tensor {
    let mut n = salt * 97;
    Tensor::from_fn(shape, |_| {
        n += 1;
        (n * n % 251) as f64 - 125.0
    })
    .unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a * b).sum()
}

/// Calls `f` with a sample recorded with all extents, with an unknown batch, with none.
fn each_recording(
    mut f: impl for<'t> FnMut(&Sample, &[Expr<'t>], Expr<'t>, &[(NodeId, Value)], &str),
) {
    for sample in SAMPLES {
        for unknown in [0, 1, 8] {
            let case = format!("{} with {unknown} unknown extents", sample.name);
            let tape = Tape::<f64>::new();
            let mut feeds = Vec::new();
            let hide = |shape: &[usize]| {
                let mut shape = Shape::new(shape).unwrap();
                shape.extents_mut().iter_mut().take(unknown).for_each(|e| *e = ANY);
                shape
            };
            let x: Vec<_> = sample.shapes.iter().map(|s| tape.placeholder("x", hide(s))).collect();
            for (i, (x, shape)) in x.iter().zip(sample.shapes).enumerate() {
                let value = numbers(Shape::new(shape).unwrap(), i + 1);
                feeds.push((x.node().id, Value::Float(value)));
            }
            let (shape, elements) = sample.indices;
            let indices = tape.index_placeholder("indices", hide(shape));
            let value = Tensor::new(Shape::new(shape).unwrap(), elements.to_vec()).unwrap();
            feeds.push((indices.node().id, Value::Index(value)));
            let y = (sample.record)(&x, indices);
            tape.check().unwrap_or_else(|e| panic!("{case}: {e}"));
            f(sample, &x, y, &feeds, &case);
        }
    }
}

#[test]
fn values_follow_their_formulas() {
    each_recording(|sample, x, y, feeds, case| {
        let got = eval(y, feeds).unwrap_or_else(|e| panic!("{case}: {e}")).float();
        assert!(y.shape().accepts(&got.shape()), "{case}: {} then {}", y.shape(), got.shape());
        let inputs: Vec<_> = feeds[..x.len()].iter().map(|(_, v)| v.clone().float()).collect();
        let formula = |p: &[usize]| (sample.formula)(&inputs, sample.indices.1, p);
        assert_eq!(got, Tensor::from_fn(got.shape(), formula).unwrap(), "{case}");
    });
}

/// These ops are linear, so ⟨ct, y(v)⟩ = ⟨vjp(ct), v⟩ exactly; the same holds for the VJP as a
/// function of ct, which checks the adjoint ops' own rules.
#[test]
fn adjoints_are_exact_to_second_order() {
    each_recording(|_, x, y, feeds, case| {
        let tape = y.tape();
        let value = eval(y, feeds).unwrap().float();
        let ct = tape.placeholder("ct", y.shape());
        let ct_value = numbers(value.shape(), 5);
        let mut feeds = feeds.to_vec();
        feeds.push((ct.node().id, Value::Float(ct_value.clone())));
        let adjoints = tape.vjp(y, ct, x).unwrap_or_else(|e| panic!("{case}: {e}"));
        let (mut total, mut adjoint_values) = (0.0, Vec::new());
        for (i, adjoint) in adjoints.iter().enumerate() {
            let Some(adjoint) = adjoint else {
                assert!(case.starts_with("reshape_like") && i == 1, "{case}: no adjoint {i}");
                continue;
            };
            let value = eval(*adjoint, &feeds).unwrap_or_else(|e| panic!("{case}: {e}")).float();
            total += dot(&value, &feeds[i].1.clone().float());
            adjoint_values.push((*adjoint, value));
        }
        assert_eq!(total, dot(&ct_value, &value), "{case}");

        for (i, (adjoint, value)) in adjoint_values.into_iter().enumerate() {
            let v = tape.placeholder("v", adjoint.shape());
            let v_value = numbers(value.shape(), 11 + i);
            feeds.push((v.node().id, Value::Float(v_value.clone())));
            let again = tape.vjp(adjoint, v, &[ct]).unwrap_or_else(|e| panic!("{case}: {e}"));
            let again = eval(again[0].unwrap(), &feeds).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(dot(&again.float(), &ct_value), dot(&v_value, &value), "{case}, order 2");
        }
    });
}

/// What each node that depends on split inputs becomes is what its rule says: computed from two
/// shards it equals the whole. Gradients too, whose nodes may be partial sums.
#[test]
fn batch_rules_say_what_shards_compute() {
    let mut seen = [0; 3];
    each_recording(|sample, x, y, feeds, case| {
        let ct = y.tape().placeholder("ct", y.shape());
        let whole = eval(y, feeds).unwrap();
        let mut feeds = feeds.to_vec();
        feeds.push((ct.node().id, Value::Float(numbers(whole.shape(), 5))));
        let adjoints = y.tape().vjp(y, ct, x).unwrap();
        let graph = y.tape().snapshot();
        let whole = |id: NodeId| eval(Expr::of(y.tape(), id), &feeds).unwrap();
        let nodes = adjoints.iter().flatten().map(|a| a.node().id).chain([y.node().id]);
        for id in nodes {
            let node = graph.node(id);
            let op = node.op.primitive();
            let inputs: Vec<Value> = node.inputs.iter().map(|&i| whole(i)).collect();
            let shapes: Vec<Shape> = inputs.iter().map(Value::shape).collect();
            for cut in 1..1usize << inputs.len() {
                let split: Vec<bool> = (0..inputs.len()).map(|i| cut >> i & 1 == 1).collect();
                let rows = shapes.iter().zip(&split).find(|(_, s)| **s).and_then(|(s, _)| s.dim(0));
                let equal = shapes.iter().zip(&split).all(|(s, &cut)| !cut || s.dim(0) == rows);
                let Some(rows) = rows.filter(|_| equal) else { continue };
                let rule = op.rows(&shapes, &split);
                if id == y.node().id && cut + 1 == 1 << inputs.len() {
                    assert_eq!(rule == RowRule::Split, sample.splits, "{case}");
                }
                let shard = |from: usize, to: usize| {
                    let cut = |i: usize| match split[i] {
                        true => (node.inputs[i], inputs[i].rows(from, to)),
                        false => (node.inputs[i], inputs[i].clone()),
                    };
                    let cuts: Vec<_> = (0..inputs.len()).map(cut).collect();
                    run(Expr::of(y.tape(), id), &cuts).unwrap()
                };
                match rule {
                    RowRule::Mixes => seen[0] += 1,
                    RowRule::Split => {
                        seen[1] += 1;
                        let all = whole(id);
                        for (from, to) in [(0, rows / 2), (rows / 2, rows)] {
                            assert_eq!(shard(from, to), all.rows(from, to), "{case}: {op:?}");
                        }
                    }
                    RowRule::Partial(combine) => {
                        seen[2] += 1;
                        assert_eq!(combine, Combine::Sum);
                        let (a, b) = (shard(0, rows / 2).float(), shard(rows / 2, rows).float());
                        let sums: Vec<f64> =
                            a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a + b).collect();
                        assert_eq!(sums, whole(id).float().as_slice(), "{case}: {op:?}");
                    }
                }
            }
        }
    });
    assert!(seen.iter().all(|&n| n > 0), "each rule is met: {seen:?}");
}

/// A table is whole in every shard; its gradient is the sum of theirs.
#[test]
fn embeddings_are_cut_by_their_indices() {
    let rows = Take { each: Each::Slab, axis: 0 };
    let (table, words, taken) = ([9, 4].into(), [6, 2].into(), [6, 2, 4].into());
    let rule = |op: &dyn Primitive<f64>, x: &[Shape], split: &[bool]| op.rows(x, split);
    assert_eq!(rule(&rows, &[table, words], &[false, true]), RowRule::Split);
    let shapes = [taken, words, table];
    let sum = RowRule::Partial(Combine::Sum);
    assert_eq!(rule(&TakeAdd(rows), &shapes, &[true, true, false]), sum);
}

#[test]
fn indices_move_like_floats() {
    let tape = Tape::<f64>::new();
    let x = tape.index_placeholder("x", [2, 3]);
    let last = tape.index_constant(Tensor::vector(vec![2]));
    let feeds = [(x.node().id, Value::Index(Tensor::new([2, 3], (0..6).collect()).unwrap()))];
    let ones = x.pad(&[(1, 0), (0, 0)], 9);
    for (y, want) in [
        (x.reshape([3, ANY]), vec![0, 1, 2, 3, 4, 5]),
        (x.flatten().expand_dims(&[0]).squeeze(&[0]), vec![0, 1, 2, 3, 4, 5]),
        (x.permute(&[1, 0]), vec![0, 2, 4, 1, 3, 5]),
        (x.slice((1.., ..)), vec![1, 3, 5]),
        (x.slice_axis(-1, 1..).index_axis(0, 0), vec![2, 4]),
        (x.flip(&[0]), vec![1, 0, 3, 2, 5, 4]),
        (ones, vec![9, 0, 1, 9, 2, 3, 9, 4, 5]),
        (x.tile(&[2, 1]), vec![0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]),
        (x.take(1, last), vec![4, 5]),
        (x.slice((.., 1..)).broadcast_to([2, 2, 2]), vec![2, 2, 3, 3, 4, 4, 5, 5]),
        (tape.concat(&[x, x.slice((.., ..1))], 1), vec![0, 1, 2, 3, 4, 5, 0, 1]),
        (tape.stack(&[x, x], 0).index_axis(0, 1), vec![0, 1, 2, 3, 4, 5]),
    ] {
        let Value::Index(got) = eval(y.as_node_expr(), &feeds).unwrap() else {
            panic!("{}: expected indices", y.name())
        };
        assert_eq!(got.as_slice(), want, "{}", y.name());
    }
    let hot = eval(x.one_hot(6), &feeds).unwrap().float();
    assert_eq!(hot.shape(), [2, 3, 6].into());
    assert_eq!(hot.as_slice().iter().sum::<f64>(), 6.0);
    assert_eq!(hot.get(&[1, 2, 5]), Some(1.0));
}

#[test]
fn mistakes_are_refused_by_name() {
    type Mistake = for<'t> fn(&'t Tape<f64>, Expr<'t>) -> Expr<'t>;
    let mistakes: &[(&str, Mistake)] = &[
        ("reshape: [4, 3]: expected as many elements as [5, ?] has", |_, x| x.reshape([5, ANY])),
        ("reshape: [4, 3]: expected rows of as many elements as [?, 2] has", |_, x| {
            x.reshape([4, 2])
        }),
        ("reshape: [4, 3]: expected at most one unknown extent, got [?, ?]", |_, x| {
            x.reshape([ANY, ANY])
        }),
        ("reshape: [4, 3]: expected as many elements as [0, ?] has", |_, x| x.reshape([0, ANY])),
        ("permute: [4, 3]: expected each axis once, got [1]", |_, x| x.permute(&[1])),
        ("permute: [4, 3]: axis -2 is named twice", |_, x| x.permute(&[0, -2])),
        ("broadcast_to: [4, 3]: does not broadcast to [2, ?]", |_, x| x.broadcast_to([2, 3])),
        ("broadcast_to: [4, 3]: expected an extent for the new axis 0 of [?, ?, ?]", |_, x| {
            x.broadcast_to([ANY, 4, 3])
        }),
        ("slice: [4, 3]: expected 2:5 within an axis of extent 4", |_, x| x.slice((2..5,))),
        ("slice: [4, 3]: expected -5: within an axis of extent 4", |_, x| x.slice([-5..])),
        ("slice: [4, 3]: expected 3:1 within an axis of extent 4", |_, x| {
            x.slice([Span::new(3, 1)])
        }),
        ("slice: [4, 3]: expected a step other than 0", |_, x| x.slice([Span::ALL.by(0)])),
        ("slice: [4, 3]: expected at most 2 ranges, got 3", |_, x| x.slice((.., .., ..))),
        ("slice: [4, 3]: expected 4:5 within an axis of extent 4", |_, x| x.index_axis(0, 4)),
        ("split: [4, 3]: expected sizes that add up to 3, got 1 + 1", |_, x| {
            x.split(1, &[1, 1])[0]
        }),
        ("split: [4, 3]: expected sizes that add up to 3, got ? + 4", |_, x| {
            x.split(1, &[ANY, 4])[1]
        }),
        ("concat: [4, 3], [3, 4]: expected equal extents but on axis 0", |t, x| {
            t.concat(&[x, x.t()], 0)
        }),
        ("concat: expected at least one part, got none", |t, _| t.concat::<Expr<'_>>(&[], 0)),
        ("stack: [4, 3]: expected an axis of [1, 1, 1], which has 3, got axis 3", |t, x| {
            t.stack(&[x, x], 3)
        }),
        ("pad: [4, 3]: expected 2 pairs of widths, got 1", |_, x| x.pad(&[(1, 1)], 0.0)),
        ("pad: [4, 3]: too wide with 1 + 18446744073709551615 more", |_, x| {
            x.pad(&[(1, usize::MAX), (0, 0)], 0.0)
        }),
        ("tile: [4, 3]: expected 2 repeats, got 1", |_, x| x.tile(&[2])),
        ("gather: [4, 3], [2, 3]: expected equal extents but on axis 1", |t, x| {
            x.gather(1, t.index_constant(Tensor::zeros([2, 3]).unwrap()))
        }),
        ("take(placeholder, placeholder): expected indices, got floats", |t, x| {
            let floats = Take { each: Each::Slab, axis: 0 };
            t.apply(floats, &[x, x])
        }),
        ("tril: [12]: expected at least 2 axes", |_, x| x.reshape([12]).tril(0)),
    ];
    for (want, record) in mistakes {
        let tape = Tape::new();
        record(&tape, tape.placeholder("placeholder", [4, 3]));
        let error = tape.check().expect_err(want);
        assert_eq!(error.message(), *want);
        assert!(error.location().is_some(), "{want}");
    }
    // What is not known yet is refused when it is.
    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let feeds = [(x.node().id, Value::Float(numbers([4, 3].into(), 1)))];
    for y in [x.slice([..5]), x.reshape([5, ANY]), x.split(0, &[5, ANY])[1], x.slice((-5..-4,))] {
        let kind = eval(y, &feeds).expect_err(&y.name()).kind();
        assert!(matches!(kind, ErrorKind::Argument | ErrorKind::Shape), "{}", y.name());
    }
    let far = tape.index_constant(Tensor::vector(vec![0, 4]));
    let error = eval(x.take(0, far), &feeds).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Index);
    assert_eq!(error.message(), "expected an index below 4, got 4 at position 1");
}
