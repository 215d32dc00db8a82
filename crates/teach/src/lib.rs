//! Stage 1: runs a dataset through a teacher and writes the selected logits to a cache.
//!
//! 1. [`teacher`] computes logits for a batch of samples, only at the positions that are requested.
//! 2. [`select`] reduces each row of logits to the part that the recipe keeps.
//! 3. [`pipeline`] runs both in parallel with the cache writer, unit by unit. A run that is killed loses at most the
//!    units it was working on.
//! 4. [`calibrate`] estimates from a few samples how large and how accurate a cache will be.
//! 5. [`generate`] lets a teacher continue texts.
//! 6. [`measure`] measures how fast a device computes and selects logits.
//! 7. [`hidden_states`] are those that a teacher left whose layers ran elsewhere; the head is applied to them here.
//! 8. [`prompt_log_probs`] gives the log-probabilities of the tokens of prompts, as a server of a model does.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch_queue;
pub mod calibration;
mod error;
mod extra_values;
pub mod generate;
pub mod hidden_states;
pub mod measure;
mod open_unit;
pub mod pipeline;
pub mod prompt_log_probs;
pub mod select;
pub mod teacher;

pub use calibration::{Calibration, CalibrationSet, calibrate, calibration_samples};
pub use error::{Error, Result};
pub use pipeline::{Pipeline, Progress, StageSeconds};
pub use teacher::{FORWARD_VERSION, LocalTeacher, Outputs, RemoteTeacher, StatesTeacher, Teacher};
