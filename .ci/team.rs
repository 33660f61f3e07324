//! The team of threads alone with its tests, so that ThreadSanitizer needs no other crate built.

#[path = "../src/error.rs"]
pub mod error;
#[path = "../src/kernel/team.rs"]
pub mod team;
