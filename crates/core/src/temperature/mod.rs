//! Temperatures that are decided while a student learns: from how far the run is, from what teacher and student say at
//! each position, or by learning.
//!
//! A rule is plain arithmetic on a few numbers of each position ([`context`]), in f64 on the host: a file each. It departs
//! from the recipe's temperature, which may move by itself ([`crate::Schedule`]), and answers with a temperature for the
//! teacher and one for the student at each position. What it remembers is a list of numbers, so that a run that is resumed
//! goes on with the same bits.

pub mod context;
mod learning;
#[cfg(test)]
mod tests;

pub use context::{LogitStats, RequiredStats, Stat, StatSource, StepContext, StepFeedback, TokenStats};
pub use entropy::temperature_of_entropy;

use crate::ConfigError;
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
    /// Multiplied at each position by the standard deviation of either's logits over all classes; the gradient goes through
    /// the student's. It needs [`Stat::TeacherLogitStd`].
    TimesLogitStd {
        /// What is multiplied.
        pair: TemperaturePair,
        /// The teacher's product stays within these.
        range: (f64, f64),
    },
}

/// What a recipe says of a rule.
pub trait Rule {
    /// Refuses parameters for which the rule says nothing.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError>;

    /// The temperatures it stays within; `None`: where it may, that is in the range for which a cache's tail is right.
    fn range(&self) -> Option<(f64, f64)> {
        None
    }

    /// The rule at its start; `seed` decides every draw it makes.
    fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature>;
}

/// Parameters of a rule that the test of all rules goes through.
#[cfg(test)]
trait Tested {
    const TESTED: Self;
}

/// Declares the rules: the file, by whose name recipes call it, and the type in it.
macro_rules! temperature_rules {
    ($($file:ident::$name:ident,)*) => {
        $(
            mod $file;
            pub use $file::$name;
        )*

        /// How temperatures depart from the recipe's.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum TemperatureRule {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl TemperatureRule {
            /// What recipes call every rule.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($file)),*];

            fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$name(rule) => rule),*
                }
            }

            #[cfg(test)]
            fn tested() -> Vec<Self> {
                vec![$(Self::$name(<$name as Tested>::TESTED)),*]
            }
        }
    };
}

temperature_rules! {
    dts::Dts,
    curriculum::Curriculum,
    dtkd::Dtkd,
    difficulty::Difficulty,
    idts::Idts,
    logit_std::LogitStd,
    entropy::Entropy,
    agent::Agent,
}

impl TemperatureRule {
    /// The rule at its start; `seed` decides every draw it makes.
    pub fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature> {
        self.rule().start(seed)
    }

    /// The temperatures it stays within; `None`: where it may, that is in the range for which a cache's tail is right.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.rule().range()
    }

    /// What it must be told.
    pub fn required_stats(&self) -> RequiredStats {
        self.start(0).required_stats()
    }

    /// Refuses parameters for which the rule says nothing.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rule().check()
    }
}

/// Refuses anything but 0 < lowest < highest.
fn check_range(lowest: f64, highest: f64) -> Result<(), ConfigError> {
    check_positive("lowest", lowest)?;
    let holds = lowest < highest && highest.is_finite();
    ConfigError::unless(holds, "highest", highest, format!("a number above lowest = {lowest}"))
}

/// Refuses anything but a positive number.
fn check_positive(name: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::unless(value > 0.0 && value.is_finite(), name, value, "a positive number")
}
