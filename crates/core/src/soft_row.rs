//! What a teacher said at one position, at any temperature.

use crate::math::log_sum_exp;
use crate::tail::Tail;

/// The teacher's view of the observed label: kept even where the label is not among the kept classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gold {
    /// log p(label) at T = 1 over the whole vocabulary.
    pub log_prob: f32,
    /// How many classes the teacher ranks before the label (0: the teacher's first choice; ties to the lower id).
    pub rank: u32,
}

/// What a teacher said at one position: a view into [`crate::SoftRows`].
///
/// The first `class_ids.len() - drawn` classes are kept for sure and the tail stands for all others; the drawn ones are
/// some of those others, chosen at random ([`crate::Selection::Sample`]). Both parts are sorted by log-probability as
/// stored, largest first, ties to the lower id; with [`crate::Selection::Dense`] classes are in their own order instead.
///
/// # Examples
/// Four classes of logits 2, 1, 0 and 0, all of them kept:
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
    /// How many of the kept classes, at the end, were drawn at random.
    pub drawn: usize,
    /// log-partition: log sum exp of the raw logits over the **whole** vocabulary.
    pub log_z: f32,
    /// The observed label.
    pub gold: Gold,
    /// The classes that were not kept for sure.
    pub tail: Tail<'a>,
}

impl<'a> SoftRow<'a> {
    /// Log-probabilities at T = 1 of the classes kept for sure.
    pub fn certain(&self) -> &'a [f32] {
        &self.log_probs[..self.log_probs.len() - self.drawn]
    }

    /// The likeliest of the kept classes: the teacher's first choice, but for drawn ones ([`Self::first_choice`]).
    pub fn best(&self) -> u32 {
        let better = |best: usize, i: usize| if self.log_probs[i] > self.log_probs[best] { i } else { best };
        self.class_ids.get((1..self.class_ids.len()).fold(0, better)).copied().unwrap_or_default()
    }

    /// The teacher's first choice, where the row tells: `None` where no class was likely enough to be kept for sure, so that
    /// the likeliest need not have been drawn. `always_kept`: how many of those kept for sure are so whatever their
    /// probability. The label's rank tells too.
    pub fn first_choice(&self, label: u32, always_kept: usize) -> Option<u32> {
        let sure = self.certain().len();
        if self.drawn == 0 {
            return Some(self.best());
        }
        if sure > always_kept {
            // One that reached the threshold stands before all that were drawn, which did not.
            let row = Self { class_ids: &self.class_ids[..sure], log_probs: self.certain(), drawn: 0, ..*self };
            return Some(row.best());
        }
        (self.gold.rank == 0).then_some(label)
    }

    /// Share of the probability at T = 1 that the classes kept for sure hold.
    pub fn kept_mass(&self) -> f64 {
        self.certain().iter().map(|&lp| f64::from(lp).exp()).sum()
    }

    /// The row as if fewer classes had been kept: those beyond the first `count` join the tail, and nothing is lost.
    /// The whole row where it holds no more than that.
    ///
    /// # Panics
    /// On a row with drawn classes, whose tail has them already.
    pub fn prefix(&self, count: usize) -> Self {
        assert_eq!(self.drawn, 0, "a drawn sample has no shorter prefix");
        if count >= self.class_ids.len() {
            return *self;
        }
        assert!(self.tail.joined.is_empty(), "the prefix of a prefix");
        let (log_probs, joined) = self.log_probs.split_at(count);
        Self { class_ids: &self.class_ids[..count], log_probs, tail: Tail { joined, ..self.tail }, ..*self }
    }

    /// Log of the sum over all classes of e^{b (z - log_z)}, b an inverse temperature; from the stored numbers alone,
    /// so at b = 1 it is 0 but for their rounding.
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

    /// Probability outside the classes kept for sure.
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

    /// Sum of squared probabilities: Z(2b) / Z(b)². Below twice the lowest temperature of the tail's rule the atoms are asked
    /// beyond their range, where they fall short; of a tail of classes less likely than the kept ones that is less than the
    /// least kept probability times the tail's, and on real rows less than rounding costs.
    pub fn sum_of_squares(&self, temperature: f64) -> f64 {
        let b = 1.0 / temperature;
        (self.log_partition(2.0 * b) - 2.0 * self.log_partition(b)).exp()
    }

    /// Mean and standard deviation of the raw logits under softmax(b z). b = 0 asks for those over all classes alike,
    /// which is beyond the atoms' range: they answer by extrapolation, which from a highest temperature of 10 on is right to
    /// 0.5 nats in the mean and 0.8 in the deviation on real rows.
    pub fn logit_moments(&self, b: f64) -> (f64, f64) {
        let (mut mean, mut square) = (0.0, 0.0);
        for (p, z) in self.shares(b) {
            mean += p * z;
            square += p * z * z;
        }
        (mean + f64::from(self.log_z), (square - mean * mean).max(0.0).sqrt())
    }

    /// How many classes each kept one stands for: 1, or for a drawn one 1 over its chance p / tau of being drawn, with
    /// tau = mass outside / number drawn at T = 1.
    pub fn importance_weights(&self) -> impl Iterator<Item = f64> {
        let sure = self.certain().len();
        let log_tau = match self.drawn {
            0 => 0.0,
            drawn => self.tail.log_partition(1.0) - (drawn as f64).ln(),
        };
        let count = move |(i, &lp): (usize, &f32)| if i < sure { 1.0 } else { (log_tau - f64::from(lp)).exp() };
        self.log_probs.iter().enumerate().map(count)
    }

    /// Each class and pseudo-class: its share of the probability at inverse temperature b (negative for one taken out of
    /// the tail) and its logit relative to log_z.
    fn shares(&self, b: f64) -> impl Iterator<Item = (f64, f64)> {
        let log_total = self.log_partition(b);
        let kept = self.certain().iter().map(move |&lp| (b * f64::from(lp), f64::from(lp)));
        let inside = kept.chain(self.tail.terms(b)).map(move |(log_term, z)| ((log_term - log_total).exp(), z));
        let out = self.tail.without.map(f64::from).map(move |z| (-(b * z - log_total).exp(), z));
        inside.chain(out)
    }
}
