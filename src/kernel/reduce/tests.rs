//! Every kernel against its definition, written with positions and no loops worth the name.

use super::*;
use crate::kernel::cpu::Cpu;
use crate::{Index, Tensor};

const SHAPES: [&[usize]; 20] = [
    &[],
    &[1],
    &[5],
    &[0],
    &[1, 1],
    &[7, 3],
    &[0, 3],
    &[3, 0],
    &[300, 2],
    &[2, 300],
    &[1, 70],
    &[5, 1000],
    &[3, 170, 2],
    &[257, 5],
    &[3, 4, 5],
    &[2, 1, 3],
    &[33, 2, 35],
    &[2, 3, 2, 3],
    &[2, 0, 2],
    &[2, 3, 1, 2, 3],
];

/// Numbers in [-1, 1), the same for the same seed.
fn numbers(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn sets(rank: usize) -> impl Iterator<Item = Axes> {
    (0..1usize << rank).map(move |bits| {
        let named: Vec<isize> =
            (0..rank).filter(|a| bits >> a & 1 == 1).map(|a| a as isize).collect();
        Axes::of(&Shape::new(&[1; MAX_RANK][..rank]).unwrap(), &named).unwrap()
    })
}

/// For each output of a reduction the positions it joins, in memory order.
fn groups(shape: &Shape, axes: Axes) -> Vec<Vec<usize>> {
    let kept = shape.reduced(axes, true);
    let mut groups = vec![vec![]; kept.len()];
    let mut i = 0;
    Tensor::from_fn(*shape, |at| {
        let to = at.iter().zip(kept.strides()).zip(kept.extents());
        let to: usize = to.map(|((&i, stride), &e)| if e == 1 { 0 } else { i * stride }).sum();
        groups[to].push(i);
        i += 1;
        0.0
    })
    .unwrap();
    groups
}

/// Calls `check(shape, axes, groups, x)` for every shape and set of axes.
fn for_all(mut check: impl FnMut(&Shape, Axes, &[Vec<usize>], &[f64])) {
    for extents in SHAPES {
        let shape = Shape::new(extents).unwrap();
        let x = numbers(1 + shape.len() as u64, shape.len());
        for axes in sets(shape.rank()) {
            check(&shape, axes, &groups(&shape, axes), &x);
        }
    }
}

/// The same, for one axis at a time.
fn for_all_axes(mut check: impl FnMut(&Shape, usize, &[Vec<usize>], &[f64])) {
    for_all(|shape, axes, groups, x| {
        if axes.count() == 1 {
            check(shape, axes.iter().next().unwrap(), groups, x);
        }
    });
}

fn reduced<T: Scalar>(kind: Reduction, shape: &Shape, axes: Axes, x: &[T]) -> Vec<T> {
    let mut y = vec![T::lit(f64::NAN); shape.reduced(axes, false).len()];
    reduce(kind, shape, axes, x, &mut y);
    y
}

fn whole<T: Scalar>(kind: Reduction, x: &[T]) -> T {
    reduced(kind, &[x.len()].into(), Axes::one(0), x)[0]
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], scale: f64, what: impl std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (g, w) in got.iter().zip(want) {
        let same = g == w || (g.is_nan() && w.is_nan());
        assert!(same || (g - w).abs() <= 1e-13 * scale, "{what:?}: {g} for {w}");
    }
}

#[test]
fn reductions_follow_their_definition() {
    for_all(|shape, axes, groups, x| {
        let want = |f: &dyn Fn(&mut dyn Iterator<Item = f64>) -> f64| -> Vec<f64> {
            groups.iter().map(|g| f(&mut g.iter().map(|&i| x[i]))).collect()
        };
        let check = |kind, want: Vec<f64>, scale| {
            let got = reduced(kind, shape, axes, x);
            assert_close(&got, &want, scale, (kind, shape, axes));
        };
        check(Reduction::Sum, want(&|g| g.sum()), 100.0);
        check(Reduction::Prod, want(&|g| g.product()), 1.0);
        check(Reduction::Max, want(&|g| g.fold(f64::NEG_INFINITY, f64::max)), 0.0);
        check(Reduction::Min, want(&|g| g.fold(f64::INFINITY, f64::min)), 0.0);
        // Mostly ones and mostly zeros, so that both answers occur.
        for (kind, odd, other) in [(Reduction::All, 0.0, -2.0), (Reduction::Any, 3.0, -0.0)] {
            let x: Vec<f64> = x.iter().map(|&x| if x < -0.7 { odd } else { other }).collect();
            let want = groups.iter().map(|g| match kind {
                Reduction::All => g.iter().all(|&i| x[i] != 0.0),
                _ => g.iter().any(|&i| x[i] != 0.0),
            });
            let want: Vec<f64> = want.map(|b| b as u8 as f64).collect();
            assert_eq!(reduced(kind, shape, axes, &x), want, "{kind:?} {shape} {axes:?}");
        }
    });
}

