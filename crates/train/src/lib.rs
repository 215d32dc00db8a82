//! Stage 2: cache → batch → loss → student.
//!
//! 1. [`source`] gives samples in an order that a seed and an epoch decide alone,
//! 2. [`batch`] pads them and [`targets`] lays out what the teacher said, ahead of the step and in a thread of its own,
//! 3. [`loss`] compares a student with them, position by position, padding never among them,
//! 4. [`trainer`] steps, measures, and can be stopped at any step and resumed to the same bits,
//! 5. [`eval`] says how good a student is on text it has not seen.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod batch;
pub mod checkpoint;
mod clip;
mod error;
pub mod eval;
pub mod loss;
pub mod metrics;
pub mod schedule;
pub mod source;
pub mod targets;
pub mod trainer;

pub use error::{Error, Result};
pub use eval::Evaluation;
pub use loss::LossConfig;
pub use schedule::Schedule;
pub use source::Source;
pub use trainer::{Outcome, TrainConfig, Trainer};
