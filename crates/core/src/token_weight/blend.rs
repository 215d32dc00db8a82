//! How the soft loss is divided between two teachers.

use super::TokenWeighting;
use crate::temperature::{RequiredStats, Stat, StepContext};
use crate::{ConfigError, Schedule};
use serde::{Deserialize, Serialize};

/// The second teacher's share of the soft loss at each position; the first teacher has the rest. With u the student's
/// entropy divided by log(classes), the first teacher should be the weaker one, which an uncertain student can follow
/// more easily (Dynamic KD, 2109.11295).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Blend {
    /// The same share at every position.
    Fixed {
        /// The second teacher's share, 0 to 1.
        share: Schedule,
    },
    /// The share is 1 - u.
    Soft {},
    /// 0 for the more uncertain half of a step's positions, 1 for the other half.
    Hard {},
}

impl Blend {
    /// Rejects values that are not shares.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self::Fixed { share } = self else { return Ok(()) };
        share.check().map_err(|error| error.within("share"))?;
        let (low, high) = share.range();
        let given = if low == high { low.to_string() } else { format!("{low} to {high}") };
        ConfigError::unless(low >= 0.0 && high <= 1.0, "share", given, "0 to 1")
    }
}

impl TokenWeighting for Blend {
    fn required_stats(&self) -> RequiredStats {
        match self {
            Self::Fixed { .. } => RequiredStats::NONE,
            Self::Soft {} | Self::Hard {} => RequiredStats::of(&[Stat::StudentEntropy]),
        }
    }

    /// The second teacher's share of each position; a single number if it does not depend on the position.
    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let entropies = context.positions.iter().map(|p| p.student.entropy);
        match self {
            Self::Fixed { share } => vec![share.at(context.progress)],
            Self::Soft {} => {
                let most = (context.vocab_size as f64).ln();
                entropies.map(|entropy| 1.0 - (entropy / most).clamp(0.0, 1.0)).collect()
            }
            Self::Hard {} => {
                let certain: Vec<f64> = entropies.map(|entropy| -entropy).collect();
                super::top::top(&certain, 0.5).into_iter().map(|weight| f64::from(weight > 0.0)).collect()
            }
        }
    }
}
