//! RUN: sessions own variables and plans; the interpreter is the reference that plans must equal.

mod checkpoint;
mod cut;
mod execute;
mod fetch;
mod interpret;
mod meeting;
mod optimizers;
mod ranks;
mod runner;
mod session;
mod sharded;
mod share;
mod trace;
mod variables;

pub use checkpoint::{Checkpoints, Notes, Resumed};
pub use fetch::{Fetches, Source};
pub use session::Session;
pub use trace::{Stage, Trace, TraceEvent};
