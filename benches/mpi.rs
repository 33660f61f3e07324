//! The sum of gradients over ranks, by exchanges of slices and our own additions, beside
//! MPI_Allreduce; and what it costs a run of a session. `cargo bench --features mpi --bench mpi
//! [-- RANKS]`: it runs itself under `mpirun`.

use ::mpi::ffi;
use gradtape::dist::{Group, Incoming, Lane, Mpi, Outgoing, local};
use gradtape::{ANY, Result, Session, Tape, Tensor};
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Bytes of a gradient, and how often it is summed.
const SIZES: [(usize, usize); 4] =
    [(4000, 4000), (400_000, 400), (4_000_000, 100), (40_000_000, 15)];
const F32: usize = size_of::<f32>();

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let first = args.next();
    if first.as_deref() != Some("--rank") {
        let mut mpirun = Command::new("mpirun");
        mpirun.arg("-n").arg(first.unwrap_or("2".into()));
        mpirun.args(std::env::current_exe().ok()).arg("--rank");
        mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        mpirun.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
        return match mpirun.status() {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            status => {
                eprintln!("mpirun: {status:?}");
                ExitCode::FAILURE
            }
        };
    }
    match rank() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn rank() -> Result<()> {
    let mut group = Mpi::init()?;
    let me = group.rank();
    if me == 0 {
        println!("{} ranks; µs by the slowest rank, median (least)", group.size());
        title(&["exchange", "started", "MPI_Allreduce"]);
    }
    for (bytes, repeats) in SIZES {
        let own_numbers: Vec<f32> = (0..bytes / F32).map(|i| (i % 13 + me) as f32).collect();
        let own: Vec<u8> = own_numbers.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let mut sum = Sum::new(&group, bytes);
        let mut reduced = vec![0f32; bytes / F32];
        // In turns, so that what else happens on the machine happens to all.
        let mut times = [(); 3].map(|()| Vec::with_capacity(repeats));
        for _ in 0..repeats + 3 {
            times[0].push(timed(|| sum.by_exchange(&mut group, &own))?);
            times[1].push(timed(|| sum.by_start(&mut group, &own))?);
            times[2].push(timed(|| all_reduce(&own_numbers, &mut reduced))?);
        }
        let reduced: Vec<u8> = reduced.iter().flat_map(|x| x.to_ne_bytes()).collect();
        assert!(sum.total == reduced, "sums of whole numbers are the same");
        let ratio = |[exchange, _, allreduce]: [f64; 3]| exchange / allreduce;
        line(me, bytes, times.map(|times| slowest(&times[3..])), ratio);
    }
    sessions(group)
}

/// A run that fetches a gradient, on all ranks and on one that is alone: what it takes longer is
/// the exchange.
fn sessions(group: Mpi) -> Result<()> {
    let (me, size) = (group.rank(), group.size());
    if me == 0 {
        title(&["run", "run alone", "MPI_Allreduce"]);
    }
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, 1]);
    // The gradient of Σ (x w)² is a sum over rows, of which each rank has one.
    let gradient = |(bytes, _): (usize, usize)| {
        let w = tape.variable("w", Tensor::full([1, bytes / F32], 0.5)?);
        Ok(tape.gradient(x.matmul(w).square().sum(), &[w])?[0])
    };
    let gradients = SIZES.into_iter().map(gradient).collect::<Result<Vec<_>>>()?;
    let mut together = Session::new(&tape)?.with_shards(size)?.with_group(group);
    let mut alone = Session::new(&tape)?.with_group(local(1).remove(0));
    let row = Tensor::full([1, 1], 1.0)?;
    let row = [x.feed(&row)];
    for (gradient, (bytes, repeats)) in gradients.into_iter().zip(SIZES) {
        let mut sum = Tensor::default();
        let (own, mut reduced) = (vec![0.0; bytes / F32], vec![0.0; bytes / F32]);
        let mut times = [(); 3].map(|()| Vec::with_capacity(repeats));
        for _ in 0..repeats + 3 {
            times[0].push(timed(|| together.run_into(gradient, &row, &mut sum))?);
            assert!(sum.as_slice().iter().all(|&g| g == size as f32));
            times[1].push(timed(|| alone.run_into(gradient, &row, &mut sum))?);
            times[2].push(timed(|| all_reduce(&own, &mut reduced))?);
        }
        let ratio = |[together, alone, allreduce]: [f64; 3]| (together - alone) / allreduce;
        line(me, bytes, times.map(|times| slowest(&times[3..])), ratio);
    }
    Ok(())
}

fn title(columns: &[&str; 3]) {
    let [a, b, c] = columns;
    println!("{:>10}{a:>24}{b:>24}{c:>24}{:>16}", "bytes", "ratio");
}

/// Three medians and leasts, and the ratio of them.
fn line(me: usize, bytes: usize, figures: [[f64; 2]; 3], ratio: impl Fn([f64; 3]) -> f64) {
    if me == 0 {
        let [a, b, c] = figures.map(|[median, least]| format!("{median:.1} ({least:.1})"));
        let [median, least] = [0, 1].map(|i| ratio(figures.map(|f| f[i])));
        println!("{bytes:>10}{a:>24}{b:>24}{c:>24}{:>16}", format!("{median:.2} ({least:.2})"));
    }
}

/// The seconds of one call, begun by all ranks together.
fn timed(f: impl FnOnce() -> Result<()>) -> Result<f64> {
    // SAFETY: MPI is initialized, as a group exists, and nothing of that group is under way.
    let code = unsafe { ffi::MPI_Barrier(ffi::RSMPI_COMM_WORLD) };
    assert_eq!(code, 0, "MPI_Barrier");
    let since = Instant::now();
    f()?;
    Ok(since.elapsed().as_secs_f64())
}

