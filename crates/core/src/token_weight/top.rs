//! Weights that select the top share of a step's positions.

use super::{Rule, TokenWeighting};
use crate::temperature::{RequiredStats, Stat, StepContext, TokenStats};
use crate::{ConfigError, Schedule};
use serde::{Deserialize, Serialize};

/// Criterion by which positions are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The Hellinger distance between teacher and student.
    Distance,
    /// The student's entropy.
    Entropy,
    /// The smallest difference between the student's first and second choice.
    Margin,
    /// The student's lowest confidence in its first choice.
    LeastConfidence,
}

impl By {
    fn of(self, position: &TokenStats) -> f64 {
        match self {
            Self::Distance => position.distance,
            Self::Entropy => position.student.entropy,
            Self::Margin => -position.student.margin(),
            Self::LeastConfidence => -position.student.confidence(),
        }
    }

    fn required_stats(self) -> RequiredStats {
        match self {
            Self::Distance => RequiredStats::of(&[Stat::Distance]),
            Self::Entropy => RequiredStats::of(&[Stat::StudentEntropy]),
            Self::Margin => RequiredStats::of(&[Stat::StudentConfidence, Stat::StudentSecond]),
            Self::LeastConfidence => RequiredStats::of(&[Stat::StudentConfidence]),
        }
    }
}

/// Selects the top share of a step's positions, with equal weights (Dynamic KD, 2109.11295; AdaKD's fixed share,
/// 2510.11615).
///
/// Selected positions have the weight positions / selected, so that the loss is their mean; others have 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Top {
    /// Criterion by which positions are ranked.
    pub by: By,
    /// Share of positions that is selected, 0 to 1.
    pub share: Schedule,
}

impl Rule for Top {
    fn check(&self) -> Result<(), ConfigError> {
        self.share.check().map_err(|error| error.within("share"))?;
        let (low, high) = self.share.range();
        let given = if low == high { low.to_string() } else { format!("{low} to {high}") };
        ConfigError::unless(low > 0.0 && high <= 1.0, "share", given, "more than 0, and 1 at most")
    }

    fn start(&self) -> Box<dyn TokenWeighting> {
        Box::new(*self)
    }
}

impl TokenWeighting for Top {
    fn required_stats(&self) -> RequiredStats {
        self.by.required_stats()
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let values: Vec<f64> = context.positions.iter().map(|p| self.by.of(p)).collect();
        top(&values, self.share.at(context.progress))
    }
}

/// Weights that select the `share` of largest values, at least one; ties go to the first.
pub(super) fn top(values: &[f64], share: f64) -> Vec<f64> {
    let n = values.len();
    let chosen = ((share * n as f64).round() as usize).clamp(1, n.max(1));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut weights = vec![0.0; n];
    order.iter().take(chosen).for_each(|&i| weights[i] = n as f64 / chosen as f64);
    weights
}
