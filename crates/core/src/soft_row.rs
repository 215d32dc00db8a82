//! The teacher's output at one position, at any temperature.

use crate::math::log_sum_exp;
use crate::tail::Tail;

/// The teacher's log-probability and rank of the observed label, stored even if the label is not among the kept
/// classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gold {
    /// log p(label) at T = 1 over the whole vocabulary.
    pub log_prob: f32,
    /// Number of classes that the teacher ranks before the label (0 means the teacher's first choice; ties to the lower
    /// id).
    pub rank: u32,
}

impl Gold {
    /// The rank of a label of which neither rank nor log-probability is known.
    pub const UNKNOWN_RANK: u32 = u32::MAX;
    /// A label of which neither rank nor log-probability is known ([`crate::GoldSource`]).
    pub const UNKNOWN: Self = Self { log_prob: f32::NAN, rank: Self::UNKNOWN_RANK };

    /// Whether rank and log-probability are known.
    pub fn is_known(&self) -> bool {
        self.rank != Self::UNKNOWN_RANK
    }
}

/// The teacher's output at one position: a view into [`crate::SoftRows`].
///
/// The first `class_ids.len() - drawn` classes are kept deterministically, and the tail represents all others; the
/// remaining ones are sampled from those others ([`crate::Selection::Sample`]). Both parts are sorted by stored
/// log-probability, largest first, with ties to the lower id; with [`crate::Selection::Dense`] classes are in the order
/// of ids instead.
///
/// # Examples
/// Four classes with logits 2, 1, 0 and 0, all of them kept:
/// ```
/// use logitcask_core::SoftRow;
///
/// let logits = [2.0f32, 1.0, 0.0, 0.0];
/// let log_z = logits.iter().map(|z| z.exp()).sum::<f32>().ln();
/// let log_probs = logits.map(|z| z - log_z);
/// let row = SoftRow { class_ids: &[0, 1, 2, 3], log_probs: &log_probs, log_z, ..SoftRow::default() };
///
/// assert_eq!(row.best(), 0);
/// assert!(row.entropy(2.0) > row.entropy(1.0));
/// // Classes that a reader drops join the tail, and nothing is lost.
/// let short = row.prefix(2);
/// assert!((short.log_z_at(2.0) - row.log_z_at(2.0)).abs() < 1e-9);
/// assert!(short.tail_mass(2.0) > short.tail_mass(1.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SoftRow<'a> {
    /// The kept classes.
    pub class_ids: &'a [u32],
    /// log p at T = 1 of the kept classes: `logit - log_z`.
    pub log_probs: &'a [f32],
    /// Number of sampled classes, which are the last of the kept ones.
    pub drawn: usize,
    /// log-partition: log sum exp of the raw logits over the **whole** vocabulary. NaN if the source of the rows did not
    /// tell it ([`crate::RowSource`]); whatever needs it is then NaN too.
    pub log_z: f32,
    /// The observed label.
    pub gold: Gold,
    /// Summary of the classes that were not kept deterministically.
    pub tail: Tail<'a>,
}

