//! Weights of a step's positions in the soft loss.
//!
//! A rule returns one number for each position, where 1 is the ordinary weight. It uses the statistics in
//! [`crate::temperature::context`].

mod blend;
#[cfg(test)]
mod tests;

pub use blend::Blend;
pub use entropy::Of;
pub use top::By;

use crate::ConfigError;
use crate::temperature::{RequiredStats, StepContext, StepFeedback};
use serde::{Deserialize, Serialize};

/// The state of a weight rule during a run.
pub trait TokenWeighting: Send {
    /// The statistics that the rule requests.
    fn required_stats(&self) -> RequiredStats;

    /// Returns one weight for each position of the context, none negative.
    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64>;

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

/// The configuration of a rule in a recipe.
pub trait Rule {
    /// Rejects parameters for which the rule is not defined.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError>;

    /// Creates the rule's initial state.
    fn start(&self) -> Box<dyn TokenWeighting>;
}

/// Declares the rules: the file, which is also the name in recipes, and the type in it.
macro_rules! token_weights {
    ($($file:ident::$name:ident,)*) => {
        $(
            mod $file;
            pub use $file::$name;
        )*

        /// Weights of the positions in the soft loss.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum TokenWeight {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl TokenWeight {
            /// The names of all rules in recipes.
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
    /// Creates the rule's initial state.
    pub fn start(&self) -> Box<dyn TokenWeighting> {
        self.rule().start()
    }

    /// The statistics that the rule requests.
    pub fn required_stats(&self) -> RequiredStats {
        self.start().required_stats()
    }

    /// Rejects parameters for which the rule is not defined.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rule().check()
    }
}
