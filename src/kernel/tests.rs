//! Odd lengths, odd places in memory, special values: the bits of a plain scalar loop come out at
//! every CPU level, and nothing beside the output is written. Slices end where their memory ends,
//! so that AddressSanitizer sees a read too far.

use super::cpu::Cpu;
use super::map::{Access, BLOCK, Instruction, Loop, MAX_REGISTERS, MapLoop, Slot, Target};
use super::map::{each1, each2, each3, total};
use super::reduce::{Reduction, reduce};
use super::{update, vector};
use crate::shape::{Axes, MAX_RANK, Shape};
use crate::{Philox, Scalar};

/// What loops get wrong that know of small numbers only: signed zeros, infinities, NaN, subnormal
/// numbers of f32 and f64, the largest and smallest normal ones.
const SPECIAL: [f64; 12] = [
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1e-40,
    -5e-324,
    3.4e38,
    -1.7e308,
    f32::MIN_POSITIVE as f64,
    f64::MIN_POSITIVE,
    1.0,
];

/// Lengths around those of registers and their unrolled groups, and around a block.
fn lengths() -> impl Iterator<Item = usize> {
    let all = (0..=70).chain([127, 128, 129, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17]);
    all.filter(|n| !cfg!(miri) || n % 13 == 1)
}

/// Numbers that end where their memory ends and begin `offset` elements into it.
struct Placed<T> {
    memory: Vec<T>,
    offset: usize,
}

impl<T: Scalar> Placed<T> {
    fn new(n: usize, offset: usize, mut number: impl FnMut(usize) -> T) -> Self {
        let mut memory = vec![T::lit(-77.0); offset];
        memory.reserve_exact(n);
        memory.extend((0..n).map(&mut number));
        memory.shrink_to_fit();
        Placed { memory, offset }
    }

    /// Mostly small numbers, and a special one now and then.
    fn drawn(n: usize, offset: usize, rng: &mut Philox) -> Self {
        Placed::new(n, offset, |_| match rng.below(5) {
            0 => T::lit(SPECIAL[rng.below(SPECIAL.len() as u64) as usize]),
            _ => T::lit(rng.below(2001) as f64 / 1000.0 - 1.0),
        })
    }

    fn get(&self) -> &[T] {
        &self.memory[self.offset..]
    }

    fn get_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.offset..]
    }

    fn before(&self) -> &[T] {
        &self.memory[..self.offset]
    }
}

/// Equal bits, where all NaNs are equal.
#[track_caller]
fn assert_same<T: Scalar>(got: &[T], want: &[T], what: impl std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g == w && g.is_sign_negative() == w.is_sign_negative();
        assert!(
            same || (g.is_nan() && w.is_nan()),
            "{what:?}: {g} for {w} at {i} of {}",
            got.len()
        );
    }
}

/// One parameter's step: new w and state from w, g and the state.
type Step<T> = fn(T, T, T, T) -> [T; 3];
/// The kernel that takes it for slices w, g and the state.
type Kernel<T> = fn(&mut [T], &[T], &mut [T], &mut [T]);

fn updates<T: Scalar>() -> [(Kernel<T>, Step<T>); 3] {
    fn common<T: Scalar>() -> update::Common<T> {
        let [rate, scale, limit, decay, keep] = [0.1, 0.5, 0.4, 0.01, 0.999].map(T::lit);
        update::Common { rate, scale, limit, decay, keep }
    }
    fn gradient<T: Scalar>(w: T, g: T) -> T {
        let g = g * T::lit(0.5);
        let clipped = if g > T::lit(0.4) {
            T::lit(0.4)
        } else if g < T::lit(-0.4) {
            T::lit(-0.4)
        } else {
            g
        };
        clipped + T::lit(0.01) * w
    }
    [
        (
            |w, g, _, _| update::sgd(common(), w, g),
            |w, g, m, v| [w * T::lit(0.999) - T::lit(0.1) * gradient(w, g), m, v],
        ),
        (
            |w, g, b, _| {
                let (common, momentum) = (common(), T::lit(0.9));
                update::momentum(update::Momentum { common, momentum, nesterov: true }, w, g, b)
            },
            |w, g, b, v| {
                let g = gradient(w, g);
                let b = T::lit(0.9) * b + g;
                [w * T::lit(0.999) - T::lit(0.1) * (g + T::lit(0.9) * b), b, v]
            },
        ),
        (
            |w, g, m, v| {
                let c = update::Adam {
                    common: common(),
                    beta1: T::lit(0.9),
                    beta2: T::lit(0.99),
                    rest1: T::lit(0.1),
                    rest2: T::lit(0.01),
                    root: T::lit(0.1),
                    epsilon: T::lit(1e-8),
                };
                update::adam(c, w, g, m, v)
            },
            |w, g, m, v| {
                let g = gradient(w, g);
                let m = T::lit(0.9) * m + T::lit(0.1) * g;
                let v = T::lit(0.99) * v + T::lit(0.01) * (g * g);
                let d = T::lit(0.1) * m / (v.sqrt() / T::lit(0.1) + T::lit(1e-8));
                [w * T::lit(0.999) - d, m, v]
            },
        ),
    ]
}

