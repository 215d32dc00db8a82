//! How far a student's probabilities are from a teacher's.
//!
//! A divergence is one file: its parameters, its properties ([`Properties`]), its formula, and numbers of another framework.
//! The formula is written once, over [`Number`] or [`WholeRows`]. [`compare`] takes it in f64, with its gradient by the chain
//! rule: what everything else is tested against. A trainer takes it in f32 many terms at once ([`Divergence::eval_terms`])
//! and over tensors ([`OverRows::of_rows`]).

mod compare;
mod formula;
mod matrix;
mod number;
mod tempered;
mod tempered_row;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, compare, compare_batch};
pub use formula::{Compared, OverRows, Properties, Settings, SumOverClasses, Terms};
pub use matrix::Matrix;
pub use number::{Dual, Number, Real, Rows, WholeRows};
pub use tempered::{CachedRows, NO_MASS, TailPolicy, Tempered};
pub use tempered_row::{Remainder, TemperedRow};

use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Declares the divergences: `sum` for a sum over classes, `rows` for one that looks at a row as a whole, then the file, by
/// whose name recipes call it, and the type in it.
macro_rules! divergences {
    (@of_sum sum $divergence:ident $sum:ident) => { $divergence.of_sum($sum) };
    (@of_sum rows $divergence:ident $sum:ident) => { unreachable!("{:?} looks at a whole row", $divergence) };
    (@eval sum $divergence:ident ($($arguments:ident),*)) => { eval($divergence, $($arguments),*) };
    (@eval rows $divergence:ident ($($arguments:ident),*)) => { unreachable!("{:?} looks at a whole row", $divergence) };
    ($($kind:ident $file:ident::$name:ident,)*) => {
        $(
            mod $file;
            pub use $file::$name;

            impl Default for $name {
                fn default() -> Self {
                    Self::DEFAULT
                }
            }

            impl From<$name> for Divergence {
                fn from(divergence: $name) -> Self {
                    Self::$name(divergence)
                }
            }
        )*

        /// How far a student's probabilities q are from a teacher's p.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Divergence {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl Divergence {
            /// Every divergence, with the parameters it has where none are given.
            pub const ALL: &'static [Self] = &[$(Self::$name($name::DEFAULT)),*];

            /// What a recipe calls it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($file)),*
                }
            }

            /// Every divergence of this name that a test of all divergences goes through.
            pub fn tested(&self) -> Vec<Self> {
                match self {
                    $(Self::$name(_) => $name::tested().into_iter().map(Self::$name).collect()),*
                }
            }

            fn properties(&self) -> &dyn Properties {
                match self {
                    $(Self::$name(divergence) => divergence),*
                }
            }

            /// What the terms of a row add: a teacher's e^log_p beside a student's e^log_q, in nats into `values` and along
            /// log q into `slopes`.
            ///
            /// # Panics
            /// Of a divergence that is no sum over classes.
            #[inline(always)]
            pub fn eval_terms<R: Real>(&self, log_p: &[R], log_q: &[R], values: &mut [R], slopes: &mut [R]) {
                // The formula is chosen once, outside the loop, so that the loop can become one of vectors.
                match self {
                    $(Self::$name(divergence) => {
                        divergences!(@eval $kind divergence (log_p, log_q, values, slopes))
                    })*
                }
            }

            /// The divergence, of the sum of the terms.
            ///
            /// # Panics
            /// Of a divergence that is no sum over classes.
            #[inline(always)]
            pub fn of_sum<N: Number>(&self, sum: N) -> N {
                match self {
                    $(Self::$name(divergence) => divergences!(@of_sum $kind divergence sum)),*
                }
            }

            #[cfg(test)]
            fn golden(&self) -> tests::Golden {
                match self {
                    $(Self::$name(_) => $name::GOLDEN),*
                }
            }
        }

        impl OverRows for Divergence {
            fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
                match self {
                    $(Self::$name(divergence) => divergence.of_rows(compared)),*
                }
            }

            fn is_sum_over_classes(&self) -> bool {
                match self {
                    $(Self::$name(divergence) => divergence.is_sum_over_classes()),*
                }
            }
        }
    };
}

divergences! {
    sum forward_kl::ForwardKl,
    sum reverse_kl::ReverseKl,
    sum jensen_shannon::JensenShannon,
    sum skew_forward_kl::SkewForwardKl,
    sum skew_reverse_kl::SkewReverseKl,
    sum total_variation::TotalVariation,
    sum hellinger::Hellinger,
    sum alpha_beta::AlphaBeta,
    sum renyi::Renyi,
    rows mean_squares::MeanSquares,
    rows decoupled::Decoupled,
    rows pearson::Pearson,
    rows spearman::Spearman,
}

/// Those of the divergence that it is.
impl Properties for Divergence {
    fn check(&self) -> Result<(), ConfigError> {
        self.properties().check()
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        self.properties().check_tail_policy(policy)
    }

    fn needs_label(&self) -> bool {
        self.properties().needs_label()
    }

    fn needs_all_classes(&self) -> bool {
        self.properties().needs_all_classes()
    }

    fn needs_logits(&self) -> bool {
        self.properties().needs_logits()
    }

    fn needs_mean_logit(&self) -> bool {
        self.properties().needs_mean_logit()
    }

    fn needs_squares(&self) -> bool {
        self.properties().needs_squares()
    }

    fn compares_pairs(&self) -> bool {
        self.properties().compares_pairs()
    }

    fn compares_positions(&self) -> bool {
        self.properties().compares_positions()
    }

    fn teaches_temperature(&self) -> bool {
        self.properties().teaches_temperature()
    }
}

impl Default for Divergence {
    fn default() -> Self {
        Self::ForwardKl(ForwardKl::DEFAULT)
    }
}

#[inline(always)]
fn eval<R: Real>(divergence: &impl SumOverClasses, log_p: &[R], log_q: &[R], values: &mut [R], slopes: &mut [R]) {
    for (((&log_p, &log_q), value), slope) in log_p.iter().zip(log_q).zip(values).zip(slopes) {
        Dual { value: *value, slope: *slope } = divergence.term(Dual::constant(log_p), Dual::variable(log_q));
    }
}

/// Refuses what is no share of a mixture.
fn check_share(name: &str, share: f64) -> Result<(), ConfigError> {
    ConfigError::unless(share > 0.0 && share < 1.0, name, share, "between 0 and 1")
}

/// Refuses what is no weight.
fn check_weight(name: &str, weight: f64) -> Result<(), ConfigError> {
    ConfigError::unless(weight >= 0.0 && weight.is_finite(), name, weight, "a weight, 0 or more")
}
