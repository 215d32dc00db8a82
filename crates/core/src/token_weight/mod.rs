//! How much of the soft loss each position of a step has.
//!
//! A rule answers with one number for each position, 1 being an ordinary share; it looks at what
//! [`crate::temperature::context`] tells of them.

mod blend;
mod entropy;
mod gate;
mod latf;
#[cfg(test)]
mod tests;
mod top;

pub use blend::Blend;

use crate::Schedule;
use crate::temperature::{RequiredStats, StepContext, StepFeedback};
use serde::{Deserialize, Serialize};

/// A rule at work.
pub trait TokenWeighting: Send {
    /// What it must be told.
    fn required_stats(&self) -> RequiredStats;

    /// One weight for each position of the context, none negative.
    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64>;

    /// Hears what came of the last context.
    fn observe(&mut self, _outcome: &StepFeedback<'_>) {}

    /// All it remembers, to be kept with a checkpoint.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Goes on from a state; `false` where it is not one of this rule's.
    fn restore(&mut self, state: &[f64]) -> bool {
        state.is_empty()
    }
}

/// Which positions count, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenWeight {
    /// By the entropy at T = 1 as a share of the most there can be, log(classes) (Dynamic KD, 2109.11295).
    Entropy {
        /// Whose.
        of: Of,
    },
    /// The top share of the positions of a step, all alike (Dynamic KD, 2109.11295; AdaKD's fixed share, 2510.11615).
    Top {
        /// In what.
        by: top::By,
        /// How many of them, 0 to 1.
        share: Schedule,
    },
    /// The top share by distance from the teacher, the share growing and shrinking with the loss (LATF of AdaKD,
    /// 2510.11615).
    Latf(latf::Latf),
    /// By whether the teacher is right (bias elimination and dynamic loss, 2412.09874).
    Gate(gate::Gate),
}

/// Teacher or student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The teacher's row.
    Teacher,
    /// The student's.
    Student,
}

impl TokenWeight {
    /// The rule at its start.
    pub fn start(&self) -> Box<dyn TokenWeighting> {
        match *self {
            Self::Entropy { of } => Box::new(entropy::Entropy(of)),
            Self::Top { by, share } => Box::new(top::Top { by, share }),
            Self::Latf(rule) => Box::new(latf::State::new(rule)),
            Self::Gate(rule) => Box::new(rule),
        }
    }

    /// Refuses parameters for which the rule says nothing.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Entropy { .. } => Ok(()),
            Self::Top { share, .. } => {
                let (low, high) = share.range();
                share.check()?;
                match low > 0.0 && high <= 1.0 {
                    true => Ok(()),
                    false => Err(format!("share = {low} to {high} is not within 0..=1, 0 excluded")),
                }
            }
            Self::Latf(rule) => rule.check(),
            Self::Gate(rule) => rule.check(),
        }
    }
}
