//! LAYERS: weights with a start, made of the public API only. Losses and activations are methods
//! of [`Expr`](crate::Expr); here is what owns variables.

mod dense;
mod embedding;
mod init;
mod penalty;
mod recurrent;
mod summary;

pub use dense::{Activation, Dense, Mlp};
pub use embedding::Embedding;
pub use init::Init;
pub use penalty::{l1, l2};
pub use recurrent::{Rnn, RnnConfig, RnnWeights};
pub use summary::{Summary, summary};
