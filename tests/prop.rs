//! What holds for all shapes and graphs: rules are linear in the cotangent and adjoint to the
//! function, and every combination of plan passes gives the interpreter's bits.

use gradtape::check::Check;
use gradtape::{Expr, Passes, Session, Shape, Tape, Tensor};
use proptest::prelude::*;

type E<'t> = Expr<'t, f64>;

/// A deterministic number in ±[0.3, 1.7], different for each (seed, position).
fn noise(seed: u64, i: usize) -> f64 {
    let mixed = (seed ^ (i as u64) << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    if mixed & 1 == 0 { 0.3 + 1.4 * unit } else { -0.3 - 1.4 * unit }
}

fn random(shape: Shape, seed: u64) -> Tensor {
    let mut i = 0;
    Tensor::from_fn(shape, |_| {
        i += 1;
        noise(seed, i)
    })
    .unwrap()
}

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).unwrap()
}

fn extents(rank: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0usize..5, rank)
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a * b).sum()
}

/// `a·x + b·y`
fn mix(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Tensor {
    let sum = x.as_slice().iter().zip(y.as_slice()).map(|(x, y)| a * x + b * y);
    Tensor::new(x.shape(), sum.collect()).unwrap()
}

/// The rule of f is linear in the cotangent, and ⟨ct, J v⟩ = ⟨Jᵀ ct, v⟩ with J v by a central
/// difference.
fn adjoint(
    shapes: &[Shape],
    seed: u64,
    f: impl for<'t> Fn(&'t Tape, &[E<'t>]) -> E<'t>,
) -> Result<(), TestCaseError> {
    let tape = Tape::<f64>::new();
    let x: Vec<E<'_>> = shapes.iter().map(|&s| tape.placeholder("x", s)).collect();
    let y = f(&tape, &x);
    let ct = tape.placeholder("ct", y.shape());
    let zero = |i: usize| tape.literal(0.0).broadcast_like(x[i]);
    let g = tape.vjp(y, ct, &x).unwrap().into_iter().enumerate();
    let g: Vec<E<'_>> = g.map(|(i, g)| g.unwrap_or_else(|| zero(i))).collect();
    let mut session = Session::new(&tape).unwrap();

    let point: Vec<Tensor> = (0u64..).zip(shapes).map(|(i, &s)| random(s, seed + i)).collect();
    let v: Vec<Tensor> = (100u64..).zip(shapes).map(|(i, &s)| random(s, seed + i)).collect();
    let [c, d] = [200, 300].map(|i| random(y.shape(), seed + i));
    let mut vjp = |c: &Tensor| {
        let mut feeds: Vec<_> = x.iter().zip(&point).map(|(x, value)| x.feed(value)).collect();
        feeds.push(ct.feed(c));
        session.run(&g, &feeds).unwrap()
    };
    let (of_c, of_d, of_both) = (vjp(&c), vjp(&d), vjp(&mix(2.0, &c, -3.0, &d)));
    for ((of_c, of_d), of_both) in of_c.iter().zip(&of_d).zip(&of_both) {
        let sum = mix(2.0, of_c, -3.0, of_d);
        for (a, b) in sum.as_slice().iter().zip(of_both.as_slice()) {
            prop_assert!((a - b).abs() <= 1e-12 * (1.0 + a.abs().max(b.abs())), "{a} {b}");
        }
    }
    let h = 1e-5;
    let mut value = |h: f64| {
        let moved: Vec<Tensor> = point.iter().zip(&v).map(|(x, v)| mix(1.0, x, h, v)).collect();
        let feeds: Vec<_> = x.iter().zip(&moved).map(|(x, value)| x.feed(value)).collect();
        session.run(y, &feeds).unwrap()
    };
    let jv = mix(0.5 / h, &value(h), -0.5 / h, &value(-h));
    let backward: f64 = of_c.iter().zip(&v).map(|(g, v)| dot(g, v)).sum();
    let sizes = of_c.iter().zip(&v).map(|(g, v)| dot(&g.map(f64::abs), &v.map(f64::abs)));
    let size: f64 = sizes.sum();
    let forward = dot(&c, &jv);
    prop_assert!((forward - backward).abs() <= 1e-6 * (1.0 + size), "{forward} {backward}");
    Ok(())
}

/// Failing cases are printed, not written to files.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

/// Two shapes that broadcast: some axes of each become 1, some leading ones of one go.
fn broadcast_pair() -> impl Strategy<Value = (Shape, Shape)> {
    (extents(0..5), any::<[bool; 5]>(), any::<[bool; 5]>(), 0usize..5, any::<bool>()).prop_map(
        |(full, one_a, one_b, gone, swap)| {
            let narrow = |ones: &[bool]| -> Vec<usize> {
                full.iter().zip(ones).map(|(&e, &one)| if one { 1 } else { e }).collect()
            };
            let (a, b) = (narrow(&one_a), narrow(&one_b));
            let b = &b[gone.min(b.len())..];
            if swap { (shape(b), shape(&a)) } else { (shape(&a), shape(b)) }
        },
    )
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn broadcasting((a, b) in broadcast_pair(), seed in 0u64..1 << 30) {
        adjoint(&[a, b], seed, |_, x| (x[0] * x[1]).sin() - x[1])?;
    }

    #[test]
    fn reductions(of in extents(1..5), picks in any::<[bool; 4]>(), seed in 0u64..1 << 30) {
        let axes: Vec<isize> =
            (0..of.len()).filter(|&a| picks[a]).map(|a| a as isize - of.len() as isize).collect();
        adjoint(&[shape(&of)], seed, |_, x| x[0].square().sum_axes(&axes))?;
        adjoint(&[shape(&of)], seed, |_, x| x[0].prod_keep(&axes))?;
        if !of.contains(&0) {
            adjoint(&[shape(&of)], seed, |_, x| x[0] - x[0].sin().mean_keep(&axes))?;
            adjoint(&[shape(&of)], seed, |_, x| x[0].variance_axes(&axes, 0))?;
        }
    }

    #[test]
    fn views(of in extents(1..5), picks in any::<[usize; 4]>(), seed in 0u64..1 << 30) {
        let rank = of.len();
        let mut order: Vec<isize> = (0..rank as isize).collect();
        order.sort_by_key(|&a| picks[a as usize]);
        let axis = (picks[0] % rank) as isize;
        let extent = of[axis as usize];
        let (low, high) = (picks[1] % (extent + 1), picks[2] % (extent + 1));
        let span = low.min(high)..low.max(high);
        adjoint(&[shape(&of)], seed, |tape, x| {
            let part = x[0].sin().slice_axis(axis, span.clone());
            let turned = tape.concat(&[part, x[0].flip(&[axis])], axis).permute(&order);
            let mut border = vec![(0, 0); rank];
            border[rank - 1] = (picks[3] % 3, 1);
            turned.pad(&border, 0.5).reshape([gradtape::ANY]).square()
        })?;
    }

    #[test]
    fn products(m in 0usize..6, k in 0usize..6, n in 0usize..6, batch in extents(0..3),
                ta: bool, tb: bool, seed in 0u64..1 << 30) {
        let of = |rows, columns, t| {
            let last = if t { [columns, rows] } else { [rows, columns] };
            shape(&[&batch[..], &last].concat())
        };
        adjoint(&[of(m, k, ta), of(k, n, tb)], seed, |_, x| {
            let a = if ta { x[0].t() } else { x[0] };
            let b = if tb { x[1].t() } else { x[1] };
            a.matmul(b).sin()
        })?;
    }
}

/// One step of a random graph: which op, on which of the values so far.
type Step = (u8, usize, usize);

/// Records the steps on values of shape `[rows, 3]`; values stay bounded, and smooth but for jumps
/// where one passes the threshold.
fn grow<'t>(tape: &'t Tape, x: &[E<'t>], steps: &[Step], threshold: f64) -> E<'t> {
    let mut values = x.to_vec();
    for &(op, i, j) in steps {
        let (a, b) = (values[i % values.len()], values[j % values.len()]);
        values.push(match op % 21 {
            0 => a + b,
            1 => a - b,
            2 => a * b.tanh(),
            3 => a / (b.square() + 1.0),
            4 => a.sin(),
            5 => a.tanh() * 2.0,
            6 => a.sigmoid(),
            7 => (a * 0.5).softplus() - b.sigmoid(),
            8 => (-a.square()).exp(),
            9 => a - a.mean_keep(&[1]),
            10 => a.softmax(1) * b,
            11 => a - b.sum_keep(&[0]) * 0.1,
            12 => a.flip(&[0]),
            13 => a.slice((.., 1..)).pad(&[(0, 0), (0, 1)], 0.25),
            14 => tape.concat(&[a.index_axis(1, 0).expand_dims(&[1]), b.slice((.., 0..2))], 1),
            15 => a.t().matmul(b).tanh().sum_axes(&[0]) + a * 0.5,
            16 => a.matmul(b.slice((0..3,)).tanh()) * 0.3,
            17 => a.reshape([gradtape::ANY]).cumsum(0).reshape_like(a) * 0.1,
            18 => a.t().t() * 1.0 + b * 0.0,
            // Loops read such parts, and in the gradient zeros around such parts, where they lie.
            19 => (a.slice((.., 1..)) * b.slice((.., ..2)).tanh()).sum_keep(&[1]) * 0.1 + a,
            // A dead end: b is needed, and nothing flows back to it.
            _ => a.log_softmax(1).exp() + b.greater(threshold) * 0.3,
        });
    }
    values.iter().skip(x.len()).fold(values[0], |sum, &v| sum + v * 0.5)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0u8..21, 0usize..64, 0usize..64), 5..41)
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn plans_of_random_graphs_give_the_interpreters_bits(
        steps in steps(), rows in prop_oneof![Just(3usize), Just(4), Just(700)],
        seed in 0u64..1 << 30,
    ) {
        let tape = Tape::<f64>::new();
        let x = [tape.placeholder("a", [rows, 3]), tape.placeholder("b", [rows, 3])];
        let y = grow(&tape, &x, &steps, 0.2);
        let loss = y.square().mean();
        let g = tape.gradient_allow_unused(loss, &x).unwrap();
        let values = [random([rows, 3].into(), seed), random([rows, 3].into(), seed + 1)];
        let feeds = [x[0].feed(&values[0]), x[1].feed(&values[1])];
        let fetches = [loss, y, g[0], g[1]];
        let bits = |values: &[Tensor]| -> Vec<u64> {
            values.iter().flat_map(|t| t.as_slice()).map(|x| x.to_bits()).collect()
        };
        let want = bits(&Session::new(&tape).unwrap().interpret(&fetches[..], &feeds).unwrap());
        for set in 0..16 {
            let on = |bit: u8| set >> bit & 1 == 1;
            let passes = Passes { simplify: on(0), fuse: on(1), share_memory: on(2), stream: on(3) };
            let mut session = Session::new(&tape).unwrap().with_passes(passes);
            // Twice, the second time over memory that the first left behind.
            for _ in 0..2 {
                let got = session.run(&fetches[..], &feeds).unwrap();
                prop_assert!(bits(&got) == want, "{passes:?}");
            }
        }
    }

    #[test]
    fn gradients_of_random_graphs(steps in steps(), seed in 0u64..1 << 30) {
        let once = Check { order: 1, tolerance: Some(1e-7), seed };
        let inputs = [random([4, 3].into(), seed), random([4, 3].into(), seed + 1)];
        // No difference may span a jump.
        let checked = once
            .gradient(|tape, x| grow(tape, x, &steps, f64::MAX).square().mean(), &inputs);
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
}
