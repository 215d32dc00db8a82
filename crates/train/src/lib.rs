//! Stage 2: cache → batch → loss → student.
//!
//! 1. [`source`] provides samples in an order that depends on a seed and an epoch only,
//! 2. [`batch`] pads them and [`target_batch`] lays out the teacher's rows, ahead of the step and in a separate thread,
//! 3. [`loss`] compares a student with them at each position, without padding,
//! 4. [`rules`] choose temperatures and weights if a recipe leaves these to the run,
//! 5. [`trainer`] runs the steps, records metrics, and can be stopped at any step and resumed with identical bits,
//! 6. [`eval`] evaluates a student on text it has not seen.
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
mod layer_inputs;
mod loader;
pub mod loss;
pub mod metrics;
pub mod mixture;
mod part_config;
mod precision;
mod pruning;
pub mod rules;
pub mod schedule;
pub mod similarity;
pub mod source;
pub mod target_batch;
pub mod target_spec;
mod tensors;
mod trained_parts;
pub mod trainer;
pub mod update;

pub use config::TrainConfig;
pub use error::{CacheDifference, Error, Result};
pub use eval::Evaluation;
pub use loss::LossConfig;
pub use mixture::WeightedSource;
pub use part_config::{LoraConfig, PartConfig};
pub use precision::TrainPrecision;
pub use schedule::LrSchedule;
pub use source::Source;
pub use trainer::{Outcome, Trainer};
