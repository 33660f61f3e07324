//! Ranks that are processes, on one machine or many. MPI moves segments whose memory is the group's
//! own, so that a rank that stops answering is an error and not a hang.

use super::{Group, Incoming, Lane, Outgoing};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::mpi::{Flight, Segment, World};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a rank waits for another if nothing else was said.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a rank that fails gives the others to hear of it, before its end ends them all.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long what a rank had sent before it left may be under way.
const AFTERGLOW: Duration = Duration::from_millis(50);

/// Segments of a message that are in flight at once; all of one that was started.
const WINDOW: usize = 8;
const ALL: usize = usize::MAX;
/// The first segment of a message begins with the number of its bytes.
const HEADER: usize = size_of::<u64>();

/// Tags: parts of messages, by lane, and the last words of a rank.
const DATA: [u16; 2] = [1, 2];
const NOTICE: u16 = 3;
/// Bytes of a notice, few enough to arrive without the receiver's help.
const LONGEST_NOTICE: usize = 1024;
/// The exit code after a panic, as Rust has it.
const PANIC: u8 = 101;

/// How a waiting rank passes its time: so many looks in a row, then so many beside which others may
/// have the core, then one in 50 µs.
const SPINS: u32 = 100;
const YIELDS: u32 = 2000;
const NAP: Duration = Duration::from_micros(50);
/// How long exchanges that were started go on without being looked after.
const ROUND: Duration = Duration::from_micros(200);

/// A rank of a group of processes that were launched together by `mpirun` or its kin.
///
/// Dropped, it waits for the other ranks to drop theirs, until the deadline. After an error, or
/// while its thread panics, it tells them at once, and MPI is not finalized: then the launcher ends
/// what is left of the job, with a code other than 0. So print an error before you drop the group.
///
/// A message costs a copy on either side, through segments that stay in the cache: of 127 KiB, or of
/// 63 KiB between hosts. What was begun once allocates nothing when it is done again. From the first
/// exchange that is started on, a thread looks after those under way, every 200 µs while there are
/// any.
///
/// ```no_run
/// use gradtape::dist::{Group, Mpi};
/// let mut rank = Mpi::init()?;
/// if rank.size() == 2 {
///     let (own, mut other) = ([rank.rank() as u8], [0]);
///     let peer = 1 - rank.rank();
///     rank.exchange(&[(peer, &own)], &mut [(peer, &mut other)])?;
/// }
/// # Ok::<(), gradtape::Error>(())
/// ```
pub struct Mpi {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
    /// Lets what was started go on.
    courier: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    link: Link,
    /// By lane.
    started: [VecDeque<Exchange>; 2],
    /// Exchanges and messages that have ended, for their memory.
    exchanges: Vec<Exchange>,
    messages: Vec<Message>,
    /// The courier is to go home.
    is_over: bool,
}

/// This rank, and what it knows of the others.
struct Link {
    world: World,
    deadline: Duration,
    spare: Vec<Segment>,
    /// What a notice of any rank is received into, until all ranks have sent theirs.
    notice: Option<Flight>,
    /// When a rank said that it leaves; each says so once.
    left: Vec<Option<Instant>>,
    has_told: bool,
    /// Why the group is of no more use.
    failed: Option<String>,
    /// MPI itself has told, or will tell, the others: ranks have died, and it outlives that.
    is_broken: bool,
    /// It was another rank that said so.
    has_heard: bool,
}

#[derive(Default)]
struct Exchange {
    sends: Vec<Message>,
    receives: Vec<Message>,
}

/// A message on its way, cut into segments that are sent and received in order.
#[derive(Default)]
struct Message {
    peer: usize,
    tag: u16,
    /// Bytes, with the header.
    total: usize,
    /// Bytes that MPI was given, or has room for.
    begun: usize,
    /// Bytes that have left, or have arrived.
    ended: usize,
    /// Bytes of the payload that the receiver has read.
    delivered: usize,
    flights: VecDeque<Flight>,
    arrived: VecDeque<Segment>,
}

