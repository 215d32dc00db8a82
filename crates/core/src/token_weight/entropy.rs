//! By uncertainty.

use super::{Of, TokenWeighting};
use crate::temperature::{RequiredStats, StepContext};

/// H / log(classes), within 0..=1.
pub(super) struct Entropy(pub(super) Of);

impl TokenWeighting for Entropy {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats { entropy: true, ..RequiredStats::POSITIONS }
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let most = (context.vocab_size as f64).ln();
        let entropy = |p: &crate::temperature::TokenStats| match self.0 {
            Of::Teacher => p.teacher.entropy,
            Of::Student => p.student.entropy,
        };
        context.positions.iter().map(|p| (entropy(p) / most).clamp(0.0, 1.0)).collect()
    }
}
