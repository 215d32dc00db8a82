//! The top share of a step's positions.

use super::Weigher;
use crate::Curve;
use crate::adapt::{Needs, Position, Scene};
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
    fn of(self, position: &Position) -> f64 {
        match self {
            Self::Distance => position.distance,
            Self::Entropy => position.student.entropy,
            Self::Margin => -position.student.margin(),
            Self::LeastConfidence => -position.student.confidence(),
        }
    }

    fn needs(self) -> Needs {
        match self {
            Self::Distance => Needs { distance: true, ..Needs::POSITIONS },
            Self::Entropy => Needs { entropy: true, ..Needs::POSITIONS },
            Self::Margin => Needs { second: true, ..Needs::POSITIONS },
            Self::LeastConfidence => Needs::POSITIONS,
        }
    }
}

/// Positions / chosen for the chosen, so that the loss is their mean; 0 for the others.
pub(super) struct Top {
    pub(super) by: By,
    pub(super) share: Curve,
}

impl Weigher for Top {
    fn needs(&self) -> Needs {
        self.by.needs()
    }

    fn weights(&mut self, scene: &Scene<'_>) -> Vec<f64> {
        let values: Vec<f64> = scene.positions.iter().map(|p| self.by.of(p)).collect();
        top(&values, self.share.at(scene.done))
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
