//! Why a selection fails.

use logitcask_select::RowProblem;
use std::fmt;

/// Why no rows were selected.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectProblem {
    /// The index of the first row that cannot be kept, and the reason.
    Row(usize, RowProblem),
    /// The logits could not be read back from the device; the text is the device's message.
    Device(String),
}

impl fmt::Display for SelectProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(row, problem) => write!(f, "row {row}: {problem}"),
            Self::Device(problem) => write!(f, "the device failed: {problem}"),
        }
    }
}

impl std::error::Error for SelectProblem {}