/// How long nothing has moved.
#[derive(Default)]
struct Wait {
    idle: u32,
    since: Option<Instant>,
}

impl Mpi {
    /// Joins the processes that were launched together; all of them must, and each once.
    ///
    /// # Errors
    /// An MPI that cannot be called from any thread, one at a time; a second group in a process; a
    /// launcher that says it started several ranks where MPI sees one, as that of another MPI does.
    pub fn init() -> Result<Self> {
        let mut world = World::init()?;
        if let (1, Some((name, n))) = (world.size(), launched()) {
            world.finalize_on_drop();
            bail!(
                Group,
                "MPI: expected {n} ranks, as {name} says, got 1: the launcher is not that of the \
                 MPI this program is linked with"
            );
        }
        Self::of(world)
    }

    fn of(world: World) -> Result<Self> {
        let mut link = Link {
            left: vec![None; world.size()],
            world,
            deadline: DEADLINE,
            spare: Vec::new(),
            notice: None,
            has_told: false,
            failed: None,
            is_broken: false,
            has_heard: false,
        };
        link.listen()?;
        let (rank, size) = (link.world.rank(), link.world.size());
        let (exchanges, messages) = (Vec::new(), Vec::new());
        let state =
            State { link, started: Default::default(), exchanges, messages, is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), news: Condvar::new() });
        Ok(Mpi { rank, size, shared, courier: None })
    }

    /// The ranks that live, as a group of their own with new numbers, when others of the last group
    /// have died; or nothing, if none has, or no group has failed. Call it on every rank after
    /// an error, when the session that had the group is dropped: with a new session that loads the
    /// last checkpoint, training goes on in the same job to the same bits, as these do not depend on
    /// the number of ranks.
    ///
    /// It needs an MPI by which ranks outlive the death of another: Open MPI 5, under `mpirun
    /// --with-ft ulfm`.
    ///
    /// ```no_run
    /// use gradtape::{Error, dist::{Group, Mpi}};
    /// use std::time::Duration;
    /// # fn train(group: Mpi) -> Result<(), Error> { Ok(()) }
    /// let mut group = Mpi::init()?;
    /// while let Err(e) = train(group) {
    ///     let Some(survivors) = Mpi::survivors(Duration::from_secs(60))? else { return Err(e) };
    ///     group = survivors;
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Another MPI, or another launcher; a rank that lives and does not call this before the
    /// deadline, which is the new group's too.
    pub fn survivors(deadline: Duration) -> Result<Option<Self>> {
        let mut failure = None;
        while let Some(world) = World::survivors(deadline)? {
            match Self::of(world) {
                Ok(group) => return Ok(Some(group.with_deadline(deadline))),
                // If another has died in this moment, the next world is without it.
                Err(e) => failure = Some(e),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// With this deadline for every wait, counted from when a byte moved last; the default is a
    /// minute.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        self.shared.state().link.deadline = deadline;
        self
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the courier does: looks after exchanges that were started, until it is over. Errors
    /// stay, and are those of the next call.
    fn look_after(&self) {
        let mut state = self.state();
        while !state.is_over {
            if state.is_idle() || state.link.failed.is_some() {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let _ = state.progress();
            drop(state);
            std::thread::sleep(ROUND);
            state = self.state();
        }
    }
}

impl State {
    /// An exchange with these ranks, of so many bytes each.
    fn begin(
        &mut self,
        lane: Lane,
        sends: impl Iterator<Item = (usize, usize)>,
        receives: impl Iterator<Item = (usize, usize)>,
        window: usize,
    ) -> Result<Exchange> {
        self.link.check()?;
        let (rank, size) = (self.link.world.rank(), self.link.world.size());
        let mut exchange = self.exchanges.pop().unwrap_or_default();
        let sends = sends.map(|message| (false, message));
        for (receives, (peer, len)) in sends.chain(receives.map(|message| (true, message))) {
            if peer == rank || peer >= size {
                let text = format!("expected another rank below {size}, got {peer}");
                return Err(self.link.error(&text));
            }
            let mut message = self.messages.pop().unwrap_or_default();
            message.reset(lane, peer, len, (self.link.world.segment(), window));
            match receives {
                true => exchange.receives.push(message),
                false => exchange.sends.push(message),
            }
        }
        Ok(exchange)
    }

    /// Moves everything, or fails for good: what is in flight then is never given back by MPI.
    fn run(
        &mut self,
        mut exchange: Exchange,
        send: &[Outgoing<'_>],
        receive: &mut [Incoming<'_>],
    ) -> Result<()> {
        exchange.run(&mut self.link, send, receive).map_err(|e| self.link.fault(e))?;
        self.messages.append(&mut exchange.sends);
        self.messages.append(&mut exchange.receives);
        self.exchanges.push(exchange);
        Ok(())
    }

    fn exchange(&mut self, send: &[Outgoing<'_>], receive: &mut [Incoming<'_>]) -> Result<()> {
        if !self.is_idle() {
            let n: usize = self.started.iter().map(VecDeque::len).sum();
            let text = format!("exchange: expected none to be started, got {n}");
            return Err(self.link.error(&text));
        }
        let sends = send.iter().map(|(to, bytes)| (*to, bytes.len()));
        let receives = receive.iter().map(|(from, into)| (*from, into.len()));
        let exchange = self.begin(Lane::First, sends, receives, WINDOW)?;
        self.run(exchange, send, receive)
    }

    fn is_idle(&self) -> bool {
        self.started.iter().all(VecDeque::is_empty)
    }

    fn is_done(&self, lane: Lane) -> bool {
        let first = self.started[lane as usize].front();
        first.is_none_or(|exchange| exchange.rest().is_none()) || self.link.failed.is_some()
    }

    fn start(
        &mut self,
        lane: Lane,
        send: &[Outgoing<'_>],
        receive: &[(usize, usize)],
    ) -> Result<()> {
        let sends = send.iter().map(|(to, bytes)| (*to, bytes.len()));
        let mut exchange = self.begin(lane, sends, receive.iter().copied(), ALL)?;
        exchange.start(&mut self.link, send).map_err(|e| self.link.fault(e))?;
        self.started[lane as usize].push_back(exchange);
        Ok(())
    }

    /// Lets what was started go on.
    fn progress(&mut self) -> Result<()> {
        let go_on = self.started.iter_mut().flatten().try_for_each(|exchange| {
            exchange
                .sends
                .iter_mut()
                .try_for_each(|m| m.send(&mut self.link, &[], ALL).map(drop))?;
            exchange.receives.iter_mut().try_for_each(|m| m.receive(&mut self.link).map(drop))
        });
        go_on.and_then(|()| self.link.hear()).map_err(|e| self.link.fault(e))
    }

    fn finish(&mut self, lane: Lane, receive: &mut [Incoming<'_>]) -> Result<()> {
        self.link.check()?;
        let wanted = receive.iter().map(|(from, into)| (*from, into.len()));
        let started =
            self.started[lane as usize].front().map_or(&[][..], |exchange| &exchange.receives);
        if !started.iter().map(|m| (m.peer, m.total - HEADER)).eq(wanted.clone()) {
            let [started, wanted] = [
                started.iter().map(|m| (m.peer, m.total - HEADER)).collect::<Vec<_>>(),
                wanted.collect(),
            ];
            let text = format!("finish: expected {started:?}, as started, got {wanted:?}");
            return Err(self.link.error(&text));
        }
        match self.started[lane as usize].pop_front() {
            Some(exchange) => self.run(exchange, &[], receive),
            None => Ok(()),
        }
    }
}

impl Group for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&mut self, send: &[Outgoing<'_>], receive: &mut [Incoming<'_>]) -> Result<()> {
        self.shared.state().exchange(send, receive)
    }

    fn start(
        &mut self,
        lane: Lane,
        send: &[Outgoing<'_>],
        receive: &[(usize, usize)],
    ) -> Result<()> {
        self.shared.state().start(lane, send, receive)?;
        if self.courier.is_none() {
            let shared = Arc::clone(&self.shared);
            let courier = std::thread::Builder::new().name("gradtape-courier".to_string());
            let courier = courier.spawn(move || shared.look_after());
            self.courier = Some(courier.map_err(|e| {
                Error::new(ErrorKind::Group, format!("a thread for exchanges: {e}"))
            })?);
        }
        self.shared.news.notify_one();
        Ok(())
    }

    fn is_done(&mut self, lane: Lane) -> bool {
        // Not while the courier is at work: it may take longer than the answer is worth.
        self.shared.state.try_lock().is_ok_and(|state| state.is_done(lane))
    }

    fn finish(&mut self, lane: Lane, receive: &mut [Incoming<'_>]) -> Result<()> {
        self.shared.state().finish(lane, receive)
    }

    fn fail(&mut self, why: &str) {
        self.shared.state().link.fail(why);
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.news.notify_one();
        if let Some(courier) = self.courier.take() {
            // It does not panic; and if, there is nothing left to do for it.
            let _ = courier.join();
        }
        let state = &mut *self.shared.state();
        let is_panicking = std::thread::panicking();
        if is_panicking {
            state.link.fail("panicked");
        } else if let Some(why) = state.link.failed.clone() {
            state.link.fail(&why);
        } else if !state.is_idle() {
            state.link.fail("has gone without the end of its exchanges");
        }
        let all_have_left = !state.link.is_broken && state.link.leave();
        if is_panicking {
            state.link.world.abort(PANIC);
        }
        if all_have_left && state.link.failed.is_none() {
            state.link.world.finalize_on_drop();
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} processes", self.rank, self.size)
    }
}

impl Exchange {
    /// A message that is still on its way.
    fn rest(&self) -> Option<&Message> {
        self.receives.iter().chain(&self.sends).find(|message| message.ended < message.total)
    }

    /// Gives all segments to MPI.
    fn start(&mut self, link: &mut Link, send: &[Outgoing<'_>]) -> Result<()> {
        for message in &mut self.receives {
            message.make_room(link, ALL)?;
        }
        for (message, (_, bytes)) in self.sends.iter_mut().zip(send) {
            message.send(link, bytes, ALL)?;
        }
        Ok(())
    }

    /// Moves everything. Of an exchange that was started, nothing is left to be read from `send`.
    fn run(
        &mut self,
        link: &mut Link,
        send: &[Outgoing<'_>],
        receive: &mut [Incoming<'_>],
    ) -> Result<()> {
        let mut wait = Wait::default();
        loop {
            let mut has_moved = false;
            for (message, (_, into)) in self.receives.iter_mut().zip(receive.iter_mut()) {
                has_moved |= message.receive(link)?;
                message.deliver(link, into);
                message.make_room(link, WINDOW)?;
            }
            for (idx, message) in self.sends.iter_mut().enumerate() {
                let bytes = send.get(idx).map_or(&[][..], |(_, bytes)| bytes);
                has_moved |= message.send(link, bytes, WINDOW)?;
            }
            match self.rest() {
                None => return Ok(()),
                Some(_) if has_moved => wait = Wait::default(),
                Some(message) => link.wait(&mut wait, message.peer)?,
            }
        }
    }
}

impl Message {
    /// Another message, whose memory is as long as it ever gets.
    fn reset(&mut self, lane: Lane, peer: usize, len: usize, (segment, window): (usize, usize)) {
        (self.peer, self.tag, self.total) = (peer, DATA[lane as usize], HEADER + len);
        (self.begun, self.ended, self.delivered) = (0, 0, 0);
        let n_segments = self.total.div_ceil(segment).min(window);
        self.flights.reserve(n_segments);
        self.arrived.reserve(n_segments);
    }

    /// Takes back segments that have been sent, and sends others as long as no more than `window`
    /// are in flight; says whether anything moved.
    fn send(&mut self, link: &mut Link, bytes: &[u8], window: usize) -> Result<bool> {
        let mut has_moved = false;
        while let Some((_, segment)) = link.ended(&mut self.flights)? {
            self.ended += segment.len();
            link.spare.push(segment);
            has_moved = true;
        }
        while self.begun < self.total && self.flights.len() < window {
            let mut segment = link.segment();
            if self.begun == 0 {
                segment.append(&(bytes.len() as u64).to_le_bytes());
                self.begun = HEADER;
            }
            self.begun += segment.append(&bytes[self.begun - HEADER..]);
            self.flights.push_back(link.world.send(self.peer, self.tag, segment)?);
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Makes room for segments as long as no more than `window` are under way.
    fn make_room(&mut self, link: &mut Link, window: usize) -> Result<()> {
        while self.begun < self.total && self.flights.len() < window {
            let segment = link.segment();
            self.flights.push_back(link.world.receive(Some(self.peer), self.tag, segment)?);
            self.begun += link.world.segment().min(self.total - self.begun);
        }
        Ok(())
    }

    /// Takes segments that have arrived; says whether there were any.
    fn receive(&mut self, link: &mut Link) -> Result<bool> {
        let mut has_moved = false;
        while let Some((_, segment)) = link.ended(&mut self.flights)? {
            let want = self.total - HEADER;
            let got = match segment.first_chunk() {
                Some(header) if self.ended == 0 => u64::from_le_bytes(*header),
                _ => want as u64,
            };
            let here = link.world.segment().min(self.total - self.ended);
            if got != want as u64 || segment.len() != here {
                let text = format!("expected {want} bytes from rank {}, got {got}", self.peer);
                return Err(Error::new(ErrorKind::Group, text));
            }
            self.ended += segment.len();
            self.arrived.push_back(segment);
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Copies what has arrived to where it is wanted.
    fn deliver(&mut self, link: &mut Link, into: &mut [u8]) {
        for segment in self.arrived.drain(..) {
            let payload = &segment[if self.delivered == 0 { HEADER } else { 0 }..];
            into[self.delivered..self.delivered + payload.len()].copy_from_slice(payload);
            self.delivered += payload.len();
            link.spare.push(segment);
        }
    }
}

impl Link {
    fn check(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(self.error(why)))
    }

    fn error(&self, why: &str) -> Error {
        let (rank, size) = (self.world.rank(), self.world.size());
        Error::new(ErrorKind::Group, format!("rank {rank} of {size}: {why}"))
    }

    /// The error as this rank's, which stays: no exchange can go on where one has stopped.
    fn fault(&mut self, e: Error) -> Error {
        if self.failed.is_none() {
            let why = self.loss().unwrap_or_else(|| e.message().to_string());
            self.failed = Some(why);
        }
        self.error(self.failed.as_deref().unwrap_or_default())
    }

    /// Who has died, if MPI says so.
    fn loss(&mut self) -> Option<String> {
        let (dead, is_revoked) = self.world.lost();
        self.is_broken = is_revoked || !dead.is_empty();
        let why = match &dead[..] {
            [] => "others go on without ranks that have died".to_string(),
            [rank] => format!("rank {rank} has died"),
            ranks => format!("ranks {ranks:?} have died"),
        };
        self.is_broken.then_some(why)
    }

    /// An empty segment.
    fn segment(&mut self) -> Segment {
        let mut segment = self.spare.pop().unwrap_or_else(|| Segment::new(self.world.segment()));
        segment.clear();
        segment
    }

    /// The first of these flights, if it has ended.
    fn ended(&mut self, flights: &mut VecDeque<Flight>) -> Result<Option<(usize, Segment)>> {
        let Some(first) = flights.front_mut() else { return Ok(None) };
        let ended = self.world.test(first)?;
        if ended.is_some() {
            flights.pop_front();
        }
        Ok(ended)
    }

    /// Passes a moment of a wait for a rank.
    fn wait(&mut self, wait: &mut Wait, peer: usize) -> Result<()> {
        wait.idle = wait.idle.saturating_add(1);
        if wait.idle < SPINS {
            std::hint::spin_loop();
            return Ok(());
        }
        let now = Instant::now();
        let waited = now - *wait.since.get_or_insert(now);
        let naps = wait.idle > YIELDS;
        if naps || wait.idle.is_multiple_of(SPINS) {
            self.hear()?;
        }
        if self.left[peer].is_some_and(|left| now.duration_since(left) > AFTERGLOW) {
            bail!(Group, "rank {peer}: has gone");
        }
        if waited >= self.deadline {
            let seconds = self.deadline.as_secs_f64();
            bail!(Group, "rank {peer} did not answer for {seconds} s");
        }
        match naps {
            true => std::thread::sleep(NAP),
            false => std::thread::yield_now(),
        }
        Ok(())
    }

    /// Makes room for the next notice, if there can be one.
    fn listen(&mut self) -> Result<()> {
        let rank = self.world.rank();
        let are_there = |(other, left): (usize, &Option<_>)| other != rank && left.is_none();
        if self.notice.is_none() && self.left.iter().enumerate().any(are_there) {
            let segment = self.segment();
            self.notice = Some(self.world.receive(None, NOTICE, segment)?);
        }
        Ok(())
    }

    /// Hears which ranks have left, or failed.
    fn hear(&mut self) -> Result<()> {
        while let Some(flight) = &mut self.notice {
            let Some((from, notice)) = self.world.test(flight)? else { break };
            self.notice = None;
            self.left[from] = Some(Instant::now());
            let why = String::from_utf8_lossy(&notice).into_owned();
            self.spare.push(notice);
            self.listen()?;
            if !why.is_empty() && self.failed.is_none() {
                self.has_heard = true;
                bail!(Group, "{why}");
            }
        }
        Ok(())
    }

    /// Sends all others the one notice of this rank: why it fails, or nothing if it leaves.
    fn tell(&mut self, why: &str) -> Result<()> {
        if std::mem::replace(&mut self.has_told, true) {
            return Ok(());
        }
        let mut flights = VecDeque::new();
        let (rank, size) = (self.world.rank(), self.world.size());
        for other in (0..size).filter(|&other| other != rank) {
            let mut notice = self.segment();
            notice.append(&why.as_bytes()[..why.len().min(LONGEST_NOTICE)]);
            flights.push_back(self.world.send(other, NOTICE, notice)?);
        }
        let since = Instant::now();
        while !flights.is_empty() && since.elapsed() < FAREWELL {
            while self.ended(&mut flights)?.is_some() {}
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Tells all others why this rank fails: for a reason of its own, or as it has heard of one.
    fn fail(&mut self, why: &str) {
        if self.is_broken {
            return;
        }
        let why = if why.is_empty() { "has failed" } else { why };
        let mut why = self.failed.get_or_insert_with(|| why.to_string()).clone();
        if !self.has_heard {
            why = format!("rank {}: {why}", self.world.rank());
        }
        // Who cannot be told finds out at the deadline, or is ended by the launcher.
        let _ = self.tell(&why);
    }

    /// Tells the others that this rank leaves, and waits for them to do so; says whether they did.
    fn leave(&mut self) -> bool {
        let rank = self.world.rank();
        let since = Instant::now();
        if self.tell("").is_err() {
            return false;
        }
        let mut naps = 0;
        loop {
            if let Err(e) = self.hear() {
                self.fault(e);
            }
            let patience = if self.failed.is_some() { FAREWELL } else { self.deadline };
            if (0..self.left.len()).all(|other| other == rank || self.left[other].is_some()) {
                return true;
            }
            if since.elapsed() > patience {
                return false;
            }
            naps += 1;
            std::thread::sleep(if naps < 100 { NAP } else { 20 * NAP });
        }
    }
}

/// How many ranks the launcher says that it started, if it is more than one, and where.
fn launched() -> Option<(&'static str, usize)> {
    // Open MPI, MPICH and Intel MPI, Slurm.
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"].into_iter().find_map(|name| {
        let n = std::env::var(name).ok()?.trim().parse().ok()?;
        (n > 1).then_some((name, n))
    })
}
