//! Automatic differentiation and optimization for supervised learning: record f(X|W) and its loss
//! over nalgebra matrices once, on a tape; differentiate it on the same tape; compile it; replay it
//! on every batch; let an optimizer make |ε| = |Ŷ − Y| small.
//!
//! # The tour
//!
//! ```
//! use gradtape::optim::Adam;
//! use gradtape::{ANY, Session, Tape, Tensor};
//! use nalgebra::{DMatrix, DVector};
//!
//! // Record: nothing is computed, nothing can fail, and the batch may have any number of rows.
//! let tape = Tape::<f64>::new();
//! let x = tape.placeholder("x", [ANY, 2]);
//! let y = tape.placeholder("y", [ANY]);
//! let w = tape.variable("w", DVector::zeros(2));
//! let b = tape.variable("b", 0.0);
//! let residual = x.matmul(w) + b - y;
//! let loss = residual.square().mean();
//!
//! // Differentiate: gradients are expressions on the same tape, so they differentiate again.
//! let dw = tape.gradient(loss, &[w])?[0];
//! let curvature = tape.gradient(dw.sum(), &[w])?[0];
//!
//! // Optimize: an op that takes a step when it is fetched.
//! let train = Adam::new(0.1).minimize(loss)?;
//!
//! // Run: compiled at the first run of these shapes, replayed without allocation after.
//! let mut session = Session::new(&tape)?;
//! let xs = DMatrix::from_fn(50, 2, |i, j| ((i * (j + 3)) % 7) as f64 - 3.0);
//! let ys = &xs * DVector::from_vec(vec![2.0, -1.0]) + DVector::repeat(50, 0.5);
//! let mut out = Default::default();
//! for _ in 0..1000 {
//!     session.run_into((loss, train), &[x.feed(&xs), y.feed(&ys)], &mut out)?;
//! }
//! assert!(out.0.item()? < 1e-9);
//! assert!((session.value(w)?.as_slice()[0] - 2.0).abs() < 1e-4);
//! # let _ = curvature;
//! # Ok::<(), gradtape::Error>(())
//! ```
//!
//! # Where things are
//!
//! - [`value_and_grad`], [`minimize`], [`least_squares`], [`curve_fit`]: closures of vectors, for
//!   those who want no tape.
//! - [`Tensor`]: values. Rank 2 *is* a `DMatrix`, rank 1 a `DVector`; they go in and out uncopied.
//! - [`Tape`], [`Expr`]: recording. Every op is a method of `Expr`; shapes broadcast as in NumPy.
//! - [`Tape::gradient`]: differentiation, of any order; [`Tape::jvp`] in forward mode,
//!   [`Tape::hessian_vector_product`] and its kin, [`Tape::checkpoint`] for less memory.
//!   [`Tape::cond`] runs one of two branches, [`Tape::scan`] is a loop over time.
//! - [`Session`]: variables and runs; [`Report`] says what a run does before it runs, [`Trace`]
//!   when each part of it did.
//! - [`optim`]: optimizers, schedules, clipping. [`nn`]: layers and their initial weights.
//! - [`estimators`]: linear models and networks with `fit`, `predict`, `score`.
//! - [`Session::save`], [`Checkpoints`]: trainings that go on with the same bits.
//! - [`io`], [`data`]: CSV and IDX files; data sets, splits, batches, metrics; [`data::Rows`] of
//!   files larger than memory.
//! - [`Primitive`]: ops of your own; [`check`] proves derivatives, yours and ours.
//!
//! # What holds everywhere
//!
//! - Tensors are column-major with the batch on axis 0, so memory is nalgebra's and a row is a
//!   sample. `reshape` keeps that memory order.
//! - A mistake in a formula neither panics nor needs `?`: the first call that returns a [`Result`]
//!   reports it with the op, the shapes and the line that wrote it.
//! - No gradient is silently missing: a target the loss does not depend on is an [`Error`].
//! - The same program gives the same bits on the same kind of CPU.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
mod file;
#[cfg(not(test))]
mod instances;
pub mod scalar;
pub mod shape;
pub mod tensor;

#[allow(unsafe_code)]
mod kernel;
pub mod tape;

mod grad;
mod plan;

pub mod dist;

mod run;

pub mod optim;

pub mod check;
pub mod nn;

pub mod data;
pub mod io;

pub mod closure;
pub mod estimators;

pub use closure::{
    curve_fit, curve_fit_with, least_squares, least_squares_with, minimize, value_and_grad,
};
pub use error::{Error, ErrorKind, Result};
pub use kernel::rng::Philox;
pub use plan::{Passes, Report, Work};
pub use run::{Checkpoints, Fetches, Notes, Resumed, Session, Source, Stage, Trace, TraceEvent};
pub use scalar::{DType, Element, Index, Scalar};
pub use shape::{ANY, Axes, MAX_RANK, Shape};
pub use tape::op::{
    AnyExpr, Arg, Attention, Cell, Combine, Conv, Cotangents, Cumulate, Derivative, Jvp, Out,
    Padding, Pool, Primitive, RowRule, Runs, Span, Spans, Steps, Units, Vjp,
};
pub use tape::{
    AsNode, Expr, Feed, Fetch, IndexExpr, NodeInfo, Operand, Placeholder, Scanned, Scope, Tape, Var,
};
pub use tensor::{Tensor, TensorView};

/// The README's examples run as tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
