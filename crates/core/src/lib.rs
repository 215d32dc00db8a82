//! The nouns of a logit cache, and the slow, obvious arithmetic everything else is tested against.
//!
//! No I/O, no tensors, no file formats: a [`Sample`] goes in, a teacher says [`SoftRows`] about it, and the functions in
//! [`select`] and [`divergence`] say in f64 what the fast code elsewhere must compute.
//!
//! # Seams
//! A row's tail is known by its mass at T = 1 alone ([`SoftRow::tempered`]); a richer summary of the tail belongs
//! in [`soft_row`], and nothing above this crate needs to know which one it is.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod divergence;
pub mod fingerprint;
pub mod rng;
pub mod sample;
pub mod select;
pub mod soft_row;

pub use divergence::TailPolicy;
pub use fingerprint::Fingerprint;
pub use sample::{InputHash, Origin, Sample, SampleId};
pub use select::Selection;
pub use soft_row::{Gold, RowError, SoftRow, SoftRows};
