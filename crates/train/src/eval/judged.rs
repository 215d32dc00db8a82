//! Comparison of a model with the teacher at one position.

use logitcask_core::SoftRow;
use logitcask_core::math::log_sum_exp;

/// The numbers of a row of a model's logits that a comparison needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelRow<'a> {
    /// The logits of the classes that the teacher's row keeps with certainty, in its order.
    pub(super) kept: &'a [f32],
    /// Log-sum-exp of the logits of all other classes.
    pub(super) others: f32,
    /// The logit of the label.
    pub(super) label: f32,
    /// The class with the largest logit, among those that are tokens.
    pub(super) best: u32,
}

impl ModelRow<'_> {
    /// log q(label) over all classes.
    pub(super) fn log_prob_of_label(&self) -> f64 {
        let kept = self.kept.iter().map(|&z| f64::from(z));
        f64::from(self.label) - log_sum_exp(&kept.chain([f64::from(self.others)]).collect::<Vec<_>>())
    }
}

/// How a model and the teacher compare at one position, at T = 1. The classes that are not kept with certainty count as
/// one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    /// The model's log-probability of the label.
    pub(super) label: f64,
    /// The teacher's log-probability of the label, if the cache tells it.
    pub(super) teacher_label: Option<f64>,
    /// Forward KL from the teacher in nats; NaN if the row does not tell the probability of the other classes.
    pub(super) kl: f64,
    /// Σ min(p, q) over the kept classes: the least that it can be over all classes.
    pub(super) least_overlap: f64,
    /// The same with the other classes as one: the most that it can be.
    pub(super) most_overlap: f64,
    /// Whether both have the same first choice; `None` if the row does not determine the teacher's.
    pub(super) agrees: Option<bool>,
}

impl Judged {
    /// Judges `model` by the label alone.
    pub(super) fn without_teacher(model: ModelRow<'_>) -> Self {
        let (kl, least_overlap, most_overlap) = (f64::NAN, f64::NAN, f64::NAN);
        let label = model.log_prob_of_label();
        Self { label, teacher_label: None, kl, least_overlap, most_overlap, agrees: None }
    }

    /// Compares `model` with the teacher's `row` for `label`. A dense row has no other classes: the model's
    /// probabilities are then over the row's classes only. For `always_kept` see [`SoftRow::first_choice`].
    pub(super) fn new(model: ModelRow<'_>, row: &SoftRow<'_>, label: u32, is_dense: bool, always_kept: usize) -> Self {
        let others = if is_dense { f64::NEG_INFINITY } else { f64::from(model.others) };
        let log_z = log_sum_exp(&model.kept.iter().map(|&z| f64::from(z)).chain([others]).collect::<Vec<_>>());
        let total = row.log_partition(1.0);
        let kept = row.certain().iter().zip(model.kept);
        let (mut kl, mut overlap) = (0.0, 0.0);
        for (log_p, log_q) in kept.map(|(&p, &z)| (f64::from(p) - total, f64::from(z) - log_z)) {
            kl += divergence_part(log_p, log_q);
            overlap += log_p.min(log_q).exp();
        }
        let (log_p, log_q) = (row.tail.log_partition(1.0) - total, others - log_z);
        kl += divergence_part(log_p, log_q);
        Self {
            label: model.log_prob_of_label(),
            teacher_label: row.gold.is_known().then(|| f64::from(row.gold.log_prob)),
            // Rounding may leave it slightly below 0.
            kl: if kl < 0.0 { 0.0 } else { kl },
            least_overlap: overlap,
            most_overlap: overlap + if log_p.is_nan() { f64::NAN } else { log_p.min(log_q).exp() },
            agrees: row.first_choice(label, always_kept).map(|theirs| is_same_choice(row, model.best, theirs)),
        }
    }
}

/// p log(p / q), which is 0 for p = 0.
fn divergence_part(log_p: f64, log_q: f64) -> f64 {
    if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) }
}

/// Two values rounded to the same number are both the first choice, because the larger one is not stored.
fn is_same_choice(row: &SoftRow<'_>, mine: u32, theirs: u32) -> bool {
    let certain = &row.class_ids[..row.certain().len()];
    let stored = |id: u32| certain.iter().position(|&kept| kept == id).map(|at| row.log_probs[at]);
    let own = stored(mine);
    mine == theirs || (own.is_some() && own == stored(theirs))
}
