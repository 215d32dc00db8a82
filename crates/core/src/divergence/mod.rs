//! Divergences between a teacher's and a student's probabilities.
//!
//! Each divergence has its own file with its parameters, its properties ([`Properties`]), its formula, and reference
//! results of another framework. The formula is written once, generically over [`Number`] or [`WholeRows`]. [`compare`]
//! evaluates it in f64 with its gradient by the chain rule: the reference that everything else is tested against. A
//! trainer evaluates it in f32 on many terms at once ([`Divergence::eval_terms`]) and on tensors
//! ([`OverRows::of_rows`]).

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
pub use tempered::{CachedRows, NO_CLASS, NO_MASS, TailPolicy, Tempered};
pub use tempered_row::{Remainder, TemperedRow};

use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Declares the divergences: `sum` for a sum over classes or `rows` for one that uses whole rows, then the file, which
/// is also the name in recipes, and the type in it.
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

        /// The divergence of a student's probabilities q from a teacher's p.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Divergence {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl Divergence {
            /// Every divergence with its default parameters.
            pub const ALL: &'static [Self] = &[$(Self::$name($name::DEFAULT)),*];

            /// The name in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($file)),*
                }
            }

            /// This divergence with every set of parameters that tests of all divergences use.
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

            /// Evaluates the summands of a row from the teacher's `log_p` and the student's `log_q`: `values` receives
            /// each summand in nats, `slopes` its derivative along log q.
            ///
            /// # Panics
            /// If the divergence is not a sum over classes.
            #[inline(always)]
            pub fn eval_terms<R: Real>(&self, log_p: &[R], log_q: &[R], values: &mut [R], slopes: &mut [R]) {
                // Matching outside the loop lets the compiler vectorise the loop.
                match self {
                    $(Self::$name(divergence) => {
                        divergences!(@eval $kind divergence (log_p, log_q, values, slopes))
                    })*
                }
            }

            /// The divergence as a function of the sum of its terms.
            ///
            /// # Panics
            /// If the divergence is not a sum over classes.
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

/// Delegates to the divergence of the variant.
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

/// Rejects a value that is not a share of a mixture.
fn check_share(name: &str, share: f64) -> Result<(), ConfigError> {
    ConfigError::unless(share > 0.0 && share < 1.0, name, share, "between 0 and 1")
}

/// Rejects a value that is not a weight.
fn check_weight(name: &str, weight: f64) -> Result<(), ConfigError> {
    ConfigError::unless(weight >= 0.0 && weight.is_finite(), name, weight, "a weight, 0 or more")
}
