//! A teacher's rows at a temperature: the one place where it is applied to them.

use super::number::Rows;
use crate::ConfigError;
use crate::tail::LEAST_LEFT;
use serde::{Deserialize, Serialize};

/// What a loss does about the classes a cache did not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailPolicy {
    /// One "other" class on both sides, with the teacher's true tail mass: a lower bound of the full divergence.
    #[default]
    Bucket,
    /// The teacher's kept classes renormalised to 1, the student over its whole vocabulary.
    #[serde(rename = "renorm")]
    Renormalize,
    /// The teacher's tail mass spread evenly over the classes that were not kept.
    Uniform,
    /// The classes drawn at random stand for all that were not kept, each for 1 over its chance: unbiased.
    Sampled,
}

impl TailPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Bucket, Self::Renormalize, Self::Uniform, Self::Sampled];

    /// What recipes call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Renormalize => "renorm",
            Self::Uniform => "uniform",
            Self::Sampled => "sampled",
        }
    }

    /// The error of a recipe that has it where it makes no sense.
    pub(super) fn refused(self, expected: &str) -> ConfigError {
        ConfigError::new("tail", format!("\"{}\"", self.name()), expected)
    }
}

/// Added to the log-probability of a class that is one of the tail, so that it is not counted twice.
const NOT_COUNTED: f64 = -1e4;

/// Log of a mass that is none: no tail that was stored is as light.
pub const NO_MASS: f64 = -500.0;

/// Cached rows of n positions.
#[derive(Clone, Debug)]
pub struct CachedRows<A> {
    /// Log-probabilities at T = 1, \[n, classes\].
    pub log_probs: A,
    /// \[n, classes\], 0 for a class that was drawn at random and so is one of the tail, 1 for the others; `None`: 1
    /// everywhere.
    pub is_certain: Option<A>,
    /// Logits x of the tail's atoms, relative to the row's log-partition at T = 1, and log-weights w, \[n, atoms\] each: at
    /// inverse temperature b an atom adds e^(w + b x) to the partition function. `None`: every class is kept.
    pub tail: Option<[A; 2]>,
    /// Log-probability at T = 1 of a class that was taken out of the tail, \[n, 1\].
    pub without: Option<A>,
}

/// Rows at a temperature.
#[derive(Clone, Debug)]
pub struct Tempered<A> {
    /// Log-probabilities, \[n, classes\].
    pub log_probs: A,
    /// Log of the probability of all other classes, \[n, 1\], at most [`NO_MASS`] where there are none; `None`: they have no
    /// place in the loss.
    pub log_mass: Option<A>,
    /// What log-probabilities lack to be logits over the temperature, these relative to the log-partition at T = 1, \[n, 1\].
    pub log_total: A,
}

impl<A: Rows> Tempered<A> {
    /// Rows as `policy` sees them. `scaled`: log-probabilities over the temperature; `log_tail`: log of the tail's partition
    /// function there, \[n, 1\].
    ///
    /// With [`TailPolicy::Bucket`] and [`TailPolicy::Uniform`] all probabilities add up to 1; with [`TailPolicy::Sampled`]
    /// Σ counts · f(probability) is on average over all offsets what it is over all classes, for any f.
    #[inline(always)]
    pub fn new(scaled: A, is_certain: Option<&A>, log_tail: Option<A>, policy: TailPolicy) -> Self {
        let certain = match is_certain {
            None => scaled.clone(),
            Some(is_certain) => scaled.clone() + (is_certain.clone() + -1.0) * -NOT_COUNTED,
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
    /// The rows at a temperature as `policy` sees them; `over_temperature` divides by it.
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

/// Refuses `renorm` for a divergence whose terms are weighted by the student: it compares a p that adds up to 1 with a q that
/// does not, so that the student lowers the sum by moving probability out of sight.
pub(super) fn refuse_renormalized(name: &str, policy: TailPolicy) -> Result<(), ConfigError> {
    match policy {
        TailPolicy::Renormalize => Err(policy.refused("\"bucket\", \"uniform\" or \"sampled\"").because(format!(
            "{name} weighs classes by the student, who lowers it by giving the kept classes less where only these count"
        ))),
        _ => Ok(()),
    }
}
