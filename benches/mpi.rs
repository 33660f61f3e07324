//! The sum of gradients over ranks, by exchanges of slices and our own additions, beside
//! MPI_Allreduce. `cargo bench --features mpi --bench mpi [-- RANKS]`: it runs itself under
//! `mpirun`.

use ::mpi::ffi;
use gradtape::Result;
use gradtape::dist::{Group, Incoming, Lane, Mpi, Outgoing};
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

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
        println!("{} ranks; µs a sum by the slowest rank, median (least)", group.size());
        let [a, b, c, d] = ["exchange", "started", "MPI_Allreduce", "ratio"];
        println!("{:>10}{a:>24}{b:>24}{c:>24}{d:>16}", "bytes");
    }
    for (bytes, repeats) in SIZES {
        let own: Vec<f32> = (0..bytes / F32).map(|i| (i % 13 + me) as f32).collect();
        let own: Vec<u8> = own.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let mut sum = Sum::new(&group, bytes);
        let mut reduced = vec![0f32; bytes / F32];
        // In turns, so that what else happens on the machine happens to all.
        let mut times = [(); 3].map(|()| Vec::with_capacity(repeats));
        for _ in 0..repeats + 3 {
            times[0].push(timed(&mut group, |group| sum.by_exchange(group, &own))?);
            times[1].push(timed(&mut group, |group| sum.by_start(group, &own))?);
            times[2].push(timed(&mut group, |_| all_reduce(&own, &mut reduced))?);
        }
        let reduced: Vec<u8> = reduced.iter().flat_map(|x| x.to_ne_bytes()).collect();
        assert!(sum.total == reduced, "sums of whole numbers are the same");
        let mut line = format!("{bytes:>10}");
        let mut figures = [[0.0; 2]; 3];
        for (figures, times) in figures.iter_mut().zip(&times) {
            *figures = slowest(&mut group, &times[3..])?;
            line += &format!("{:>12.1}{:>12}", figures[0], format!("({:.1})", figures[1]));
        }
        if me == 0 {
            let [exchange, _, allreduce] = figures;
            let ratio = [0, 1].map(|i| exchange[i] / allreduce[i]);
            println!("{line}{:>8.2}{:>8}", ratio[0], format!("({:.2})", ratio[1]));
        }
    }
    Ok(())
}

/// The time of one call, begun by all ranks together.
fn timed(group: &mut Mpi, f: impl FnOnce(&mut Mpi) -> Result<()>) -> Result<Duration> {
    let others = (0..group.size()).filter(|&r| r != group.rank());
    let send: Vec<Outgoing<'_>> = others.clone().map(|r| (r, &[][..])).collect();
    let mut receive: Vec<Incoming<'_>> = others.map(|r| (r, &mut [][..])).collect();
    group.exchange(&send, &mut receive)?;
    let since = Instant::now();
    f(group)?;
    Ok(since.elapsed())
}

/// The median and the least, in µs, of the calls, each with the time of the rank that took longest.
fn slowest(group: &mut Mpi, times: &[Duration]) -> Result<[f64; 2]> {
    let own: Vec<u8> = times.iter().flat_map(|t| (t.as_nanos() as u64).to_ne_bytes()).collect();
    let others: Vec<usize> = (0..group.size()).filter(|&r| r != group.rank()).collect();
    let mut theirs = vec![own.clone(); others.len()];
    let send: Vec<Outgoing<'_>> = others.iter().map(|&r| (r, &own[..])).collect();
    let mut receive: Vec<Incoming<'_>> =
        others.iter().copied().zip(theirs.iter_mut().map(|t| &mut t[..])).collect();
    group.exchange(&send, &mut receive)?;
    theirs.push(own);
    let nanos = |of: &[u8], i: usize| u64::from_ne_bytes(of.as_chunks().0[i]);
    let mut slowest: Vec<u64> = (0..times.len())
        .map(|i| theirs.iter().map(|of| nanos(of, i)).max().unwrap_or_default())
        .collect();
    slowest.sort_unstable();
    Ok([slowest[slowest.len() / 2], slowest[0]].map(|nanos| nanos as f64 / 1e3))
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

/// MPI's own.
fn all_reduce(own: &[u8], total: &mut [f32]) -> Result<()> {
    assert_eq!((own.as_ptr() as usize % F32, own.len()), (0, total.len() * F32));
    // SAFETY: MPI is initialized, as a group exists; both buffers have that many aligned numbers.
    let code = unsafe {
        ffi::MPI_Allreduce(
            own.as_ptr().cast(),
            total.as_mut_ptr().cast(),
            total.len() as i32,
            ffi::RSMPI_FLOAT,
            ffi::RSMPI_SUM,
            ffi::RSMPI_COMM_WORLD,
        )
    };
    assert_eq!(code, 0, "MPI_Allreduce");
    Ok(())
}