/// The median and the least, in µs, of the calls, each with the time of the rank that took longest.
fn slowest(times: &[f64]) -> [f64; 2] {
    let mut slowest = times.to_vec();
    // SAFETY: numbers of this type.
    unsafe { reduce(times, &mut slowest, ffi::RSMPI_DOUBLE, ffi::RSMPI_MAX) };
    slowest.sort_by(f64::total_cmp);
    [slowest[slowest.len() / 2], slowest[0]].map(|seconds| seconds * 1e6)
}

/// MPI's own sum.
fn all_reduce(own: &[f32], total: &mut [f32]) -> Result<()> {
    // SAFETY: numbers of this type.
    unsafe { reduce(own, total, ffi::RSMPI_FLOAT, ffi::RSMPI_SUM) };
    Ok(())
}

/// # Safety
/// T is what the type says.
unsafe fn reduce<T>(own: &[T], to: &mut [T], of: ffi::MPI_Datatype, op: ffi::MPI_Op) {
    assert_eq!(own.len(), to.len());
    let (from, into, len) = (own.as_ptr().cast(), to.as_mut_ptr().cast(), to.len() as i32);
    // SAFETY: MPI is initialized, as a group exists; both buffers have that many numbers.
    let code = unsafe { ffi::MPI_Allreduce(from, into, len, of, op, ffi::RSMPI_COMM_WORLD) };
    assert_eq!(code, 0, "MPI_Allreduce");
}

/// Memory of a sum of gradients in which every rank adds up its slice.
struct Sum {
    /// What each rank sums, in units of 64 bytes.
    slices: Vec<Range<usize>>,
    /// This rank's slice as every other rank has it.
    theirs: Vec<(usize, Vec<u8>)>,
    total: Vec<u8>,
}

impl Sum {
    fn new(group: &Mpi, bytes: usize) -> Self {
        let (me, size) = (group.rank(), group.size());
        let cut = |i: usize| (bytes.div_ceil(64) * i / size * 64).min(bytes);
        let slices: Vec<_> = (0..size).map(|i| cut(i)..cut(i + 1)).collect();
        let room = |other: usize| (other, vec![0; slices[me].len()]);
        let theirs = (0..size).filter(|&other| other != me).map(room).collect();
        Sum { slices, theirs, total: vec![0; bytes] }
    }

    fn by_exchange(&mut self, group: &mut Mpi, own: &[u8]) -> Result<()> {
        let me = group.rank();
        let send: Vec<Outgoing<'_>> =
            self.theirs.iter().map(|(r, _)| (*r, &own[self.slices[*r].clone()])).collect();
        let mut receive: Vec<Incoming<'_>> =
            self.theirs.iter_mut().map(|(r, room)| (*r, &mut room[..])).collect();
        group.exchange(&send, &mut receive)?;
        self.add(me, own);
        let (mine, mut receive) = self.spread(me);
        let send: Vec<Outgoing<'_>> = receive.iter().map(|(r, _)| (*r, mine)).collect();
        group.exchange(&send, &mut receive)
    }

    /// The same, by exchanges that could go on beside other work.
    fn by_start(&mut self, group: &mut Mpi, own: &[u8]) -> Result<()> {
        let me = group.rank();
        let send: Vec<Outgoing<'_>> =
            self.theirs.iter().map(|(r, _)| (*r, &own[self.slices[*r].clone()])).collect();
        let room: Vec<_> = self.theirs.iter().map(|(r, room)| (*r, room.len())).collect();
        group.start(Lane::First, &send, &room)?;
        let mut receive: Vec<Incoming<'_>> =
            self.theirs.iter_mut().map(|(r, room)| (*r, &mut room[..])).collect();
        group.finish(Lane::First, &mut receive)?;
        self.add(me, own);
        let (mine, mut receive) = self.spread(me);
        let send: Vec<Outgoing<'_>> = receive.iter().map(|(r, _)| (*r, mine)).collect();
        let room: Vec<_> = receive.iter().map(|(r, into)| (*r, into.len())).collect();
        group.start(Lane::First, &send, &room)?;
        group.finish(Lane::First, &mut receive)
    }

    /// Adds up this rank's slice, in the order of the ranks.
    fn add(&mut self, me: usize, own: &[u8]) {
        let slice = self.slices[me].clone();
        let total = self.total[slice.clone()].as_chunks_mut::<F32>().0;
        let before = |other: usize| other < me;
        let own = (me, &own[slice]);
        let theirs = self.theirs.iter().map(|(r, bytes)| (*r, &bytes[..]));
        let first = theirs.clone().filter(|t| before(t.0));
        let all = first.chain([own]).chain(theirs.filter(|t| !before(t.0)));
        for (nth, (_, bytes)) in all.enumerate() {
            for (sum, x) in total.iter_mut().zip(bytes.as_chunks::<F32>().0) {
                let so_far = if nth == 0 { 0.0 } else { f32::from_ne_bytes(*sum) };
                *sum = (so_far + f32::from_ne_bytes(*x)).to_ne_bytes();
            }
        }
    }

    /// This rank's slice of the total, and where those of the others go.
    fn spread(&mut self, me: usize) -> (&[u8], Vec<Incoming<'_>>) {
        let (mut mine, mut others) = (&[][..], Vec::new());
        let mut rest = &mut self.total[..];
        for (rank, slice) in self.slices.iter().enumerate() {
            let (part, after) = rest.split_at_mut(slice.len());
            rest = after;
            if rank == me {
                mine = part;
            } else {
                others.push((rank, part));
            }
        }
        (mine, others)
    }
}