fn check_updates<T: Scalar>() {
    let mut rng = Philox::new(1, 0);
    for n in lengths() {
        let offset = n % 4;
        let [w, g, m, v] = [0; 4].map(|_| Placed::<T>::drawn(n, offset, &mut rng));
        for (which, (kernel, step)) in updates::<T>().into_iter().enumerate() {
            let all = w.get().iter().zip(g.get()).zip(m.get().iter().zip(v.get()));
            let want: Vec<_> = all.map(|((&w, &g), (&m, &v))| step(w, g, m, v)).collect();
            Cpu::for_each(|cpu| {
                let copy = |x: &Placed<T>| Placed::new(n, offset, |i| x.get()[i]);
                let [mut w, mut m, mut v] = [&w, &m, &v].map(copy);
                kernel(w.get_mut(), g.get(), m.get_mut(), v.get_mut());
                for (k, x) in [&w, &m, &v].into_iter().enumerate() {
                    let want: Vec<T> = want.iter().map(|step| step[k]).collect();
                    assert_same(x.get(), &want, (which, k, n, cpu));
                    assert!(x.before().iter().all(|&x| x == T::lit(-77.0)));
                }
            });
        }
    }
}

#[test]
fn updates_are_their_formulas() {
    check_updates::<f32>();
    check_updates::<f64>();
}

fn check_vectors<T: Scalar>() {
    let mut rng = Philox::new(2, 0);
    for n in lengths() {
        let offset = n % 3;
        let [x, y] = [0; 2].map(|_| Placed::<T>::drawn(n, offset, &mut rng));
        let want = |f: &dyn Fn(T, T) -> T| -> Vec<T> {
            x.get().iter().zip(y.get()).map(|(&x, &y)| f(x, y)).collect()
        };
        let a = 0.3;
        // Small whole numbers: every order of the sum is exact.
        let [p, q] =
            [0; 2].map(|_| Placed::<T>::new(n, offset, |_| T::lit(rng.below(9) as f64 - 4.0)));
        let exact: f64 = p.get().iter().zip(q.get()).map(|(p, q)| p.to_f64() * q.to_f64()).sum();
        let largest = p.get().iter().fold(0.0, |max: f64, p| max.max(p.to_f64().abs()));
        let is_finite = x.get().iter().all(|x| x.is_finite());
        Cpu::for_each(|cpu| {
            let of = |f: &dyn Fn(&mut [T])| {
                let mut z = Placed::new(n, offset, |i| x.get()[i]);
                f(z.get_mut());
                z.memory.split_off(offset)
            };
            let got = of(&|z| vector::add_scaled(z, a, y.get()));
            assert_same(&got, &want(&|x, y| T::lit(x.to_f64() + a * y.to_f64())), (n, cpu));
            let got = of(&|z| vector::scaled(z, a, y.get()));
            assert_same(&got, &want(&|_, y| T::lit(a * y.to_f64())), (n, cpu));
            let got = of(&|z| vector::scale(z, a));
            assert_same(&got, &want(&|x, _| T::lit(a * x.to_f64())), (n, cpu));
            let got = of(&|z| vector::multiply(z, y.get()));
            assert_same(&got, &want(&|x, y| x * y), (n, cpu));
            let got = of(&|z| vector::difference(z, x.get(), y.get()));
            assert_same(&got, &want(&|x, y| x - y), (n, cpu));
            assert_eq!(vector::dot(p.get(), q.get()), exact, "dot of {n}, {cpu:?}");
            assert_eq!(vector::max_norm(p.get()), largest, "max_norm of {n}, {cpu:?}");
            assert_eq!(update::all_finite(x.get()), is_finite, "all_finite of {n}, {cpu:?}");
        });
    }
}

#[test]
fn vectors_are_plain_loops() {
    check_vectors::<f32>();
    check_vectors::<f64>();
}

