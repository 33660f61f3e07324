//! Ranks that are threads of one process: a group without anything to set up, for tests and for
//! programs that want to see what several ranks would do.

use super::{Group, Incoming, Lane, Outgoing};
use crate::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LANES: usize = 2;
/// How long a rank waits for another if nothing else was said.
const DEADLINE: Duration = Duration::from_secs(60);

/// The ranks of a new group, in order; each goes to a thread of its own.
///
/// ```
/// use gradtape::dist::{Group, local};
/// let sums = std::thread::scope(|threads| {
///     let ranks = local(2).into_iter().map(|mut rank| {
///         threads.spawn(move || -> gradtape::Result<u8> {
///             let (own, mut other) = ([rank.rank() as u8 + 1], [0]);
///             let peer = 1 - rank.rank();
///             rank.exchange(&[(peer, &own)], &mut [(peer, &mut other)])?;
///             Ok(own[0] + other[0])
///         })
///     });
///     let ranks: Vec<_> = ranks.collect();
///     ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(sums, [3, 3]);
/// # Ok::<(), gradtape::Error>(())
/// ```
pub fn local(size: usize) -> Vec<Local> {
    let shared = Arc::new(Shared {
        size,
        mail: Mutex::new(Mail {
            boxes: (0..LANES * size * size).map(|_| Mailbox::default()).collect(),
            gone: vec![None; size],
        }),
        news: Condvar::new(),
    });
    let rank = |rank| Local {
        rank,
        deadline: DEADLINE,
        started: Default::default(),
        shared: Arc::clone(&shared),
    };
    (0..size).map(rank).collect()
}

/// A rank of a group of threads, made by [`local`].
pub struct Local {
    rank: usize,
    deadline: Duration,
    /// On each lane, what exchanges that were started are to receive: from which rank, how many bytes.
    started: [VecDeque<Vec<(usize, usize)>>; LANES],
    shared: Arc<Shared>,
}

struct Shared {
    size: usize,
    mail: Mutex<Mail>,
    news: Condvar,
}

struct Mail {
    /// From rank i to rank j on lane l: number (i · size + j) · 2 + l.
    boxes: Vec<Mailbox>,
    /// Why a rank has gone, if it has.
    gone: Vec<Option<String>>,
}

#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Vec<u8>>,
    /// The memory of messages that were read.
    spare: Vec<Vec<u8>>,
}

impl Local {
    /// With this deadline for every wait; the default is a minute.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.shared.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a mailbox.
    fn mailbox(&self, lane: Lane, from: usize, to: usize) -> usize {
        (from * self.shared.size + to) * LANES + lane as usize
    }

