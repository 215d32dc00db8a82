//! What the steps of a selection need to know about one row of logits, and why a row may be refused.

use std::fmt;

/// Why a row cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowProblem {
    /// The row contains a NaN or an infinity, or its largest logit exceeds 2e38.
    NotFinite,
    /// A kept class or the label has a log-probability below the smallest value that
    /// [`Truncation::values`](logitcask_core::Truncation::values) can encode.
    TooSmall {
        /// The class that cannot be encoded.
        class_id: u32,
        /// Its log-probability at T = 1, in nats.
        log_prob: f32,
    },
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => write!(f, "a logit is not a finite number, or the largest exceeds 2e38"),
            Self::TooSmall { class_id, log_prob } => {
                write!(f, "class {class_id} has log-probability {log_prob}, which is too small to be encoded")
            }
        }
    }
}

impl std::error::Error for RowProblem {}

/// Log-probabilities of a row of which at least the kept classes and the label are known.
pub(crate) trait LogProbs: Copy {
    /// log Z = log Σ exp z over all logits of the row.
    fn log_z(self) -> f64;

    /// log p = z - log Z of the class at T = 1.
    fn log_prob(self, id: u32) -> f64;
}

/// All logits of a row in memory, or those of its first classes, and the log-partition of the whole row.
#[derive(Clone, Copy)]
pub(crate) struct FullRow<'a> {
    /// Raw logits, indexed by class id.
    pub(crate) logits: &'a [f32],
    /// log Z of the whole row, which may include padding that `logits` leaves out.
    pub(crate) log_z: f64,
}

impl LogProbs for FullRow<'_> {
    fn log_z(self) -> f64 {
        self.log_z
    }

    fn log_prob(self, id: u32) -> f64 {
        f64::from(self.logits[id as usize]) - self.log_z
    }
}
