//! Temperatures that are determined during training: from the progress of the run, from the teacher's and the student's
//! statistics at each position, or by learning.
//!
//! Each rule has its own file and is plain arithmetic in f64 on the CPU, on a few numbers of each position
//! ([`context`]). It starts from the recipe's temperature, which may follow a schedule ([`crate::Schedule`]), and
//! returns a temperature for the teacher and one for the student at each position. Its state is a list of numbers, so
//! that a resumed run continues with exactly the same bits.

pub mod context;
mod learning;
#[cfg(test)]
mod tests;

pub use context::{LogitStats, RequiredStats, Stat, StatSource, StepContext, StepFeedback, TokenStats};
pub use entropy::temperature_of_entropy;

use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// The temperatures at a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemperaturePair {
    /// The teacher's temperature.
    pub teacher: f64,
    /// The student's temperature.
    pub student: f64,
}

impl TemperaturePair {
    /// The same temperature for both.
    pub fn same(temperature: f64) -> Self {
        Self { teacher: temperature, student: temperature }
    }
}

/// The state of a temperature rule during a run.
pub trait AdaptiveTemperature: Send {
    /// The statistics that the rule requests.
    fn required_stats(&self) -> RequiredStats;

    /// Returns one temperature for all positions, or one for each.
    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures;

    /// Receives the results of the last context's step.
    fn observe(&mut self, _outcome: &StepFeedback<'_>) {}

    /// The complete state of the rule, to be stored in a checkpoint.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Restores the state; returns `false` if it does not belong to this rule.
    fn restore(&mut self, state: &[f64]) -> bool {
        state.is_empty()
    }
}

/// The temperatures that a rule chose.
#[derive(Clone, Debug, PartialEq)]
pub enum Temperatures {
    /// The same for all positions.
    Shared(TemperaturePair),
    /// One pair for each position of the context.
    PerToken(Vec<TemperaturePair>),
    /// `pair` times the standard deviation over all classes of the teacher's and the student's logits at each position;
    /// the gradient flows through the student's. It needs [`Stat::TeacherLogitStd`].
    TimesLogitStd {
        /// The temperatures to be multiplied.
        pair: TemperaturePair,
        /// Bounds of the teacher's product.
        range: (f64, f64),
    },
}

/// The configuration of a rule in a recipe.
pub trait Rule {
    /// Rejects parameters for which the rule is not defined.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError>;

    /// Bounds of the rule's temperatures; `None` if it may use the whole range for which the cache's tail is accurate.
    fn range(&self) -> Option<(f64, f64)> {
        None
    }

    /// Creates the rule's initial state; `seed` determines all its draws.
    fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature>;
}

/// Parameters of a rule for the test of all rules.
#[cfg(test)]
trait Tested {
    const TESTED: Self;
}

/// Declares the rules: the file, which is also the name in recipes, and the type in it.
macro_rules! temperature_rules {
    ($($file:ident::$name:ident,)*) => {
        $(
            mod $file;
            pub use $file::$name;
        )*

        /// How temperatures deviate from the recipe's.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum TemperatureRule {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl TemperatureRule {
            /// The names of all rules in recipes.
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
    /// Creates the rule's initial state; `seed` determines all its draws.
    pub fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature> {
        self.rule().start(seed)
    }

    /// Bounds of the rule's temperatures; `None` if it may use the whole range for which the cache's tail is accurate.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.rule().range()
    }

    /// The statistics that the rule requests.
    pub fn required_stats(&self) -> RequiredStats {
        self.start(0).required_stats()
    }

    /// Rejects parameters for which the rule is not defined.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rule().check()
    }
}

/// Rejects anything but 0 < lowest < highest.
fn check_range(lowest: f64, highest: f64) -> Result<(), ConfigError> {
    check_positive("lowest", lowest)?;
    let holds = lowest < highest && highest.is_finite();
    ConfigError::unless(holds, "highest", highest, format!("a number above lowest = {lowest}"))
}

/// Rejects anything but a positive number.
fn check_positive(name: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::unless(value > 0.0 && value.is_finite(), name, value, "a positive number")
}
