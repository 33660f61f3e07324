//! tour
#![deny(unsafe_code)]
pub mod error;
#[allow(unsafe_code)]
mod kernel;
pub mod scalar;
pub mod shape;
pub mod tensor;

pub mod io;

pub mod data;
pub use error::{Error, ErrorKind, Result};
pub use plan::{Passes, Report};
pub use run::{Fetches, Session, Source};
pub use kernel::rng::Philox;
pub use scalar::{DType, Element, Index, Scalar};
pub use shape::{ANY, Axes, MAX_RANK, Shape};
pub use tensor::{Tensor, TensorView};
mod grad;
mod plan;
mod run;
pub mod tape;
pub use tape::op::{AnyExpr, Span, Spans};
pub use tape::op::{Arg, Combine, Derivative, Out, Primitive, RowRule};
pub use tape::{
    AsNode, Expr, Feed, Fetch, IndexExpr, NodeInfo, Operand, Placeholder, Scope, Tape, Var,
};
