//! By uncertainty.

use super::{Weigher, Whose};
use crate::adapt::{Needs, Scene};

/// H / log(classes), within 0..=1.
pub(super) struct Entropy(pub(super) Whose);

impl Weigher for Entropy {
    fn needs(&self) -> Needs {
        Needs { entropy: true, ..Needs::POSITIONS }
    }

    fn weights(&mut self, scene: &Scene<'_>) -> Vec<f64> {
        let most = (scene.vocab_size as f64).ln();
        let entropy = |p: &crate::adapt::Position| match self.0 {
            Whose::Teacher => p.teacher.entropy,
            Whose::Student => p.student.entropy,
        };
        scene.positions.iter().map(|p| (entropy(p) / most).clamp(0.0, 1.0)).collect()
    }
}