#[test]
fn long_sums_stay_accurate() {
    // A serial sum of these is off by 1e-3 and more.
    let n = 1_000_000;
    let x: Vec<f32> = numbers(7, n).iter().map(|&x| (0.6 + 0.1 * x) as f32).collect();
    for (extents, axis) in [([n, 1], 0), ([4, n / 4], 1), ([n / 2, 2], 0)] {
        let (shape, axes) = (Shape::from(extents), Axes::one(axis));
        let got = reduced(Reduction::Sum, &shape, axes, &x);
        for (g, got) in groups(&shape, axes).iter().zip(got) {
            let exact: f64 = g.iter().map(|&i| f64::from(x[i])).sum();
            assert!((f64::from(got) / exact - 1.0).abs() < 1e-6, "{shape}: {got} for {exact}");
        }
    }
}

#[test]
fn special_values_pass_as_in_numpy() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for n in [1, 2, 7, 8, 40, 2000] {
        for at in [0, n / 2, n - 1] {
            let mut x = numbers(3, n);
            x[at] = nan;
            for lanes in [1, 3] {
                // The same numbers down each of `lanes` columns of a row-wise reduction.
                let shape = [lanes, n].into();
                let x: Vec<f64> = x.iter().flat_map(|&x| vec![x; lanes]).collect();
                for kind in [Reduction::Max, Reduction::Min, Reduction::Sum] {
                    let y = reduced(kind, &shape, Axes::one(1), &x);
                    assert!(y.iter().all(|y| y.is_nan()), "{kind:?} {shape} NaN at {at}");
                }
            }
        }
    }
    assert_eq!(whole(Reduction::Max, &[-inf, -inf]), -inf);
    assert_eq!(whole(Reduction::Min, &[inf]), inf);
    assert!(whole(Reduction::Sum, &[inf, -inf]).is_nan());
    assert_eq!((whole(Reduction::All, &[nan]), whole(Reduction::Any, &[nan])), (1.0, 1.0));
    assert_eq!((whole::<f64>(Reduction::Sum, &[]), whole::<f32>(Reduction::Prod, &[])), (0.0, 1.0));
}

#[test]
fn no_cpu_level_changes_a_bit() {
    for_all(|shape, axes, _, x| {
        let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let mut first: Option<Vec<u32>> = None;
        Cpu::for_each(|cpu| {
            let mut bits = vec![];
            for kind in [Reduction::Sum, Reduction::Prod, Reduction::Any] {
                bits.extend(reduced(kind, shape, axes, &x).iter().map(|y| y.to_bits()));
            }
            assert_eq!(&bits, first.get_or_insert(bits.clone()), "{cpu:?} {shape} {axes:?}");
        });
    });
}

#[test]
fn arg_reduce_finds_the_first_of_equals_and_nan() {
    for_all_axes(|shape, axis, groups, x| {
        if groups.iter().any(|g| g.is_empty()) {
            return;
        }
        // Three values only, so that ties are everywhere; some columns hold NaN.
        let x: Vec<f64> =
            x.iter().map(|x| if *x > 0.97 { f64::NAN } else { (x * 1.5).round() }).collect();
        for which in [Extremum::Max, Extremum::Min] {
            let mut got = vec![Index::MAX; groups.len()];
            arg_reduce(which, shape, axis, &x, &mut got);
            for (g, got) in groups.iter().zip(got) {
                let row: Vec<f64> = g.iter().map(|&i| x[i]).collect();
                let best = row.iter().fold(row[0], |a, &b| match which {
                    Extremum::Max => a.max(b),
                    Extremum::Min => a.min(b),
                });
                let nan = row.iter().position(|x| x.is_nan());
                let want = nan.or_else(|| row.iter().position(|&x| x == best)).unwrap();
                assert_eq!(got as usize, want, "{which:?} {shape} axis {axis} {row:?}");
            }
        }
    });
}

#[test]
fn cumsum_runs_both_ways() {
    for_all_axes(|shape, axis, groups, x| {
        for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut got = vec![f64::NAN; x.len()];
            cumsum(Cumulate { reverse, exclusive }, shape, axis, x, &mut got);
            let mut want = got.clone();
            for g in groups {
                for k in 0..g.len() {
                    let terms = match (reverse, exclusive) {
                        (false, false) => &g[..=k],
                        (false, true) => &g[..k],
                        (true, false) => &g[k..],
                        (true, true) => &g[k + 1..],
                    };
                    want[g[k]] = terms.iter().map(|&i| x[i]).sum();
                }
            }
            assert_close(&got, &want, 10.0, (shape, axis, reverse, exclusive));
        }
    });
}

