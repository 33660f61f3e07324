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
pub use kernel::rng::Philox;
pub use scalar::{DType, Element, Index, Scalar};
pub use shape::{ANY, Axes, MAX_RANK, Shape};
pub use tensor::{Tensor, TensorView};
