//! Temperatures chosen by an agent that is rewarded for the student's progress.

use super::learning::ActorCritic;
use super::{AdaptiveTemperature, Rule, check_positive, check_range};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Temperatures from an actor-critic agent that is rewarded for the student's progress (ITKD, 2407.00115).
///
/// Uses proximal policy optimisation: an actor gives each position theta = mu + 0.3 n, and with it T = lowest +
/// (highest - lowest) sigmoid(theta); a critic predicts the reward. The reward of a step is the increase, by the next
/// step, of the share of positions where the student's first choice is the label.
///
/// The paper distributes that reward over instances with an LSTM and mixes samples to explore. Here every position of a
/// step gets the common reward, with the critic's value of the position as its baseline; therefore the normal n is
/// drawn once for a whole step (separate draws per position would cancel out in the common reward), and nothing is
/// mixed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Lower bound of the temperature.
    pub lowest: f64,
    /// Upper bound of the temperature.
    pub highest: f64,
    /// Learning rate of Adam for actor and critic. The reward is noisy: with three times this rate an agent
    /// occasionally ends at the wrong bound.
    #[serde(default = "slow")]
    pub learning_rate: f64,
    /// Share of the run before the agent takes over; until then the recipe's temperature is used.
    #[serde(default = "tenth")]
    pub explore: f64,
}

const fn slow() -> f64 {
    0.003
}
const fn tenth() -> f64 {
    0.1
}

#[cfg(test)]
impl super::Tested for Agent {
    const TESTED: Self = Self { lowest: 1.0, highest: 9.0, learning_rate: 0.01, explore: 0.1 };
}

impl Rule for Agent {
    fn check(&self) -> Result<(), ConfigError> {
        check_range(self.lowest, self.highest)?;
        check_positive("learning_rate", self.learning_rate)?;
        ConfigError::unless((0.0..=1.0).contains(&self.explore), "explore", self.explore, "a share of the run, 0 to 1")
    }

    fn range(&self) -> Option<(f64, f64)> {
        Some((self.lowest, self.highest))
    }

    fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(ActorCritic::new(*self, seed))
    }
}

impl Agent {
    pub(super) fn temperature(&self, theta: f64) -> f64 {
        self.lowest + (self.highest - self.lowest) / (1.0 + (-theta).exp())
    }
}
