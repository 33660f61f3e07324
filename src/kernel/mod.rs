//! NUMBERS: loops on slices. No graph, no allocation in a running step; the only folder with
//! `unsafe`. Every kernel has a safe generic twin that tests compare it with.
pub(crate) mod arena;
pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod conv;
pub(crate) mod copy;
pub(crate) mod cpu;
pub(crate) mod dropout;
pub(crate) mod gemm;
pub(crate) mod index;
pub(crate) mod linalg;
pub(crate) mod map;
pub(crate) mod math;
#[cfg(feature = "mpi")]
pub(crate) mod mpi;
pub(crate) mod normalize;
pub(crate) mod pair;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod rows;
pub(crate) mod team;
#[cfg(feature = "mpi")]
mod ulfm;
pub(crate) mod update;
pub(crate) mod vector;
pub(crate) mod window;

pub mod rng;

#[cfg(test)]
mod tests;
