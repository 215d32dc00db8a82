//! An agent that chooses temperatures and is rewarded for what the student learns.

use super::learning::ActorCritic;
use super::{AdaptiveTemperature, Rule, check_positive, check_range};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// An actor and a critic that are rewarded for what the student learns (ITKD, 2407.00115).
///
/// Proximal policy optimisation: an actor gives each position theta = mu + 0.3 n, and with it
/// T = lowest + (highest - lowest) sigmoid(theta); a critic says what reward to expect. The reward of a step is how much
/// larger the share of first choices that are the label is when the next step is looked at.
///
/// The paper spreads that reward over instances by an LSTM and mixes samples to explore. Here every position of a step has
/// the common reward, with the critic's value of the position for its baseline; so n, normal, is drawn once for a whole
/// step (draws of single positions would cancel out in what they are rewarded for), and nothing is mixed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Never below.
    pub lowest: f64,
    /// Never above.
    pub highest: f64,
    /// Of Adam, for actor and critic. The reward is noisy: three times as fast, an agent now and then ends at the wrong
    /// bound.
    #[serde(default = "slow")]
    pub learning_rate: f64,
    /// Share of the run before the agent takes over; the recipe's temperature until then.
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
