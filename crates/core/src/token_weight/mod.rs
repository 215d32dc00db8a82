//! How much of the soft loss each position of a step has.
//!
//! A rule answers with one number for each position, 1 being an ordinary share; it looks at what
//! [`crate::temperature::context`] tells of them.

mod blend;
#[cfg(test)]
mod tests;

pub use blend::Blend;
pub use entropy::Of;
pub use top::By;

use crate::ConfigError;
use crate::temperature::{RequiredStats, StepContext, StepFeedback};
use serde::{Deserialize, Serialize};

/// A rule at work.
pub trait TokenWeighting: Send {
    /// What it must be told.
    fn required_stats(&self) -> RequiredStats;

    /// One weight for each position of the context, none negative.
    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64>;

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

/// What a recipe says of a rule.
pub trait Rule {
    /// Refuses parameters for which the rule says nothing.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError>;

    /// The rule at its start.
    fn start(&self) -> Box<dyn TokenWeighting>;
}

/// Declares the rules: the file, by whose name recipes call it, and the type in it.
macro_rules! token_weights {
    ($($file:ident::$name:ident,)*) => {
        $(
            mod $file;
            pub use $file::$name;
        )*

        /// Which positions count, and how much.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum TokenWeight {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl TokenWeight {
            /// What recipes call every rule.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($file)),*];

            fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$name(rule) => rule),*
                }
            }
        }
    };
}

token_weights! {
    entropy::Entropy,
    top::Top,
    latf::Latf,
    gate::Gate,
}

impl TokenWeight {
    /// The rule at its start.
    pub fn start(&self) -> Box<dyn TokenWeighting> {
        self.rule().start()
    }

    /// What it must be told.
    pub fn required_stats(&self) -> RequiredStats {
        self.start().required_stats()
    }

    /// Refuses parameters for which the rule says nothing.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rule().check()
    }
}