fn check_reductions<T: Scalar>() {
    let mut rng = Philox::new(3, 0);
    for n in lengths().filter(|&n| n > 0) {
        // Along the contiguous axis and across it, with another odd number of lanes.
        let lanes = 1 + n % 5;
        for (extents, axis) in [([n, lanes], 0), ([lanes, n], 1)] {
            let shape = Shape::from(extents);
            let whole = Placed::<T>::new(shape.len(), n % 3, |_| T::lit(rng.below(9) as f64 - 4.0));
            let special = Placed::<T>::drawn(shape.len(), n % 3, &mut rng);
            let lane = |x: &Placed<T>, j: usize| -> Vec<T> {
                let at = |i: usize| if axis == 0 { i + n * j } else { j + lanes * i };
                (0..n).map(|i| x.get()[at(i)]).collect()
            };
            let fold = |x: &Placed<T>, f: fn(&[T]) -> T| -> Vec<T> {
                (0..lanes).map(|j| f(&lane(x, j))).collect()
            };
            Cpu::for_each(|cpu| {
                let check = |kind, x: &Placed<T>, want: Vec<T>| {
                    let mut y = Placed::new(lanes, 1, |_| T::lit(f64::NAN));
                    reduce(kind, &shape, Axes::one(axis), x.get(), y.get_mut());
                    // Of zeros of both signs either may be the largest.
                    let plus = |x: &[T]| x.iter().map(|&x| x + T::zero()).collect::<Vec<_>>();
                    assert_same(&plus(y.get()), &plus(&want), (kind, shape, cpu));
                };
                check(Reduction::Sum, &whole, fold(&whole, |x| x.iter().copied().sum()));
                check(Reduction::Max, &special, fold(&special, |x| extreme(x, |a, b| a > b)));
                check(Reduction::Min, &special, fold(&special, |x| extreme(x, |a, b| a < b)));
                check(
                    Reduction::All,
                    &special,
                    fold(&special, |x| one_if(!x.contains(&T::zero()))),
                );
                let is_some = |x: &[T]| one_if(x.iter().any(|&x| x != T::zero()));
                check(Reduction::Any, &special, fold(&special, is_some));
            });
        }
    }
}

/// The largest or smallest, by a comparison; NaN if there is one.
fn extreme<T: Scalar>(x: &[T], better: fn(T, T) -> bool) -> T {
    let nan = x.iter().copied().find(|x| x.is_nan());
    nan.unwrap_or(x.iter().fold(x[0], |a, &b| if better(b, a) { b } else { a }))
}

fn one_if<T: Scalar>(yes: bool) -> T {
    if yes { T::one() } else { T::zero() }
}

#[test]
fn reductions_are_plain_loops() {
    check_reductions::<f32>();
    check_reductions::<f64>();
}

/// An input of a random loop, whose elements are `step` apart: how it lies under the loop, and the
/// position of each element's.
fn access(extents: &[usize], repeats: &[bool], step: usize) -> (Access, Vec<usize>) {
    let (mut strides, mut len) = ([0; MAX_RANK], step);
    for (axis, (&extent, &repeated)) in extents.iter().zip(repeats).enumerate() {
        if !repeated {
            (strides[axis], len) = (len, len * extent);
        }
    }
    let positions = (0..extents.iter().product()).map(|mut i| {
        let mut at = 0;
        for (&extent, &stride) in extents.iter().zip(&strides) {
            at += i % extent * stride;
            i /= extent;
        }
        at
    });
    let mut all = [1; MAX_RANK];
    all[..extents.len()].copy_from_slice(extents);
    let access = if repeats.iter().all(|&r| r) {
        Access::Splat
    } else if !repeats.contains(&true) && step == 1 {
        Access::Dense
    } else {
        Access::Strided { rank: extents.len() as u8, extents: all, strides }
    };
    (access, positions.collect())
}

