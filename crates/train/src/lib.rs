//! Stage 2: cache → batch → loss → student.
//!
//! 1. [`source`] gives samples in an order that a seed and an epoch decide alone,
//! 2. [`batch`] pads them and [`target_batch`] lays out what the teacher said, ahead of the step and in a thread of its own,
//! 3. [`loss`] compares a student with them, position by position, padding never among them,
//! 4. [`rules`] decide temperatures and weights where a recipe leaves these to the run,
//! 5. [`trainer`] steps, measures, and can be stopped at any step and resumed to the same bits,
//! 6. [`eval`] says how good a student is on text it has not seen.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod batch;
pub mod checkpoint;
mod clip;
pub mod config;
mod contents;
pub mod decisions;
mod error;
pub mod eval;
mod finite;
mod loader;
pub mod loss;
pub mod metrics;
mod pruning;
pub mod rules;
pub mod schedule;
pub mod similarity;
pub mod source;
pub mod target_batch;
pub mod target_spec;
mod tensors;
pub mod trainer;
pub mod update;

pub use config::TrainConfig;
pub use error::{Error, Result};
pub use eval::Evaluation;
pub use loss::LossConfig;
pub use schedule::LrSchedule;
pub use source::Source;
pub use trainer::{Outcome, Trainer};
