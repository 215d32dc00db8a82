//! Stage 1: dataset → teacher → selection → cache.
//!
//! 1. [`teacher`] turns a batch of samples into logits, only at positions somebody asks about,
//! 2. [`select`] keeps of each row what the recipe asks for,
//! 3. [`pipeline`] runs both beside the writer, unit by unit, so that a killed run loses at most the units in work,
//! 4. [`calibrate`] tells from a few samples what that will give and take,
//! 5. [`generate`] lets a teacher write a corpus of its own,
//! 6. [`measure`] tells how fast a device is at it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch_queue;
pub mod calibration;
mod error;
pub mod generate;
pub mod measure;
mod open_unit;
pub mod pipeline;
pub mod select;
pub mod teacher;

pub use calibration::{Calibration, CalibrationSet, calibrate, calibration_samples};
pub use error::{Error, Result};
pub use pipeline::{Pipeline, Progress, StageSeconds};
pub use teacher::{LocalTeacher, Outputs, Teacher};
