//! Loss-driven adaptive token focusing.

use super::top::top;
use super::{Rule, TokenWeighting};
use crate::ConfigError;
use crate::temperature::{RequiredStats, Stat, StepContext, StepFeedback};
use serde::{Deserialize, Serialize};

/// Decay of the loss's moving average.
const DECAY: f64 = 0.99;
/// Lower bound of the share.
const LEAST: f64 = 0.1;

/// The positions farthest from the teacher, whose share adapts to the loss (LATF of AdaKD, 2510.11615).
///
/// Selects the share r of positions farthest from the teacher. After the warm-up the mean loss L is compared with a
/// reference: if it fell below by more than the fraction `epsilon`, r shrinks by the fraction `delta`; if it rose above
/// by as much, r grows by the same fraction. Either change makes L the new reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latf {
    /// Relative change of the share.
    pub delta: f64,
    /// Relative change of the loss that triggers a change of the share.
    pub epsilon: f64,
    /// Share of the run during which all positions count.
    pub warmup: f64,
}

impl Default for Latf {
    fn default() -> Self {
        Self { delta: 0.05, epsilon: 0.05, warmup: 0.05 }
    }
}

impl Rule for Latf {
    fn check(&self) -> Result<(), ConfigError> {
        let parts = [("delta", self.delta), ("epsilon", self.epsilon), ("warmup", self.warmup)];
        parts.into_iter().try_for_each(|(name, part)| {
            ConfigError::unless((0.0..1.0).contains(&part), name, part, "0 or more, and less than 1")
        })
    }

    fn start(&self) -> Box<dyn TokenWeighting> {
        Box::new(State::new(*self))
    }
}

/// State of the rule.
struct State {
    rule: Latf,
    share: f64,
    /// Moving average of the loss; 0 before the first step.
    mean: f64,
    /// Reference value of the loss; 0 before the warm-up ends.
    reference: f64,
    is_warm: bool,
}

impl State {
    fn new(rule: Latf) -> Self {
        Self { rule, share: 1.0, mean: 0.0, reference: 0.0, is_warm: false }
    }

    fn settle(&mut self) {
        let Latf { delta, epsilon, .. } = self.rule;
        if self.reference == 0.0 {
            self.reference = self.mean;
        } else if self.mean < self.reference * (1.0 - epsilon) {
            self.share = (self.share * (1.0 - delta)).max(LEAST);
            self.reference = self.mean;
        } else if self.mean > self.reference * (1.0 + epsilon) {
            self.share = (self.share * (1.0 + delta)).min(1.0);
            self.reference = self.mean;
        }
    }
}

impl TokenWeighting for State {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::Distance])
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        self.is_warm = context.progress >= self.rule.warmup;
        let distances: Vec<f64> = context.positions.iter().map(|p| p.distance).collect();
        top(&distances, self.share)
    }

    fn observe(&mut self, outcome: &StepFeedback<'_>) {
        let loss = outcome.divergence;
        self.mean = if self.mean == 0.0 { loss } else { DECAY * self.mean + (1.0 - DECAY) * loss };
        if self.is_warm {
            self.settle();
        }
    }

    fn state(&self) -> Vec<f64> {
        vec![self.share, self.mean, self.reference]
    }

    fn restore(&mut self, state: &[f64]) -> bool {
        let [share, mean, reference] = *state else { return false };
        (self.share, self.mean, self.reference) = (share, mean, reference);
        true
    }
}
