//! tour
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
pub mod scalar;
pub mod shape;
pub mod tensor;

#[allow(unsafe_code)]
mod kernel;
pub mod tape;

mod grad;
mod plan;
mod run;

pub mod optim;

pub mod check;
pub mod data;
pub mod io;
pub mod nn;

pub use error::{Error, ErrorKind, Result};
pub use kernel::rng::Philox;
pub use plan::{Passes, Report};
pub use run::{Fetches, Session, Source};
pub use scalar::{DType, Element, Index, Scalar};
pub use shape::{ANY, Axes, MAX_RANK, Shape};
pub use tape::op::Cumulate;
pub use tape::op::{AnyExpr, Arg, Combine, Derivative, Out, Primitive, RowRule, Span, Spans};
pub use tape::{
    AsNode, Expr, Feed, Fetch, IndexExpr, NodeInfo, Operand, Placeholder, Scope, Tape, Var,
};
pub use tensor::{Tensor, TensorView};
