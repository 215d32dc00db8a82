//! The data types of a logit cache, and the slow, obvious arithmetic that everything else is tested against.
//!
//! This crate has no I/O, no tensors and no file formats. A teacher maps a [`Sample`] to [`SoftRows`]; the functions in
//! [`select`] and [`divergence`] define in f64 what the fast code elsewhere must compute.
//!
//! # Seams
//! [`Truncation`] alone decides what a row holds: a new selection or another summary of the tail is first added here,
//! then to the fast selection and to the format.
//!
//! # Examples
//! Two of five classes are kept, and the log-partition can still be computed at every temperature of the tail's range:
//! ```
//! use logitcask_core::select::select_reference;
//! use logitcask_core::{LogProbPrecision, RowErrors, RowSource, Selection, SoftRows, TailRule, Truncation};
//!
//! let keep = Truncation {
//!     selection: Selection::TopK { k: 2 },
//!     always_keep: Vec::new(),
//!     values: LogProbPrecision::F16 {},
//!     tail: Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 }),
//!     padding: 0,
//!     source: RowSource::FULL,
//! };
//! let logits = [1.0, 3.0, 0.5, 2.0, -1.0];
//! let (label, offset) = (3, 0.0);
//! let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
//! select_reference(&logits, label, &keep, offset, &mut rows, &mut errors);
//!
//! let row = rows.iter().next().expect("one row was selected");
//! assert_eq!(row.class_ids, [1, 3]);
//! assert_eq!(row.gold.rank, 1);
//! let exact = logits.iter().map(|z| f64::from(z / 2.0).exp()).sum::<f64>().ln();
//! assert!((row.log_z_at(2.0) - exact).abs() < 5e-3);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod atom_rounding;
mod check;
mod config_error;
pub mod divergence;
pub mod error_sum;
pub mod exp;
pub mod extra_column;
pub mod fingerprint;
pub mod interleaving;
pub mod lanes;
pub mod math;
pub mod position_choice;
pub mod pruning;
pub mod quadrature;
pub mod rng;
mod row_error;
pub mod row_source;
pub mod sample;
pub mod schedule;
pub mod select;
pub mod soft_row;
pub mod soft_rows;
pub mod tail;
pub mod target_transform;
pub mod temperature;
#[cfg(test)]
mod tests;
pub mod token_weight;
pub mod truncation;

pub use config_error::ConfigError;
pub use divergence::{Divergence, TailPolicy, TemperedRow};
pub use error_sum::RowErrors;
pub use extra_column::{ColumnPrecision, ExtraColumn, ExtraSource, ExtraValues, HiddenPositions, Projection};
pub use fingerprint::Fingerprint;
pub use position_choice::PositionChoice;
pub use pruning::SamplePruning;
pub use row_error::{PositionError, RowError};
pub use row_source::{GoldSource, RowSource, TailSource};
pub use sample::{InputHash, Origin, Positions, Sample, SampleId};
pub use schedule::Schedule;
pub use select::Selection;
pub use soft_row::{Gold, SoftRow};
pub use soft_rows::SoftRows;
pub use tail::{Tail, TailAtom, TailRule};
pub use target_transform::{TargetTransform, TransformedRow};
pub use temperature::TemperatureRule;
pub use token_weight::{Blend, TokenWeight};
pub use truncation::{LogProbPrecision, Truncation};
