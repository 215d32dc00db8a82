//! What a divergence says about itself, and what it is given.

use super::number::{Number, Rows, WholeRows};
use super::tempered::TailPolicy;
use crate::ConfigError;

/// What holds of a divergence beside its formula; whatever a trainer, a recipe or a test must know of one is asked here.
pub trait Properties {
    /// Refuses parameters for which the formula says nothing.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Refuses a policy under which the formula is no divergence.
    ///
    /// # Errors
    /// Says which policies it goes with, and why.
    fn check_tail_policy(&self, _policy: TailPolicy) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Must the label be among the classes that are known one by one? It is then in [`Compared::label`].
    fn needs_label(&self) -> bool {
        false
    }

    /// Must every class be known one by one?
    fn needs_all_classes(&self) -> bool {
        false
    }

    /// Does it compare logits? What probabilities lack to be logits is then in [`Compared::log_z`].
    fn needs_logits(&self) -> bool {
        false
    }

    /// Are these logits less the mean of all classes' logits?
    fn needs_mean_logit(&self) -> bool {
        false
    }

    /// Does it need the sums of the squared probabilities of all classes? They are then in [`Compared::squares`].
    fn needs_squares(&self) -> bool {
        false
    }

    /// Does it compare every pair of kept classes, so that a row needs memory for the square of their number?
    fn compares_pairs(&self) -> bool {
        false
    }

    /// Does it compare the positions of a batch with one another, so that no position has a loss of its own?
    fn compares_positions(&self) -> bool {
        false
    }

    /// Has it something to tell a temperature that learns from its slope?
    fn teaches_temperature(&self) -> bool {
        true
    }
}

/// The parameters that a divergence has where none are given, and what another framework computed with them.
pub trait Settings: Sized {
    /// Those of a recipe that says nothing more.
    const DEFAULT: Self;

    /// Those that every test of all divergences goes through: the default, and others that take another branch of the
    /// formula.
    fn tested() -> Vec<Self> {
        vec![Self::DEFAULT]
    }

    /// Loss and gradient of the default on the rows of the golden test, from another framework
    /// (data/golden/make_divergences.py).
    #[cfg(test)]
    const GOLDEN: super::tests::Golden;
}

/// A divergence that is a sum of one function over terms, pairs of a teacher's and a student's probability: one for each
/// kept class, and what a [`TailPolicy`] makes of the others.
pub trait SumOverClasses: Properties {
    /// What one term adds, in nats.
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N;

    /// The divergence, of the sum of the terms.
    fn of_sum<N: Number>(&self, sum: N) -> N {
        sum
    }
}

/// A divergence, of which a sum over classes is one kind and the other looks at a row as a whole: at its logits, its label,
/// its order.
pub trait OverRows: Properties {
    /// The divergence at each position, \[n, 1\].
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A;

    /// Is it a sum of one function over pairs of probabilities?
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

/// Pairs of log-probabilities at n positions, the temperature being in them.
#[derive(Clone, Debug)]
pub struct Terms<A> {
    /// The teacher's, \[n, terms\], or \[n, 1\] where all terms have the same.
    pub log_p: A,
    /// The student's, \[n, terms\].
    pub log_q: A,
    /// How many classes each stands for, \[n, terms\]: 1, for one drawn at random 1 over its chance of being drawn, and 0
    /// where there is none; `None`: 1 everywhere.
    pub counts: Option<A>,
}

/// What a divergence compares: n positions of a teacher and a student, each at its temperature.
#[derive(Clone, Debug)]
pub struct Compared<A> {
    /// The classes that are known one by one.
    pub kept: Terms<A>,
    /// The others, where they have a place in the loss: one term for all of them, or under [`TailPolicy::Uniform`] for a
    /// sum over classes one for each.
    pub outside: Option<Terms<A>>,
    /// 1 for the label, 0 for the other kept classes, \[n, kept\]; where [`Properties::needs_label`].
    pub label: Option<A>,
    /// What the teacher's and the student's log-probabilities lack to be logits over the temperature, less the mean of
    /// these where [`Properties::needs_mean_logit`], \[n, 1\] each; where [`Properties::needs_logits`].
    pub log_z: Option<[A; 2]>,
    /// Σ p² and Σ q² over all classes, \[n, 1\] each; where [`Properties::needs_squares`].
    pub squares: Option<[A; 2]>,
    /// Classes.
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
    /// 1 for a kept class, 0 for a place that holds none, \[n, kept\].
    pub fn presence(&self) -> A {
        match &self.kept.counts {
            None => self.kept.log_q.clone() * 0.0 + 1.0,
            Some(counts) => counts.clone().positive_mask(),
        }
    }
}

/// What a divergence declared to need.
pub(super) fn needed<T: Clone>(given: &Option<T>) -> T {
    given.clone().unwrap_or_else(|| unreachable!("a divergence is given what its properties say it needs"))
}