impl<'a> SoftRow<'a> {
    /// Log-probabilities at T = 1 of the deterministically kept classes.
    pub fn certain(&self) -> &'a [f32] {
        &self.log_probs[..self.log_probs.len() - self.drawn]
    }

    /// The most probable kept class: the teacher's first choice, except where classes were sampled
    /// ([`Self::first_choice`]).
    pub fn best(&self) -> u32 {
        let better = |best: usize, i: usize| if self.log_probs[i] > self.log_probs[best] { i } else { best };
        self.class_ids.get((1..self.class_ids.len()).fold(0, better)).copied().unwrap_or_default()
    }

    /// The teacher's first choice if the row determines it. It is `None` if no class was probable enough to be kept
    /// deterministically, since the most probable one may then not have been sampled. `always_kept` is the number of
    /// deterministically kept classes that are kept whatever their probability. The label's rank is used too.
    pub fn first_choice(&self, label: u32, always_kept: usize) -> Option<u32> {
        let sure = self.certain().len();
        if self.drawn == 0 {
            return Some(self.best());
        }
        if sure > always_kept {
            // A class that reached the threshold is more probable than every sampled one, since those did not reach it.
            let row = Self { class_ids: &self.class_ids[..sure], log_probs: self.certain(), drawn: 0, ..*self };
            return Some(row.best());
        }
        (self.gold.rank == 0).then_some(label)
    }

    /// Total probability at T = 1 of the deterministically kept classes.
    pub fn kept_mass(&self) -> f64 {
        self.certain().iter().map(|&lp| f64::from(lp).exp()).sum()
    }

    /// The row as if fewer classes had been kept: those beyond the first `count` join the tail, and no probability is
    /// lost. Returns the whole row if it has at most `count` classes.
    ///
    /// # Panics
    /// If the row has sampled classes, which its tail already includes.
    pub fn prefix(&self, count: usize) -> Self {
        assert_eq!(self.drawn, 0, "a drawn sample has no shorter prefix");
        if count >= self.class_ids.len() {
            return *self;
        }
        assert!(self.tail.joined.is_empty(), "the prefix of a prefix");
        let (log_probs, joined) = self.log_probs.split_at(count);
        Self { class_ids: &self.class_ids[..count], log_probs, tail: Tail { joined, ..self.tail }, ..*self }
    }

    /// Log of the sum over all classes of e^{b (z - log_z)}, where b is an inverse temperature. It is computed from the
    /// stored numbers alone, so at b = 1 it is 0 except for their rounding.
    pub fn log_partition(&self, b: f64) -> f64 {
        let kept = self.certain().iter().map(|&lp| b * f64::from(lp));
        log_sum_exp(&kept.chain([self.tail.log_partition(b)]).collect::<Vec<_>>())
    }

    /// log sum exp of the raw logits divided by `temperature`, over the whole vocabulary.
    pub fn log_z_at(&self, temperature: f64) -> f64 {
        let b = 1.0 / temperature;
        let relative = if b == 1.0 { 0.0 } else { self.log_partition(b) };
        relative + b * f64::from(self.log_z)
    }

    /// Total probability of the classes that were not kept deterministically.
    pub fn tail_mass(&self, temperature: f64) -> f64 {
        let b = 1.0 / temperature;
        (self.tail.log_partition(b) - self.log_partition(b)).exp()
    }

    /// Entropy in nats: log Z(b) - b E_b\[z\].
    pub fn entropy(&self, temperature: f64) -> f64 {
        let b = 1.0 / temperature;
        let (mean, _) = self.logit_moments(b);
        self.log_partition(b) - b * (mean - f64::from(self.log_z))
    }

    /// Sum of squared probabilities: Z(2b) / Z(b)². Below twice the lowest temperature of the tail's rule, the atoms
    /// are evaluated outside their range and underestimate. For a tail of classes less probable than the kept ones, the
    /// error is below the least kept probability times the tail's; on real rows it is below the rounding error.
    pub fn sum_of_squares(&self, temperature: f64) -> f64 {
        let b = 1.0 / temperature;
        (self.log_partition(2.0 * b) - 2.0 * self.log_partition(b)).exp()
    }

    /// Mean and standard deviation of the raw logits under softmax(b z). b = 0 weights all classes equally. It is
    /// outside the atoms' range, so they extrapolate: with a highest temperature of at least 10 the result is accurate
    /// to 0.5 nats in the mean and 0.8 in the deviation on real rows.
    pub fn logit_moments(&self, b: f64) -> (f64, f64) {
        let (mut mean, mut square) = (0.0, 0.0);
        for (p, z) in self.shares(b) {
            mean += p * z;
            square += p * z * z;
        }
        (mean + f64::from(self.log_z), (square - mean * mean).max(0.0).sqrt())
    }

    /// Number of classes that each kept one stands for: 1, or for a sampled class 1 over its inclusion probability p /
    /// tau, with tau = mass outside / number of sampled classes at T = 1.
    pub fn importance_weights(&self) -> impl Iterator<Item = f64> {
        let sure = self.certain().len();
        let log_tau = match self.drawn {
            0 => 0.0,
            drawn => self.tail.log_partition(1.0) - (drawn as f64).ln(),
        };
        let count = move |(i, &lp): (usize, &f32)| if i < sure { 1.0 } else { (log_tau - f64::from(lp)).exp() };
        self.log_probs.iter().enumerate().map(count)
    }

    /// For each class and pseudo-class, its share of the probability at inverse temperature b (negative for a class
    /// removed from the tail) and its logit relative to log_z.
    fn shares(&self, b: f64) -> impl Iterator<Item = (f64, f64)> {
        let log_total = self.log_partition(b);
        let kept = self.certain().iter().map(move |&lp| (b * f64::from(lp), f64::from(lp)));
        let inside = kept.chain(self.tail.terms(b)).map(move |(log_term, z)| ((log_term - log_total).exp(), z));
        let out = self.tail.without.map(f64::from).map(move |z| (-(b * z - log_total).exp(), z));
        inside.chain(out)
    }
}