#[test]
fn softmax_follows_its_definition() {
    for_all_axes(|shape, axis, groups, x| {
        let x: Vec<f64> = x.iter().map(|x| 5.0 * x).collect();
        let (mut p, mut log_p) = (vec![f64::NAN; x.len()], vec![f64::NAN; x.len()]);
        let mut lse = vec![f64::NAN; groups.len()];
        let scratch = &mut vec![f64::NAN; softmax_scratch(shape, axis)];
        softmax(shape, axis, &x, &mut p, scratch);
        log_softmax(shape, axis, &x, &mut log_p, scratch);
        logsumexp(shape, axis, &x, &mut lse, scratch);
        let want: Vec<f64> =
            groups.iter().map(|g| g.iter().map(|&i| x[i].exp()).sum::<f64>().ln()).collect();
        assert_close(&lse, &want, 50.0, (shape, axis));
        let (mut want_p, mut want_log) = (p.clone(), p.clone());
        for (g, lse) in groups.iter().zip(want) {
            for &i in g {
                want_log[i] = x[i] - lse;
                want_p[i] = want_log[i].exp();
            }
        }
        assert_close(&p, &want_p, 10.0, (shape, axis));
        assert_close(&log_p, &want_log, 100.0, (shape, axis));
    });
}

#[test]
fn softmax_stays_finite_and_says_nan_for_infinite_rows() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    type Row = [f64; 3];
    // (row, softmax, log-softmax, log-sum-exp)
    let rows: [(Row, Row, Row, f64); 7] = [
        ([1e4, -1e4, 0.0], [1.0, 0.0, 0.0], [0.0, -2e4, -1e4], 1e4),
        ([-1e4; 3], [1.0 / 3.0; 3], [-3f64.ln(); 3], -1e4 + 3f64.ln()),
        ([1e300, -1e300, 0.0], [1.0, 0.0, 0.0], [0.0, -2e300, -1e300], 1e300),
        ([-inf, 0.0, 0.0], [0.0, 0.5, 0.5], [-inf, -2f64.ln(), -2f64.ln()], 2f64.ln()),
        ([-inf; 3], [nan; 3], [nan; 3], -inf),
        ([0.0, inf, 1.0], [nan; 3], [nan; 3], inf),
        ([0.0, nan, 1.0], [nan; 3], [nan; 3], nan),
    ];
    for (row, p, log_p, lse) in rows {
        // Along the contiguous axis, and along the other with two equal lanes.
        for lanes in [1, 2] {
            let shape = [lanes, 3].into();
            let scratch = &mut vec![f64::NAN; softmax_scratch(&shape, 1)];
            let spread = |row: [f64; 3]| row.iter().flat_map(|&x| vec![x; lanes]).collect();
            let x: Vec<f64> = spread(row);
            let mut got = vec![9.0; x.len()];
            softmax(&shape, 1, &x, &mut got, scratch);
            assert_close(&got, &spread(p), 1.0, (row, lanes));
            log_softmax(&shape, 1, &x, &mut got, scratch);
            assert_close(&got, &spread(log_p), 1.0, (row, lanes));
            logsumexp(&shape, 1, &x, &mut got[..lanes], scratch);
            assert_close(&got[..lanes], &vec![lse; lanes], 1e4, (row, lanes));
        }
    }
}

#[test]
fn derivatives_of_a_product_follow_leibniz() {
    /// D^{m+1} P[v.., e_i] by dropping factors: Σ over assignments of directions to factors ≠ i.
    fn leibniz(x: &[f64], v: &[Vec<f64>], dropped: &[usize]) -> f64 {
        let left = |j: &usize| !dropped.contains(j);
        match v {
            [] => (0..x.len()).filter(left).map(|j| x[j]).product(),
            [first, rest @ ..] => {
                let term = |j| first[j] * leibniz(x, rest, &[dropped, &[j]].concat());
                (0..x.len()).filter(left).map(term).sum()
            }
        }
    }
    let shape = Shape::from([2, 4, 3]);
    let mut x = numbers(5, shape.len());
    // Columns with no zero, one zero, and two.
    (x[1], x[3], x[12], x[20]) = (0.0, 0.0, 0.0, 0.0);
    for axes in sets(3).filter(|axes| !axes.is_empty()) {
        let groups = groups(&shape, axes);
        // The reference tries n^m assignments.
        let most = if groups[0].len() <= 4 { MAX_ORDER } else { 2 };
        for order in 0..=most {
            let v: Vec<Vec<f64>> = (0..order).map(|k| numbers(k as u64 + 9, x.len())).collect();
            let v_slices: Vec<&[f64]> = v.iter().map(|v| &v[..]).collect();
            let mut got = vec![f64::NAN; x.len()];
            prod_grad(&shape, axes, &x, &v_slices, &mut got);
            let mut want = got.clone();
            for g in &groups {
                let pick = |v: &Vec<f64>| g.iter().map(|&i| v[i]).collect::<Vec<_>>();
                let (x, v) = (pick(&x), v.iter().map(pick).collect::<Vec<_>>());
                for (j, &i) in g.iter().enumerate() {
                    want[i] = leibniz(&x, &v, &[j]);
                }
            }
            assert_close(&got, &want, 100.0, (axes, order));
        }
    }
}
