//! The traits that a divergence implements and the inputs that it receives.

use super::number::{Number, Rows, WholeRows};
use super::tempered::TailPolicy;
use crate::ConfigError;

/// Properties of a divergence besides its formula. Trainers, recipes and tests learn everything they need to know of
/// one here.
pub trait Properties {
    /// Rejects parameters for which the formula is not defined.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Rejects a tail policy under which the formula is not a divergence.
    ///
    /// # Errors
    /// Names the policies that are accepted, and why.
    fn check_tail_policy(&self, _policy: TailPolicy) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Whether the label must be among the kept classes. It is then in [`Compared::label`].
    fn needs_label(&self) -> bool {
        false
    }

    /// Whether every class must be kept.
    fn needs_all_classes(&self) -> bool {
        false
    }

    /// Whether it compares logits. The difference between logits and log-probabilities is then in [`Compared::log_z`].
    fn needs_logits(&self) -> bool {
        false
    }

    /// Whether these logits have the mean over all classes subtracted.
    fn needs_mean_logit(&self) -> bool {
        false
    }

    /// Whether it needs the sum of squared probabilities over all classes. These sums are then in
    /// [`Compared::squares`].
    fn needs_squares(&self) -> bool {
        false
    }

    /// Whether it compares every pair of kept classes, so that a row needs memory quadratic in their number.
    fn compares_pairs(&self) -> bool {
        false
    }

    /// Whether it compares the positions of a batch with one another, so that no position has a loss of its own.
    fn compares_positions(&self) -> bool {
        false
    }

    /// Whether its slope along the temperature is informative enough for a temperature to be learned from it.
    fn teaches_temperature(&self) -> bool {
        true
    }
}

/// The default parameters of a divergence, and reference results computed with them in another framework.
pub trait Settings: Sized {
    /// The parameters used if a recipe names the divergence only.
    const DEFAULT: Self;

    /// The parameters that every test of all divergences uses: the default, and others that take another branch of the
    /// formula.
    fn tested() -> Vec<Self> {
        vec![Self::DEFAULT]
    }

    /// Loss and gradient of the default on the rows of the golden test, computed in another framework
    /// (data/golden/make_divergences.py).
    #[cfg(test)]
    const GOLDEN: super::tests::Golden;
}

/// A divergence that is a sum of one function over terms, which are pairs of a teacher's and a student's probability:
/// one for each kept class, and those that a [`TailPolicy`] makes of the others.
pub trait SumOverClasses: Properties {
    /// The summand of one term, in nats.
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N;

    /// The divergence as a function of the sum of its terms.
    fn of_sum<N: Number>(&self, sum: N) -> N {
        sum
    }
}

/// A divergence evaluated on whole rows. Every sum over classes is one; others use a row's logits, its label or the
/// order of its classes.
pub trait OverRows: Properties {
    /// The divergence at each position, \[n, 1\].
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A;

    /// Whether it is a sum of one function over pairs of probabilities.
    fn is_sum_over_classes(&self) -> bool {
        false
    }
}

impl<D: SumOverClasses> OverRows for D {
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
        let sum = |terms: &Terms<A>| terms.sum(|log_p, log_q| self.term(log_p, log_q));
        let kept = sum(&compared.kept);
        self.of_sum(match &compared.outside {
            None => kept,
            Some(outside) => kept + sum(outside),
        })
    }

    fn is_sum_over_classes(&self) -> bool {
        true
    }
}

/// Pairs of log-probabilities at n positions, with the temperature applied.
#[derive(Clone, Debug)]
pub struct Terms<A> {
    /// The teacher's, \[n, terms\], or \[n, 1\] if all terms have the same.
    pub log_p: A,
    /// The student's, \[n, terms\].
    pub log_q: A,
    /// Number of classes that each term stands for, \[n, terms\]: 1 for an ordinary class, 1 over its inclusion
    /// probability for a sampled class, and 0 for padding; `None` means 1 everywhere.
    pub counts: Option<A>,
}

/// The inputs of a divergence: n positions of a teacher and a student, each at its temperature.
#[derive(Clone, Debug)]
pub struct Compared<A> {
    /// The kept classes.
    pub kept: Terms<A>,
    /// The other classes, if they take part in the loss: a single term for all of them, or one term each under
    /// [`TailPolicy::Uniform`] for a sum over classes.
    pub outside: Option<Terms<A>>,
    /// 1 for the label and 0 for the other kept classes, \[n, kept\]; present if [`Properties::needs_label`].
    pub label: Option<A>,
    /// What must be added to the teacher's and the student's log-probabilities to obtain logits over the temperature,
    /// less the mean of these if [`Properties::needs_mean_logit`], \[n, 1\] each; present if
    /// [`Properties::needs_logits`].
    pub log_z: Option<[A; 2]>,
    /// Σ p² and Σ q² over all classes, \[n, 1\] each; present if [`Properties::needs_squares`].
    pub squares: Option<[A; 2]>,
    /// Number of classes.
    pub vocab_size: usize,
}

impl<A: Rows> Terms<A> {
    /// Σ counts · f, \[n, 1\].
    pub fn sum(&self, f: impl Fn(A, A) -> A) -> A {
        let terms = f(self.log_p.clone(), self.log_q.clone());
        match &self.counts {
            None => terms.sum(),
            Some(counts) => (terms * counts.clone()).sum(),
        }
    }
}

impl<A: WholeRows> Compared<A> {
    /// 1 for a kept class and 0 for padding, \[n, kept\].
    pub fn presence(&self) -> A {
        match &self.kept.counts {
            None => self.kept.log_q.clone() * 0.0 + 1.0,
            Some(counts) => counts.clone().positive_mask(),
        }
    }
}

/// Unwraps an input that the divergence declared to need.
pub(super) fn needed<T: Clone>(given: &Option<T>) -> T {
    given.clone().unwrap_or_else(|| unreachable!("a divergence is given what its properties say it needs"))
}
