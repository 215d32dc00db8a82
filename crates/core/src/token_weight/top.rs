//! The top share of a step's positions.

use super::TokenWeighting;
use crate::Schedule;
use crate::temperature::{RequiredStats, StepContext, TokenStats};
use serde::{Deserialize, Serialize};

/// What a position is ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The Hellinger distance of teacher and student.
    Distance,
    /// The student's entropy.
    Entropy,
    /// How little the student prefers its first choice to its second.
    Margin,
    /// How little the student believes in its first choice.
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
            Self::Distance => RequiredStats { distance: true, ..RequiredStats::POSITIONS },
            Self::Entropy => RequiredStats { entropy: true, ..RequiredStats::POSITIONS },
            Self::Margin => RequiredStats { second: true, ..RequiredStats::POSITIONS },
            Self::LeastConfidence => RequiredStats::POSITIONS,
        }
    }
}

/// Positions / chosen for the chosen, so that the loss is their mean; 0 for the others.
pub(super) struct Top {
    pub(super) by: By,
    pub(super) share: Schedule,
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

/// Weights that choose the `share` of largest values, at least one; ties to the first.
pub(super) fn top(values: &[f64], share: f64) -> Vec<f64> {
    let n = values.len();
    let chosen = ((share * n as f64).round() as usize).clamp(1, n.max(1));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut weights = vec![0.0; n];
    order.iter().take(chosen).for_each(|&i| weights[i] = n as f64 / chosen as f64);
    weights
}
