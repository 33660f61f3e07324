//! NUMBERS: loops on slices. No graph, no allocation in a running step; the only folder with
//! `unsafe`. Every kernel has a safe generic twin that tests and Miri compare it with.

pub mod rng;
