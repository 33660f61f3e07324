//! D7: the state of optimizers shared out over ranks. Each keeps its slice only; weights have the
//! bits that they have otherwise, and so do checkpoints.

mod support;

use gradtape::dist::{Group, local};
use gradtape::nn::Init;
use gradtape::optim::{Adam, Asgd, Averaged, Clip, Groups, Lamb, RmsProp, Sgd};
use gradtape::{ANY, ErrorKind, Expr, Notes, Philox, Result, Session, Shape, Tape, Tensor};
use std::path::PathBuf;
use support::{held, on_ranks};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const SHARDS: usize = 8;
const STEPS: u64 = 5;

fn normal(shape: impl Into<Shape>, seed: u64) -> Tensor {
    Init::Normal { std: 0.5 }.tensor(shape, &mut Philox::new(seed, 0)).unwrap()
}

type Rule = for<'t> fn(Expr<'t>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>;

/// Rules with up to three slots, steps that depend on all gradients, several updates in a run.
const RULES: &[(&str, Rule)] = &[
    ("momentum", |loss, _| Ok(vec![Sgd::new(0.05).with_momentum(0.9).minimize(loss)?])),
    ("clipped", |loss, _| Ok(vec![Adam::new(0.01).with_clip(Clip::Norm(0.1)).minimize(loss)?])),
    ("asgd", |loss, _| Ok(vec![Asgd::new(0.01).minimize(loss)?])),
    ("average", |loss, _| Ok(vec![Averaged::exponential(Adam::new(0.01), 0.9).minimize(loss)?])),
    ("groups", |loss, w| {
        let rmsprop = RmsProp::new(0.01).with_momentum(0.5);
        Ok(vec![Groups::new(Adam::new(0.01)).with(&w[1..3], rmsprop).minimize(loss)?])
    }),
    ("several", |loss, w| {
        let first = Adam::new(0.01).minimize_over(loss, &w[..2])?;
        let second = Sgd::new(0.05).with_momentum(0.5).minimize_over(loss, &w[3..])?;
        Ok(vec![first, loss.tape().assign(w[2], w[2] * 0.5), second])
    }),
];

/// Trains a network, with a variable between the others that is not trained, and asks `f`.
fn train<R>(
    rule: Rule,
    steps: std::ops::Range<u64>,
    prepare: impl FnOnce(Session) -> Result<Session>,
    f: impl FnOnce(&mut Session, Expr<'_>) -> Result<R>,
) -> Result<R> {
    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, 7]);
    let w = [
        tape.variable("a", normal([7, 40], 1)),
        tape.variable("b", normal([40], 2)),
        tape.variable("fixed", normal([40], 3)),
        tape.variable("c", normal([40, 9], 4)),
        tape.variable("d", normal([9], 5)),
    ];
    let hidden = (x.matmul(w[0]) + w[1]).tanh() * w[2].stop_gradient();
    let loss = (hidden.matmul(w[3]) + w[4]).square().mean();
    let train = rule(loss, &[w[0], w[1], w[3], w[4]])?;
    let mut session = prepare(Session::new(&tape)?.with_shards(SHARDS)?)?;
    for step in steps {
        let n = [64, 13, 5][step as usize % 3];
        let (all, rows) = (normal([n, 7], 100 + step), session.rows(n));
        let at = |at: &[usize]| all.get(&[rows.start + at[0], at[1]]).unwrap();
        let own = Tensor::from_fn([rows.len(), 7], at)?;
        session.run((loss, train.as_slice()), &[x.feed(&own)])?;
    }
    f(&mut session, train[0])
}

fn bits(session: &mut Session, _: Expr<'_>) -> Result<Vec<u64>> {
    Ok(session.parameters().iter().map(|w| w.to_bits()).collect())
}

fn adam() -> Rule {
    RULES[1].1
}

#[test]
fn d7_every_rule_has_the_bits_that_it_has_otherwise() -> Result<()> {
    for (name, rule) in RULES {
        let want = train(*rule, 0..STEPS, Ok, bits)?;
        for n in 1..=5 {
            let all = on_ranks(n, |group| {
                let prepare = |s: Session| {
                    s.with_threads(1 + group.rank() % 2)?.with_group(group).with_sharded_state()
                };
                train(*rule, 0..STEPS, prepare, bits).unwrap()
            });
            assert!(all.iter().all(|got| *got == want), "{name} on {n} ranks");
        }
    }
    Ok(())
}

