//! Why a selection fails.

use super::row_builder::RowProblem;
use std::fmt;

/// Why rows on a device were not selected from.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectProblem {
    /// This row cannot be kept: the first such.
    Row(usize, RowProblem),
    /// Nothing could be read back.
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
