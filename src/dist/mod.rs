//! DISTRIBUTE: ranks that work on one batch together, and the tree in which their sums meet. A
//! group only moves bytes; every addition is ours, so the bits do not depend on who does what.

mod local;
#[cfg(feature = "mpi")]
mod mpi;
mod tree;

pub use local::{Local, local};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub(crate) use tree::{Tree, TreeNode};

use crate::error::Result;
use std::fmt;

/// What is sent to a rank.
pub type Outgoing<'a> = (usize, &'a [u8]);
/// What is received from a rank: as many bytes as it sends.
pub type Incoming<'a> = (usize, &'a mut [u8]);

/// What is started on one lane does not wait for what is started on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The lane of [`Group::exchange`], too.
    First,
    /// The other one.
    Second,
}

/// The ranks 0, 1, … of a program that runs several times, and what moves bytes between them.
///
/// Messages from one rank to another arrive in the order in which they were sent on a [`Lane`]. Every wait has a
/// deadline; whoever waits in vain, or for a rank that has gone, gets an error that names it.
///
/// [`local`] makes a group of threads; under the feature `mpi` there is one of processes.
pub trait Group: Send + fmt::Debug {
    /// The number of this rank.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Sends and receives, all at once, and returns when everything has been moved. The ranks
    /// differ from this one, and each stands at most once in either list.
    ///
    /// # Errors
    /// A rank that does not answer before the deadline, that has gone, or that sends another number
    /// of bytes: the message names it.
    fn exchange(&mut self, send: &[Outgoing<'_>], receive: &mut [Incoming<'_>]) -> Result<()>;

    /// Begins an exchange that goes on while the caller computes: keeps a copy of what is to be
    /// sent, and makes room for what comes (from which rank, how many bytes). What was started on a
    /// lane is finished in the same order; everything, before any [`exchange`](Group::exchange).
    ///
    /// # Errors
    /// As [`Group::exchange`].
    fn start(
        &mut self,
        lane: Lane,
        send: &[Outgoing<'_>],
        receive: &[(usize, usize)],
    ) -> Result<()>;

    /// Whether the exchange started first on this lane has come to its end, or an error has: then
    /// [`Group::finish`] does not wait. It may say no too often.
    fn is_done(&mut self, lane: Lane) -> bool;

    /// Ends the exchange started first on this lane: waits for it and gives what was received, in
    /// the order in which [`Group::start`] named it.
    ///
    /// # Errors
    /// As [`Group::exchange`].
    fn finish(&mut self, lane: Lane, receive: &mut [Incoming<'_>]) -> Result<()>;

    /// Tells all other ranks that this one has failed, so that none waits for it in vain.
    fn fail(&mut self, why: &str);
}