/// A random program over random broadcasts, against the same program on whole vectors.
fn check_loop<T: Scalar>(rng: &mut Philox) {
    let mut below = |n: usize| rng.below(n as u64) as usize;
    let most = [1300, 40, 9, 3];
    let extents: Vec<usize> = (0..1 + below(3)).map(|axis| 1 + below(most[axis])).collect();
    let n: usize = extents.iter().product();

    let n_inputs = 1 + below(4);
    let (mut accesses, mut inputs, mut values) = (vec![], vec![], vec![]);
    for _ in 0..n_inputs {
        let repeats: Vec<bool> = extents.iter().map(|_| below(3) == 0).collect();
        let (access, positions) = access(&extents, &repeats, 1 + below(4) / 3);
        let len = positions.iter().max().map_or(0, |&at| at + 1);
        let mut seeded = Philox::new(below(1 << 30) as u64, 0);
        let x = Placed::<T>::drawn(len, below(4), &mut seeded);
        values.push((
            Slot::Input(accesses.len() as u8),
            positions.iter().map(|&at| x.get()[at]).collect(),
        ));
        accesses.push(access);
        inputs.push(x);
    }

    // Later instructions read any input, register or output written before.
    let (mut code, mut n_registers, mut outputs, mut sums) = (vec![], 0, vec![], vec![]);
    for step in 0..1 + below(8) {
        let picked = [0; 3].map(|_| below(values.len()));
        let args = picked.map(|i: usize| values[i].0);
        let [a, b, c]: [&Vec<T>; 3] = picked.map(|i: usize| &values[i].1);
        if below(6) == 0 && sums.len() < 2 {
            code.push(Instruction { run: Loop::Sum, args, to: Target::Sum(sums.len() as u8) });
            sums.push(a.clone());
            continue;
        }
        let (run, value): (Loop<T>, Vec<T>) = match below(3) {
            0 => {
                (Loop::One(|a, y| each1(|a: T| -a * a, a, y)), a.iter().map(|&a| -a * a).collect())
            }
            1 => (
                Loop::Two(|a, b, y| each2(|a: T, b: T| a + b, a, b, y)),
                a.iter().zip(b).map(|(&a, &b)| a + b).collect(),
            ),
            _ => (
                Loop::Three(|a, b, c, y| {
                    each3(|a: T, b: T, c: T| if a > b { c } else { a }, a, b, c, y)
                }),
                a.iter().zip(b).zip(c).map(|((&a, &b), &c)| if a > b { c } else { a }).collect(),
            ),
        };
        if outputs.is_empty() || (step % 2 == 0 && outputs.len() < 3) {
            let slot = outputs.len() as u8;
            code.push(Instruction { run, args, to: Target::Output(slot) });
            outputs.push(value.clone());
            values.push((Slot::Output(slot), value));
        } else {
            // A register that this instruction does not read may be written again.
            let free =
                (0..n_registers).find(|&r| !args.contains(&Slot::Register(r)) && below(2) == 0);
            let slot = free.unwrap_or(n_registers);
            n_registers = n_registers.max(slot + 1);
            values.retain(|(s, _)| *s != Slot::Register(slot));
            code.push(Instruction { run, args, to: Target::Register(slot) });
            values.push((Slot::Register(slot), value));
        }
    }
    assert!(usize::from(n_registers) <= MAX_REGISTERS);
    let (n_outputs, n_sums) = (outputs.len(), sums.len());
    let n_ops = code.len() - n_sums;
    let written = (n_outputs, n_registers.into());
    let program = MapLoop::new(&code, accesses, written, n_sums, n_ops, n);
    let what = format!("{} over {extents:?}: {program:?}", T::NAME);

    let offset = below(4);
    let nan = |_| T::lit(f64::NAN);
    Cpu::for_each(|cpu| {
        let mut scratch = Placed::new(program.scratch(), offset, nan);
        let mut partial = Placed::new(program.n_blocks() * n_sums, offset, nan);
        let mut got: Vec<_> = outputs.iter().map(|_| Placed::new(n, offset, nan)).collect();
        let x: Vec<&[T]> = inputs.iter().map(Placed::get).collect();
        let mut y: Vec<&mut [T]> = got.iter_mut().map(Placed::get_mut).collect();
        program.run(0..n, &x, &mut y, partial.get_mut(), scratch.get_mut());
        for (i, (got, want)) in got.iter().zip(&outputs).enumerate() {
            assert_same(got.get(), want, (cpu, i, &what));
            assert!(got.before().iter().all(|&y| y == T::lit(-77.0)), "{cpu:?} {what}");
        }
        for (i, summed) in sums.iter().enumerate() {
            // That of the reduction of the whole vector, bit for bit.
            let mut want = [T::zero()];
            reduce(Reduction::Sum, &[n].into(), Axes::one(0), summed, &mut want);
            assert_same(&[total(partial.get(), n_sums, i)], &want, (cpu, "sum", i, &what));
        }
    });
}

#[test]
fn loops_are_their_programs() {
    let mut rng = Philox::new(4, 0);
    for _ in 0..if cfg!(miri) { 4 } else { 300 } {
        check_loop::<f32>(&mut rng);
        check_loop::<f64>(&mut rng);
    }
}
