//! A teacher's cached rows at a temperature. Nothing else applies a temperature to them.

use super::number::Rows;
use crate::ConfigError;
use crate::tail::LEAST_LEFT;
use serde::{Deserialize, Serialize};

/// How a loss treats the classes that were not cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailPolicy {
    /// All other classes form one class on both sides, with the teacher's exact tail mass: a lower bound of the full
    /// divergence.
    #[default]
    Bucket,
    /// The teacher's kept classes are renormalised to 1; the student's probabilities cover its whole vocabulary.
    #[serde(rename = "renorm")]
    Renormalize,
    /// The teacher's tail mass is spread evenly over the classes that were not kept.
    Uniform,
    /// Sampled classes represent all classes that were not kept, each weighted by 1 over its inclusion probability:
    /// unbiased.
    Sampled,
}

impl TailPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Bucket, Self::Renormalize, Self::Uniform, Self::Sampled];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Renormalize => "renorm",
            Self::Uniform => "uniform",
            Self::Sampled => "sampled",
        }
    }

    /// The error for a recipe that uses this policy where it is not valid.
    pub(super) fn refused(self, expected: &str) -> ConfigError {
        ConfigError::new("tail", format!("\"{}\"", self.name()), expected)
    }
}

/// Log-probability of a class that does not count: padding, or one of the tail. e^-1e4 is 0 in any float, at any useful
/// temperature, and 0 · -1e4 is still 0.
pub const NO_CLASS: f64 = -1e4;

/// Stands for the log of zero mass: every stored tail has more.
pub const NO_MASS: f64 = -500.0;

/// Cached rows at n positions.
#[derive(Clone, Debug)]
pub struct CachedRows<A> {
    /// Log-probabilities at T = 1, \[n, classes\].
    pub log_probs: A,
    /// \[n, classes\]: 0 for a sampled class, which is therefore part of the tail, and 1 for the others; `None` means 1
    /// everywhere.
    pub is_certain: Option<A>,
    /// Logits x of the tail's atoms, relative to the row's log-partition at T = 1, and their log-weights w, \[n,
    /// atoms\] each: at inverse temperature b an atom adds e^(w + b x) to the partition function. `None` means that
    /// every class is kept.
    pub tail: Option<[A; 2]>,
    /// Log-probability at T = 1 of a class that was removed from the tail, \[n, 1\].
    pub without: Option<A>,
}

/// Rows with a temperature applied.
#[derive(Clone, Debug)]
pub struct Tempered<A> {
    /// Log-probabilities, \[n, classes\].
    pub log_probs: A,
    /// Log of the total probability of all other classes, \[n, 1\], at most [`NO_MASS`] if there are none; `None` means
    /// that they do not take part in the loss.
    pub log_mass: Option<A>,
    /// What must be added to log-probabilities to obtain logits over the temperature, relative to the log-partition at
    /// T = 1, \[n, 1\].
    pub log_total: A,
}

impl<A: Rows> Tempered<A> {
    /// Applies `policy` to rows. `scaled` holds log-probabilities over the temperature, and `log_tail` the log of the
    /// tail's partition function at that temperature, \[n, 1\].
    ///
    /// With [`TailPolicy::Bucket`] and [`TailPolicy::Uniform`] all probabilities add up to 1. With
    /// [`TailPolicy::Sampled`] the expectation of Σ counts · f(probability) over all offsets is its value over all
    /// classes, for any f.
    #[inline(always)]
    pub fn new(scaled: A, is_certain: Option<&A>, log_tail: Option<A>, policy: TailPolicy) -> Self {
        let certain = match is_certain {
            None => scaled.clone(),
            Some(is_certain) => scaled.clone() + (is_certain.clone() + -1.0) * -NO_CLASS,
        };
        let log_total = match &log_tail {
            Some(log_tail) if policy != TailPolicy::Renormalize => certain.beside(log_tail.clone()).log_sum_exp(),
            _ => certain.log_sum_exp(),
        };
        let has_place = matches!(policy, TailPolicy::Bucket | TailPolicy::Uniform);
        let log_mass = log_tail.filter(|_| has_place).map(|log_tail| log_tail - log_total.clone());
        Self { log_probs: scaled - log_total.clone(), log_mass, log_total }
    }
}

impl<A: Rows> CachedRows<A> {
    /// Applies a temperature and `policy` to the rows; `over_temperature` divides by the temperature.
    #[inline(always)]
    pub fn at(&self, over_temperature: impl Fn(A) -> A, policy: TailPolicy) -> Tempered<A> {
        let log_tail = self.log_tail(&over_temperature);
        Tempered::new(over_temperature(self.log_probs.clone()), self.is_certain.as_ref(), log_tail, policy)
    }

    /// Log of the tail's partition function, relative to the row's at T = 1, \[n, 1\].
    #[inline(always)]
    pub fn log_tail(&self, over_temperature: impl Fn(A) -> A) -> Option<A> {
        let [logits, log_weights] = self.tail.as_ref()?;
        let all = (over_temperature(logits.clone()) + log_weights.clone()).log_sum_exp();
        Some(match &self.without {
            None => all,
            Some(without) => {
                let share = (over_temperature(without.clone()) - all.clone()).exp();
                all + (-share + 1.0).at_least(LEAST_LEFT).ln()
            }
        })
    }
}

/// Rejects `renorm` for a divergence whose terms are weighted by the student: it compares a p that adds up to 1 with a
/// q that does not, so that the student could lower the loss by moving probability to classes that were not kept.
pub(super) fn refuse_renormalized(name: &str, policy: TailPolicy) -> Result<(), ConfigError> {
    match policy {
        TailPolicy::Renormalize => Err(policy.refused("\"bucket\", \"uniform\" or \"sampled\"").because(format!(
            "{name} weighs classes by the student, who lowers it by giving the kept classes less where only these count"
        ))),
        _ => Ok(()),
    }
}
