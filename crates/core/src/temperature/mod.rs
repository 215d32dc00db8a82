//! Temperatures that are decided while a student learns: from how far the run is, from what teacher and student say at
//! each position, or by learning.
//!
//! A rule is plain arithmetic on a few numbers of each position ([`context`]), in f64 on the host: a file each. It departs
//! from the recipe's temperature, which may move by itself ([`crate::Schedule`]), and answers with a temperature for the
//! teacher and one for the student at each position. What it remembers is a list of numbers, so that a run that is resumed
//! goes on with the same bits.

mod agent;
pub mod context;
mod curriculum;
mod difficulty;
mod dtkd;
mod dts;
mod entropy;
mod idts;
mod mlp;
#[cfg(test)]
mod tests;

pub use context::{LogitStats, RequiredStats, StepContext, StepFeedback, TokenStats};
pub use entropy::temperature_of_entropy;

use serde::{Deserialize, Serialize};

/// Temperatures at a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemperaturePair {
    /// The teacher's.
    pub teacher: f64,
    /// The student's.
    pub student: f64,
}

impl TemperaturePair {
    /// The same for both.
    pub fn same(temperature: f64) -> Self {
        Self { teacher: temperature, student: temperature }
    }
}

/// A rule at work.
pub trait AdaptiveTemperature: Send {
    /// What it must be told.
    fn required_stats(&self) -> RequiredStats;

    /// One temperature for all positions, or one for each.
    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures;

    /// Hears what came of the last context.
    fn observe(&mut self, _outcome: &StepFeedback<'_>) {}

    /// All it remembers, to be kept with a checkpoint.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Goes on from a state; `false` where it is not one of this rule's.
    fn restore(&mut self, state: &[f64]) -> bool {
        state.is_empty()
    }
}

/// What a rule decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Temperatures {
    /// For all positions alike.
    Shared(TemperaturePair),
    /// For each position of the context.
    PerToken(Vec<TemperaturePair>),
}

/// How temperatures depart from the recipe's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TemperatureRule {
    /// One temperature that falls with the run, and more slowly while the student is far behind the teacher (DTS,
    /// 2511.13767).
    Dts(dts::Dts),
    /// A temperature that learns to make the student's task harder (CTKD, 2211.16231).
    Curriculum(curriculum::Config),
    /// Teacher and student get temperatures at which both are equally sharp (DTKD, 2404.12711).
    Dtkd {},
    /// Harder samples at a lower temperature (KA + DTD, 1911.07471).
    Difficulty(difficulty::Difficulty),
    /// Tokens far from the teacher at a lower temperature, near ones at a higher (IDTS of AdaKD, 2510.11615).
    Idts(idts::Idts),
    /// The temperature times the standard deviation of the logits, of teacher and student each (NormKD; logit
    /// standardisation).
    LogitStd {},
    /// The temperature at which every soft label has the same entropy (2605.20357).
    Entropy(entropy::Entropy),
    /// An actor and a critic that are rewarded for what the student learns (ITKD, 2407.00115).
    Agent(agent::Config),
}

impl TemperatureRule {
    /// The rule at its start; `seed` decides every draw it makes. `None` for [`Self::LogitStd`], which needs no telling.
    pub fn start(&self, seed: u64) -> Option<Box<dyn AdaptiveTemperature>> {
        Some(match *self {
            Self::Dts(rule) => Box::new(dts::State::new(rule)),
            Self::Curriculum(config) => Box::new(curriculum::Curriculum::new(config, seed)),
            Self::Dtkd {} => Box::new(dtkd::Dtkd),
            Self::Difficulty(rule) => Box::new(rule),
            Self::Idts(rule) => Box::new(rule),
            Self::LogitStd {} => return None,
            Self::Entropy(rule) => Box::new(rule),
            Self::Agent(config) => Box::new(agent::Agent::new(config, seed)),
        })
    }

    /// The temperatures it stays within; `None`: where it may, that is in the range for which a cache's tail is right.
    pub fn range(&self) -> Option<(f64, f64)> {
        match self {
            Self::Dts(rule) => Some((rule.lowest, rule.highest)),
            Self::Curriculum(config) => Some((config.lowest, config.highest)),
            Self::Agent(config) => Some((config.lowest, config.highest)),
            Self::Dtkd {} | Self::Difficulty(_) | Self::Idts(_) | Self::LogitStd {} | Self::Entropy(_) => None,
        }
    }

    /// Does it look at the teacher's likeliest classes? Of a row of drawn ones these are not known.
    pub fn looks_at_kept_classes(&self) -> bool {
        match self {
            Self::Dtkd {} | Self::Agent(_) => true,
            Self::Curriculum(config) => config.instance,
            Self::Difficulty(rule) => rule.measure == difficulty::Measure::Cosine,
            Self::Dts(_) | Self::Idts(_) | Self::LogitStd {} | Self::Entropy(_) => false,
        }
    }

    /// Does it learn from the slope of the loss in the temperature?
    pub fn needs_slopes(&self) -> bool {
        self.start(0).is_some_and(|rule| rule.required_stats().slopes)
    }

    /// Refuses parameters for which the rule says nothing.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Dts(rule) => rule.check(),
            Self::Curriculum(config) => config.check(),
            Self::Difficulty(rule) => rule.check(),
            Self::Idts(rule) => rule.check(),
            Self::Entropy(rule) => rule.check(),
            Self::Agent(config) => config.check(),
            Self::Dtkd {} | Self::LogitStd {} => Ok(()),
        }
    }
}

/// Refuses anything but 0 < lowest < highest.
fn check_range(lowest: f64, highest: f64) -> Result<(), String> {
    match lowest > 0.0 && lowest < highest && highest.is_finite() {
        true => Ok(()),
        false => Err(format!("lowest = {lowest} and highest = {highest} are not a range of temperatures")),
    }
}

/// Refuses anything but a positive number.
fn check_positive(name: &str, value: f64) -> Result<(), String> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(format!("{name} = {value} is not a positive number")),
    }
}
