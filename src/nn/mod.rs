//! LAYERS: weights with a start, made of the public API only. Losses and activations are methods
//! of [`Expr`](crate::Expr); here is what owns variables.

mod attention;
mod conv;
mod dense;
mod embedding;
mod init;
mod layer;
mod norm;
mod penalty;
mod plain;
mod recurrent;
mod summary;

pub use attention::MultiHeadAttention;
pub use conv::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d};
pub use dense::{Activation, Dense, Mlp};
pub use embedding::Embedding;
pub use init::Init;
pub use layer::{Layer, LayerSummary, Sequential, Training};
pub use norm::{BatchNorm, GroupNorm, LayerNorm, RmsNorm};
pub use penalty::{l1, l2};
pub use plain::{AvgPool, Dropout, Flatten, GlobalPool, MaxPool};
pub use recurrent::{Rnn, RnnConfig, RnnWeights};
pub use summary::{Summary, summary};