/// Of a million parameters of Adam, what the report says that a rank keeps, and what its thread holds.
#[test]
fn d7_a_rank_keeps_its_slice_only() {
    let n = 1_000_000;
    let kept = |ranks: usize, shared: bool| {
        on_ranks(ranks, |group| {
            let tape = Tape::<f64>::new();
            let w = tape.variable("w", Tensor::full([n], 1.0).unwrap());
            let x = tape.placeholder("x", [ANY]);
            let train = Adam::new(0.1).minimize((w.square().sum() * x).sum()).unwrap();
            let mut session = Session::new(&tape).unwrap().with_shards(4).unwrap();
            session = session.with_group(group);
            if shared {
                session = session.with_sharded_state().unwrap();
            }
            let rows = Tensor::full([session.rows(4).len()], 1.0).unwrap();
            let said = session.report(train, &[x.feed(&rows)]);
            let before = held();
            session.run(train, &[x.feed(&rows)]).unwrap();
            (said.unwrap().state_bytes, (held() - before) as usize)
        })
    };
    for ranks in [1, 2, 4] {
        let (whole, shared) = (kept(ranks, false), kept(ranks, true));
        for (whole, shared) in whole.into_iter().zip(shared) {
            assert_eq!(whole.0, 2 * n * size_of::<f64>());
            assert!(shared.0.abs_diff(whole.0 / ranks) <= 2 * 64 * size_of::<f64>());
            let (saved, want) = (whole.1.saturating_sub(shared.1), whole.0 - shared.0);
            // Beside it, copies of messages on their way, of 2¹⁵ numbers each.
            let messages = 2 * (ranks - 1) * (8 << 15);
            assert!(saved + messages + 10_000 >= want, "{ranks} ranks: {saved} of {want}");
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gradtape-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn d7_checkpoints_are_those_of_one_rank() -> Result<()> {
    let folder = Folder::new("d7");
    let (whole, shared) = (folder.0.join("whole"), folder.0.join("shared"));
    let notes = Notes::new().with("step", 3);
    train(adam(), 0..3, Ok, |session, _| session.save(&whole, &notes))?;
    let want = train(adam(), 0..STEPS, Ok, bits)?;
    on_ranks(3, |group| {
        let rank = group.rank();
        let prepare = |s: Session| s.with_group(group).with_sharded_state();
        let saved = |session: &mut Session, _: Expr<'_>| {
            let e = session.save(&shared, &notes).unwrap_err();
            assert!(e.to_string().contains("gather_state"), "{e}");
            session.gather_state(1)?;
            let saved = session.save(&shared, &notes);
            assert_eq!(saved.is_ok(), rank == 1);
            Ok(())
        };
        train(adam(), 0..3, prepare, saved).unwrap();
    });
    assert_eq!(std::fs::read(&shared).unwrap(), std::fs::read(&whole).unwrap());

    let go_on = |s: Session| {
        let mut session = s;
        assert_eq!(session.load(&shared)?.get::<u64>("step")?, 3);
        Ok(session)
    };
    assert_eq!(train(adam(), 3..STEPS, go_on, bits)?, want);
    for n in [1, 2, 4] {
        let all = on_ranks(n, |group| {
            let prepare = |s: Session| go_on(s.with_group(group).with_sharded_state()?);
            train(adam(), 3..STEPS, prepare, |session, train| {
                // What was gathered is gone with the next step.
                session.gather_state(0)?;
                bits(session, train)
            })
            .unwrap()
        });
        assert!(all.iter().all(|got| *got == want), "{n} ranks");
    }
    Ok(())
}

#[test]
fn d7_what_was_gathered_is_gone_with_the_next_step() {
    on_ranks(2, |group| {
        let tape = Tape::<f64>::new();
        let train = Adam::new(0.1).minimize(tape.variable("w", 1.0)).unwrap();
        let session = Session::new(&tape).unwrap().with_group(group);
        let mut session = session.with_sharded_state().unwrap();
        for save in [true, false] {
            session.run(train, &[]).unwrap();
            if save {
                session.gather_state(0).unwrap();
            }
        }
        let e = session.save("never", &Notes::new()).unwrap_err();
        assert!(e.to_string().contains("gather_state"), "{e}");
    });
}

#[test]
fn d7_averages_change_places_on_all_ranks() -> Result<()> {
    let average: Rule = |loss, _| Ok(vec![Averaged::uniform(Sgd::new(0.1)).minimize(loss)?]);
    let both = |session: &mut Session, train: Expr<'_>| {
        let mut seen = vec![];
        for _ in 0..2 {
            session.swap_average(train)?;
            seen.push(bits(session, train)?);
        }
        Ok(seen)
    };
    let want = train(average, 0..STEPS, Ok, both)?;
    assert_ne!(want[0], want[1]);
    for n in [2, 3] {
        let all = on_ranks(n, |group| {
            let prepare = |s: Session| s.with_group(group).with_sharded_state();
            train(average, 0..STEPS, prepare, both).unwrap()
        });
        assert!(all.iter().all(|got| *got == want), "{n} ranks");
    }
    Ok(())
}

#[test]
fn d7_what_cannot_be_is_refused() {
    let e = train(adam(), 0..0, Session::with_sharded_state, bits).unwrap_err();
    assert_eq!(e.message(), "with_sharded_state: expected a session with a group, got none");

    // A step that depends on all state; nothing has moved.
    let lamb: Rule = |loss, _| Ok(vec![Lamb::new(0.1).minimize(loss)?]);
    for e in on_ranks(2, |group| {
        let prepare = |s: Session| s.with_group(group).with_sharded_state();
        train(lamb, 0..1, prepare, bits).unwrap_err()
    }) {
        assert_eq!(e.kind(), ErrorKind::Argument);
        let want = "lamb: step 1: expected all state, which the step depends on, got one rank's";
        assert!(e.to_string().contains(want), "{e}");
    }

    // After a step; in another group than the state's; no such rank.
    for errors in on_ranks(2, |group| {
        let tape = Tape::<f64>::new();
        let train = Adam::new(0.1).minimize(tape.variable("w", 1.0)).unwrap();
        let one = || local(1).swap_remove(0);
        let mut session = Session::new(&tape).unwrap().with_group(one());
        session.run(train, &[]).unwrap();
        let late = session.with_sharded_state().unwrap_err();
        let session = Session::new(&tape).unwrap().with_group(group);
        let mut session = session.with_sharded_state().unwrap();
        session.run(train, &[]).unwrap();
        let nobody = session.gather_state(2).unwrap_err();
        let other = session.with_group(one()).run(train, &[]).unwrap_err();
        [late, nobody, other].map(|e| e.to_string())
    }) {
        let want = [
            "with_sharded_state: expected it first, got it after state of",
            "gather_state: expected one of 2 ranks, got 2",
            "adam: expected state shared by 1 ranks, got it of 2",
        ];
        for (error, want) in errors.iter().zip(want) {
            assert!(error.contains(want), "{error}");
        }
    }
}

/// Ranks of which one shares its state, gathers it, or swaps its average alone.
#[test]
fn d7_ranks_that_disagree_hear_of_it() {
    type Alone = fn(Session, Expr<'_>, usize) -> Result<()>;
    let shares: Alone = |session, train, rank| {
        let session = if rank == 1 { session.with_sharded_state()? } else { session };
        ({ session }).run(train, &[]).map(drop)
    };
    let gathers: Alone = |session, train, rank| {
        let mut session = session.with_sharded_state()?;
        session.run(train, &[])?;
        if rank == 1 { session.gather_state(0) } else { session.run(train, &[]).map(drop) }
    };
    let swaps: Alone = |session, train, rank| {
        let mut session = session.with_sharded_state()?;
        session.run(train, &[])?;
        if rank == 1 { session.swap_average(train) } else { session.gather_state(1) }
    };
    let waits: Alone = |mut session, train, rank| {
        session.run(train, &[])?;
        session.barrier()?;
        if rank == 1 { session.barrier() } else { session.run(train, &[]).map(drop) }
    };
    let alone =
        [("start", shares), ("gather_state", gathers), ("swap_average", swaps), ("barrier", waits)];
    for (what, alone) in alone {
        for e in on_ranks(2, |group| {
            let rank = group.rank();
            let tape = Tape::<f64>::new();
            let w = tape.variable("w", normal([300], 1));
            let rule = Averaged::uniform(Sgd::new(0.1));
            let train = rule.minimize(w.square().sum()).unwrap();
            alone(Session::new(&tape).unwrap().with_group(group), train, rank).unwrap_err()
        }) {
            assert_eq!(e.kind(), ErrorKind::Group, "{e}");
            assert!(e.message().starts_with("ranks disagree: rank 0 has run"), "{e}");
            assert!(e.message().contains(what), "{e}");
        }
    }
}

#[test]
fn a_barrier_keeps_ranks_until_all_have_come() {
    let written = std::sync::atomic::AtomicBool::new(false);
    on_ranks(3, |group| {
        let rank = group.rank();
        let tape = Tape::<f64>::new();
        let mut session = Session::new(&tape).unwrap().with_group(group);
        if rank == 1 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            written.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        session.barrier().unwrap();
        assert!(written.load(std::sync::atomic::Ordering::SeqCst), "rank {rank} went on");
    });
    Session::new(&Tape::<f64>::new()).unwrap().barrier().unwrap();
}
