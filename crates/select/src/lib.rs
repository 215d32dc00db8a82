//! Selection on the CPU: reduces a row of logits to what a cache keeps of it. There is no thread and no tensor library in
//! here, so that a program in another language can embed it.
//!
//! - [`RowSelector`] selects from all logits of a row.
//! - [`SummarySelector`] selects from a [`RowSummary`], a few hundred numbers that were computed where the logits are.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod exp;
mod gauss;
mod lanes;
mod moments;
mod row;
mod row_builder;
mod row_selector;
mod sample;
mod scan;
mod summary;
mod tail;
#[cfg(test)]
mod tests;
mod top;

pub use lanes::sum_exp;
pub use row::RowProblem;
pub use row_selector::RowSelector;
pub use summary::{RowSummary, SummarySelector, SummarySpec};
pub use tail::MIN_SUMMED_CLASSES;

/// Version of the rule that turns logits into rows, recorded in the plan of a cache. A test holds the hash of some
/// selected rows and says when to increase this number.
pub const SELECTION_VERSION: u32 = 2;
