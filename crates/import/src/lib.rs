//! Caches of other tools.
//!
//! A [`Source`] is the cache of another tool: samples, each with the kept classes of its positions and what else the
//! tool stored. [`fill`] writes its samples into a cache of ours. What a format cannot tell is declared
//! ([`SourceInfo`]) and stays missing. [`distillkit::export`] writes a cache of ours for DistillKit.
//!
//! # Seams
//! Another format is a file or folder here that implements [`Source`]. Everything that all formats have in common is in
//! [`rows`]: sorting, bounds of the kept mass, classes that occur twice or are outside the vocabulary, labels.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod distillkit;
mod error;
mod fill;
mod fingerprint;
mod lines;
pub mod llama_cpp;
pub mod megatron;
pub mod nemo;
pub mod rows;
pub mod source;

pub use error::{Error, Result};
pub use fill::{Split, dataset_fingerprint, fill, samples_per_unit};
pub use rows::{MASS_TOLERANCE, Rules, Tally};
pub use source::{Entry, ForeignPosition, ForeignSample, Place, Samples, Source, SourceInfo};
