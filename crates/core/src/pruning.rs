//! Knowledge condensation: which samples are still worth training on (KCD, 2207.05409).
//!
//! A sample's value is the student's mean entropy on it over all the times it was seen, slightly increased with the
//! number of times. At the end of every few epochs the samples of least value are removed permanently, in equal steps
//! down to a share of all. The paper mixes removed samples into the least valuable of the remaining ones; texts cannot
//! be mixed, so here they are only removed.
//!
//! Samples that are decoded together are valued by their mean and stay or are removed together, so that removed samples
//! are not read either.

use crate::ConfigError;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Exponent of the number of times a sample was seen.
const POWER: f64 = 0.03;

/// How samples are removed during a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplePruning {
    /// Share of the samples that remain at the end.
    #[serde(default = "most")]
    pub share: f64,
    /// Number of steps down to it.
    #[serde(default = "six")]
    pub stages: u32,
    /// Number of epochs between two steps.
    #[serde(default = "one")]
    pub every: u32,
}

const fn most() -> f64 {
    0.7
}
const fn six() -> u32 {
    6
}
const fn one() -> u32 {
    1
}

impl SamplePruning {
    /// Rejects a share or a number of stages with which nothing would be removed.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let share = self.share;
        ConfigError::unless(share > 0.0 && share < 1.0, "share", share, "above 0 and below 1")?;
        ConfigError::unless(self.stages > 0, "stages", self.stages, "at least 1")?;
        ConfigError::unless(self.every > 0, "every", self.every, "at least 1")
    }

    /// Number of samples that remain out of `samples` after `stage` steps.
    pub fn count(&self, samples: u64, stage: u32) -> u64 {
        let done = f64::from(stage.min(self.stages)) / f64::from(self.stages);
        (samples as f64 * (1.0 - (1.0 - self.share) * done)).round().max(1.0) as u64
    }

    /// Returns those of the groups `staying` (ascending indices into `groups`) that remain after `stage` steps: the
    /// most valuable ones, ties to the first, until they hold [`Self::count`] samples.
    pub fn staying(&self, values: &SampleScores, groups: &[Range<u64>], staying: &[usize], stage: u32) -> Vec<usize> {
        let samples = groups.iter().map(|group| group.end - group.start).sum();
        let mean = |group: &Range<u64>| {
            let sum: f64 = group.clone().map(|id| values.of(id, self.every)).sum();
            sum / (group.end - group.start) as f64
        };
        let mut order: Vec<(f64, usize)> = staying.iter().map(|&i| (mean(&groups[i]), i)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (mut held, wanted) = (0, self.count(samples, stage));
        let chosen = order.into_iter().map(|(_, i)| i).take_while(|&i| {
            let is_wanted = held < wanted;
            held += groups[i].end - groups[i].start;
            is_wanted
        });
        let mut chosen: Vec<usize> = chosen.collect();
        chosen.sort_unstable();
        chosen
    }
}

/// The student's entropy on every sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleScores {
    seen: Vec<f64>,
    mean: Vec<f64>,
}

impl SampleScores {
    /// Creates scores for `samples` samples, none of which has been seen.
    pub fn new(samples: u64) -> Self {
        Self { seen: vec![0.0; samples as usize], mean: vec![0.0; samples as usize] }
    }

    /// Records that a sample was seen with a mean student entropy of `entropy` nats over its positions.
    pub fn see(&mut self, sample: u64, entropy: f64) {
        let i = sample as usize;
        self.seen[i] += 1.0;
        self.mean[i] += (entropy - self.mean[i]) / self.seen[i];
    }

    /// (times seen / `every`)^0.03 · mean entropy.
    fn of(&self, sample: u64, every: u32) -> f64 {
        let i = sample as usize;
        (self.seen[i] / f64::from(every)).powf(POWER) * self.mean[i]
    }

    /// The scores as one list of numbers, for a checkpoint.
    pub fn state(&self) -> Vec<f64> {
        [self.seen.as_slice(), &self.mean].concat()
    }

    /// Restores the scores from such a list; returns `false` if it belongs to another number of samples.
    pub fn restore(&mut self, state: &[f64]) -> bool {
        if state.len() != 2 * self.seen.len() {
            return false;
        }
        let (seen, mean) = state.split_at(self.seen.len());
        self.seen.copy_from_slice(seen);
        self.mean.copy_from_slice(mean);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SamplePruning = SamplePruning { share: 0.4, stages: 3, every: 2 };

    fn groups(samples: u64, size: u64) -> Vec<Range<u64>> {
        (0..samples).step_by(size as usize).map(|first| first..(first + size).min(samples)).collect()
    }

    fn seen(entropies: &[f64]) -> SampleScores {
        let mut values = SampleScores::new(entropies.len() as u64);
        (0..).zip(entropies).for_each(|(id, entropy)| values.see(id, *entropy));
        values
    }

    #[test]
    fn each_stage_keeps_its_share_and_nothing_comes_back() {
        let entropies: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let values = seen(&entropies);
        for size in [1, 7] {
            let groups = groups(100, size);
            let mut staying: Vec<usize> = (0..groups.len()).collect();
            for (stage, wanted) in [(1, 80), (2, 60), (3, 40), (4, 40)] {
                let next = RULE.staying(&values, &groups, &staying, stage);
                assert!(next.windows(2).all(|pair| pair[0] < pair[1]), "ascending, none twice");
                assert!(next.iter().all(|i| staying.contains(i)), "none comes back");
                let held: u64 = next.iter().map(|&i| groups[i].end - groups[i].start).sum();
                assert!((wanted..wanted + size).contains(&held), "stage {stage}, groups of {size}: {held}");
                staying = next;
            }
        }
    }

    #[test]
    fn the_least_valuable_go_first_and_ties_stay_in_order() {
        let values = seen(&[3.0, 1.0, 2.0, 2.0, 5.0]);
        let all: Vec<usize> = (0..5).collect();
        let rule = SamplePruning { share: 0.6, stages: 1, every: 1 };
        assert_eq!(rule.staying(&values, &groups(5, 1), &all, 1), [0, 2, 4]);
        // (3 + 1) / 2, (2 + 2) / 2 and 5: by their means.
        assert_eq!(rule.staying(&values, &groups(5, 2), &[0, 1, 2], 1), [0, 2]);
    }

    #[test]
    fn a_value_is_the_mean_over_all_times_it_was_seen() {
        let mut values = SampleScores::new(2);
        [1.0, 2.0, 6.0].iter().for_each(|entropy| values.see(1, *entropy));
        assert!((values.of(1, 3) - 3.0).abs() < 1e-12);
        assert!(values.of(1, 1) > values.of(1, 3), "often seen is worth a little more");
        assert_eq!(values.of(0, 1), 0.0, "never seen is worth nothing");
        let mut again = SampleScores::new(2);
        assert!(again.restore(&values.state()) && again == values);
        assert!(!again.restore(&[0.0; 3]));
    }

    #[test]
    fn impossible_shares_are_refused() {
        assert!(SamplePruning { share: 1.0, ..RULE }.check().unwrap_err().to_string().contains("share = 1"));
        assert!(SamplePruning { stages: 0, ..RULE }.check().is_err());
        assert!(RULE.check().is_ok());
    }
}
