//! Weights proportional to the uncertainty of the teacher or the student.

use super::{Rule, TokenWeighting};
use crate::ConfigError;
use crate::temperature::{RequiredStats, Stat, StepContext, TokenStats};
use serde::{Deserialize, Serialize};

/// The entropy at T = 1 divided by its maximum, H / log(classes), within 0..=1 (Dynamic KD, 2109.11295).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// Whose entropy is used.
    pub of: Of,
}

/// Teacher or student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The entropy of the teacher's row.
    Teacher,
    /// The entropy of the student's row.
    Student,
}

impl Rule for Entropy {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn start(&self) -> Box<dyn TokenWeighting> {
        Box::new(*self)
    }
}

impl TokenWeighting for Entropy {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[match self.of {
            Of::Teacher => Stat::TeacherEntropy,
            Of::Student => Stat::StudentEntropy,
        }])
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let most = (context.vocab_size as f64).ln();
        let entropy = |p: &TokenStats| match self.of {
            Of::Teacher => p.teacher.entropy,
            Of::Student => p.student.entropy,
        };
        context.positions.iter().map(|p| (entropy(p) / most).clamp(0.0, 1.0)).collect()
    }
}