    fn send(&self, lane: Lane, messages: &[Outgoing<'_>]) {
        let mut mail = self.mail();
        for &(to, bytes) in messages {
            let mailbox = &mut mail.boxes[self.mailbox(lane, self.rank, to)];
            let mut message = mailbox.spare.pop().unwrap_or_default();
            message.clear();
            message.extend_from_slice(bytes);
            mailbox.messages.push_back(message);
        }
        drop(mail);
        self.shared.news.notify_all();
    }

    fn receive(&self, lane: Lane, from: usize, into: &mut [u8]) -> Result<()> {
        let fail = |text: String| {
            Error::new(ErrorKind::Group, format!("rank {} of {}: {text}", self.rank, self.size()))
        };
        let until = Instant::now() + self.deadline;
        let mut mail = self.mail();
        loop {
            let mailbox = &mut mail.boxes[self.mailbox(lane, from, self.rank)];
            if let Some(message) = mailbox.messages.pop_front() {
                let (want, got) = (into.len(), message.len());
                if want == got {
                    into.copy_from_slice(&message);
                }
                mailbox.spare.push(message);
                let text = || fail(format!("expected {want} bytes from rank {from}, got {got}"));
                return if want == got { Ok(()) } else { Err(text()) };
            }
            // Of several that have gone, one that says why.
            let failed =
                mail.gone.iter().position(|why| why.as_ref().is_some_and(|w| !w.is_empty()));
            let failed = failed.or(mail.gone[from].as_ref().map(|_| from));
            if let Some((rank, why)) = failed.and_then(|i| Some((i, mail.gone[i].as_ref()?))) {
                let why = if why.is_empty() { "has gone" } else { why };
                return Err(fail(format!("rank {rank}: {why}")));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waited = self.deadline.as_secs_f64();
                return Err(fail(format!("rank {from} did not answer for {waited} s")));
            }
            let news = self.shared.news.wait_timeout(mail, left);
            mail = news.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Group for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn exchange(&mut self, send: &[Outgoing<'_>], receive: &mut [Incoming<'_>]) -> Result<()> {
        self.send(Lane::First, send);
        receive.iter_mut().try_for_each(|(from, into)| self.receive(Lane::First, *from, into))
    }

    fn start(
        &mut self,
        lane: Lane,
        send: &[Outgoing<'_>],
        receive: &[(usize, usize)],
    ) -> Result<()> {
        self.send(lane, send);
        self.started[lane as usize].push_back(receive.to_vec());
        Ok(())
    }

    fn is_done(&mut self, lane: Lane) -> bool {
        let Some(started) = self.started[lane as usize].front() else { return true };
        let mail = self.mail();
        let has_come = |&(from, _): &(usize, usize)| {
            !mail.boxes[self.mailbox(lane, from, self.rank)].messages.is_empty()
        };
        started.iter().all(has_come) || mail.gone.iter().any(Option::is_some)
    }

    fn finish(&mut self, lane: Lane, receive: &mut [Incoming<'_>]) -> Result<()> {
        let started = self.started[lane as usize].pop_front().unwrap_or_default();
        let same = started.iter().map(|r| r.0).eq(receive.iter().map(|r| r.0));
        if !same {
            let text = format!("rank {}: finish: expected {started:?}", self.rank);
            return Err(Error::new(ErrorKind::Group, text));
        }
        receive.iter_mut().try_for_each(|(from, into)| self.receive(lane, *from, into))
    }

    fn fail(&mut self, why: &str) {
        self.mail().gone[self.rank].get_or_insert_with(|| why.to_string());
        self.shared.news.notify_all();
    }
}

impl Drop for Local {
    /// Whoever waits for this rank need not wait longer; what it has sent can still be read.
    fn drop(&mut self) {
        let panicked = if std::thread::panicking() { "panicked" } else { "" };
        self.fail(panicked);
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} threads", self.rank, self.shared.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `f` on every rank of a group of threads.
    fn on_ranks<R: Send>(n: usize, f: impl Fn(Local) -> R + Sync) -> Vec<R> {
        std::thread::scope(|threads| {
            let f = &f;
            let all: Vec<_> =
                local(n).into_iter().map(|rank| threads.spawn(move || f(rank))).collect();
            all.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn messages_arrive_in_order_and_whole() {
        on_ranks(3, |mut rank| {
            let (me, n) = (rank.rank(), rank.size());
            for round in 0..20u8 {
                let own = vec![round; me + 1];
                let others: Vec<usize> = (0..n).filter(|&r| r != me).collect();
                let send: Vec<Outgoing<'_>> = others.iter().map(|&to| (to, &*own)).collect();
                let mut room: Vec<Vec<u8>> = others.iter().map(|&r| vec![99; r + 1]).collect();
                let mut receive: Vec<Incoming<'_>> =
                    others.iter().copied().zip(room.iter_mut().map(|r| &mut r[..])).collect();
                if round % 2 == 0 {
                    rank.exchange(&send, &mut receive).unwrap();
                } else {
                    let sizes: Vec<_> = receive.iter().map(|r| (r.0, r.1.len())).collect();
                    rank.start(Lane::Second, &send, &sizes).unwrap();
                    while !rank.is_done(Lane::Second) {
                        std::thread::yield_now();
                    }
                    rank.finish(Lane::Second, &mut receive).unwrap();
                }
                assert!(room.iter().flatten().all(|&x| x == round));
            }
        });
    }

    #[test]
    fn waiting_in_vain_ends_and_says_for_whom() {
        let errors = on_ranks(2, |rank| {
            let mut rank = rank.with_deadline(Duration::from_millis(20));
            if rank.rank() == 1 {
                std::thread::sleep(Duration::from_millis(200));
                return None;
            }
            Some(rank.exchange(&[], &mut [(1, &mut [0])]).unwrap_err().to_string())
        });
        assert_eq!(errors[0].as_deref(), Some("rank 0 of 2: rank 1 did not answer for 0.02 s"));
    }

    #[test]
    fn ranks_that_have_gone_or_failed_are_named() {
        let gone = on_ranks(2, |mut rank| {
            (rank.rank() == 0).then(|| rank.exchange(&[], &mut [(1, &mut [0])]).unwrap_err())
        });
        assert_eq!(gone[0].as_ref().unwrap().to_string(), "rank 0 of 2: rank 1: has gone");
        let failed = on_ranks(3, |mut rank| match rank.rank() {
            2 => {
                rank.fail("no such file");
                None
            }
            me => Some(rank.exchange(&[], &mut [(1 - me, &mut [0])]).unwrap_err().to_string()),
        });
        assert_eq!(failed[0].as_deref(), Some("rank 0 of 3: rank 2: no such file"));
    }

    #[test]
    fn messages_of_other_lengths_are_refused() {
        let errors = on_ranks(2, |mut rank| {
            let peer = 1 - rank.rank();
            rank.exchange(&[(peer, &[1, 2])], &mut [(peer, &mut [0])]).unwrap_err().to_string()
        });
        assert_eq!(errors[1], "rank 1 of 2: expected 1 bytes from rank 0, got 2");
    }
}
