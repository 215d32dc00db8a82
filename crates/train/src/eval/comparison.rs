//! Statistics of a model beside the teacher of a cache.

use super::cluster_mean::{ClusterMean, Estimate};
use super::judged::Judged;
use super::{for_each_sample, has_tail};
use crate::Result;
use crate::source::Source;
use logitcask_model::CausalLm;
use std::sync::atomic::AtomicBool;

/// How a model does on a split, with standard errors over its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Number of samples.
    pub samples: u64,
    /// Number of positions.
    pub positions: u64,
    /// e^(mean cross entropy of the observed next tokens).
    pub perplexity: Estimate,
    /// The model beside the teacher; absent without a teacher.
    pub teacher: Option<TeacherComparison>,
}

/// A model beside the teacher, at T = 1. p are the teacher's probabilities, q the model's; all classes except the
/// deterministically kept ones count as one.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherComparison {
    /// Comparisons of the probability of the label; absent if the cache does not tell the teacher's.
    pub label: Option<LabelComparison>,
    /// Comparisons of whole rows; absent if they do not tell the probability of the other classes.
    pub rows: Option<RowComparison>,
    /// Share of positions at which both have the same first choice; absent if the rows do not determine the teacher's at
    /// some position. See [`super::Evaluation::top1_agreement`] for ties.
    pub top1_agreement: Option<Estimate>,
}

/// The probability of the label, as the model and the teacher give it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelComparison {
    /// The teacher's perplexity.
    pub teacher_perplexity: f64,
    /// The model's perplexity divided by the teacher's. Its error is smaller than that of each perplexity, since the
    /// same texts are easy or hard for both.
    pub perplexity_ratio: Estimate,
    /// Root of the mean of (q(label) - p(label))².
    pub rms_difference: Estimate,
}

/// The probabilities of all classes, as the model and the teacher give them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowComparison {
    /// Mean of the forward KL Σ p log(p / q), in nats; a lower bound, because the classes that are not kept count as one.
    pub kl: Estimate,
    /// Its median over the positions.
    pub kl_median: f64,
    /// The value that it exceeds at 1 % of the positions.
    pub kl_99th_percentile: f64,
    /// Its largest value.
    pub kl_worst: f64,
    /// Lower bound of the mean of Σ min(p, q), which is 1 - total variation: the share of tokens drafted by the model
    /// that speculative decoding with the teacher accepts (arXiv 2211.17192, theorem 3.5). The kept classes alone.
    pub acceptance_lower_bound: Estimate,
    /// Upper bound of the same: with the other classes as one.
    pub acceptance_upper_bound: Estimate,
}

/// Sums over the positions of all samples so far.
#[derive(Default)]
pub(super) struct Sums {
    positions: u64,
    samples: u64,
    cross_entropy: ClusterMean,
    excess: ClusterMean,
    teacher_cross_entropy: ClusterMean,
    square_difference: ClusterMean,
    kl: ClusterMean,
    least_overlap: ClusterMean,
    most_overlap: ClusterMean,
    agreement: ClusterMean,
    first_choices: u64,
    known_labels: u64,
    /// One value per position, since quantiles need all of them.
    divergences: Vec<f32>,
}

/// Compares `model` (without gradients) with the teacher of `source` on every sample of `split`. Returns `None` if
/// `stop` was set in the meantime.
///
/// # Errors
/// The same as for [`super::evaluate`].
pub fn compare(model: &impl CausalLm, source: &Source, split: &str, stop: &AtomicBool) -> Result<Option<Comparison>> {
    let mut sums = Sums::default();
    let is_whole = for_each_sample(model, source, split, stop, &mut |of_sample| sums.add(of_sample))?;
    Ok(is_whole.then(|| sums.comparison(source.cache().map(has_tail))))
}

impl Sums {
    /// Adds the positions of a sample.
    pub(super) fn add(&mut self, of_sample: &[Judged]) {
        let positions = of_sample.len() as u64;
        if positions == 0 {
            return;
        }
        let add = |mean: &mut ClusterMean, value: &dyn Fn(&Judged) -> f64| {
            mean.add(of_sample.iter().map(value).sum(), positions);
        };
        // NaN where the teacher's is not known; nothing is then told of it.
        let theirs = |judged: &Judged| judged.teacher_label.unwrap_or(f64::NAN);
        add(&mut self.cross_entropy, &|judged| -judged.label);
        add(&mut self.teacher_cross_entropy, &|judged| -theirs(judged));
        add(&mut self.excess, &|judged| theirs(judged) - judged.label);
        add(&mut self.square_difference, &|judged| (judged.label.exp() - theirs(judged).exp()).powi(2));
        add(&mut self.kl, &|judged| judged.kl);
        add(&mut self.least_overlap, &|judged| judged.least_overlap);
        add(&mut self.most_overlap, &|judged| judged.most_overlap);
        add(&mut self.agreement, &|judged| f64::from(u8::from(judged.agrees == Some(true))));
        let count = |is: fn(&Judged) -> bool| of_sample.iter().filter(|judged| is(judged)).count() as u64;
        self.first_choices += count(|judged| judged.agrees.is_some());
        self.known_labels += count(|judged| judged.teacher_label.is_some());
        self.divergences.extend(of_sample.iter().map(|judged| judged.kl as f32));
        self.positions += positions;
        self.samples += 1;
    }

    /// The statistics of all samples so far. `has_tail`: whether the rows tell the probability of the classes that are
    /// not kept; `None` without a teacher.
    pub(super) fn comparison(mut self, has_tail: Option<bool>) -> Comparison {
        Comparison {
            samples: self.samples,
            positions: self.positions,
            perplexity: exponential(self.cross_entropy.estimate()),
            teacher: has_tail.map(|has_tail| self.beside_teacher(has_tail)),
        }
    }

    fn beside_teacher(&mut self, has_tail: bool) -> TeacherComparison {
        self.divergences.sort_unstable_by(f32::total_cmp);
        TeacherComparison {
            label: (self.known_labels == self.positions).then(|| LabelComparison {
                teacher_perplexity: self.teacher_cross_entropy.mean().exp(),
                perplexity_ratio: exponential(self.excess.estimate()),
                rms_difference: root(self.square_difference.estimate()),
            }),
            rows: has_tail.then(|| RowComparison {
                kl: self.kl.estimate(),
                kl_median: quantile(&self.divergences, 0.5),
                kl_99th_percentile: quantile(&self.divergences, 0.99),
                kl_worst: quantile(&self.divergences, 1.0),
                acceptance_lower_bound: self.least_overlap.estimate(),
                acceptance_upper_bound: self.most_overlap.estimate(),
            }),
            top1_agreement: (self.first_choices == self.positions).then(|| self.agreement.estimate()),
        }
    }
}

/// e^x: its error is e^x times the error of x, to first order.
fn exponential(x: Estimate) -> Estimate {
    Estimate { value: x.value.exp(), error: x.value.exp() * x.error }
}

/// √x: its error is that of x divided by 2 √x, to first order.
fn root(x: Estimate) -> Estimate {
    let value = x.value.sqrt();
    Estimate { value, error: if value > 0.0 { x.error / (2.0 * value) } else { 0.0 } }
}

/// The value below which this share of the values lies, interpolated linearly between neighbours. `sorted` is not empty.
fn quantile(sorted: &[f32], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (f64::from(sorted[place.floor() as usize]), f64::from(sorted[place.ceil() as usize]));
    below + (above - below) * place.fract()
}
