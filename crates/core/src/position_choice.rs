//! Choice of the positions of a sample that are cached.

use crate::ConfigError;
use crate::rng::CounterRng;
use crate::sample::{Positions, Sample};
use crate::select::split_key;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which positions of a sample are cached. Others cost no bytes, no selection and no product of the teacher's head.
///
/// # Examples
/// ```
/// use logitcask_core::{Origin, PositionChoice, Positions, Sample, SampleId};
///
/// let mut sample = Sample::new(SampleId(7), Origin { document: 0, offset: 0 }, (0..101).collect());
/// PositionChoice::Share { share: 0.25, seed: 0 }.apply("train", &mut sample);
/// assert_eq!(sample.position_count(), 25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PositionChoice {
    /// Every position that has a next token, whatever the dataset marks.
    All {},
    /// The positions whose next token the dataset marks, such as the answers of a conversation.
    Marked {},
    /// A random share of each sample's positions, or of its marked ones if the dataset marks any: the nearest whole
    /// number of them, but at least one.
    Share {
        /// Above 0 and at most 1.
        share: f64,
        /// Seed of the choice, which also depends on the split and the sample; 0 by default.
        #[serde(default)]
        seed: u64,
    },
}

impl Default for PositionChoice {
    fn default() -> Self {
        Self::All {}
    }
}

impl PositionChoice {
    /// Whether it is [`Self::All`].
    pub fn is_all(&self) -> bool {
        *self == Self::All {}
    }

    /// The name in plans, footers and recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::All {} => "all",
            Self::Marked {} => "marked",
            Self::Share { .. } => "share",
        }
    }

    /// Rejects a share outside (0, 1].
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Share { share, .. } => {
                ConfigError::unless(share > 0.0 && share <= 1.0, "share", share, "above 0 and at most 1")
            }
            Self::All {} | Self::Marked {} => Ok(()),
        }
    }

    /// Number of positions that it chooses of a sample with so many candidates.
    pub fn count_of(&self, candidates: usize) -> usize {
        match *self {
            Self::Share { share, .. } => {
                let nearest = (share * candidates as f64).round() as usize;
                nearest.clamp(candidates.min(1), candidates)
            }
            Self::All {} | Self::Marked {} => candidates,
        }
    }

    /// Chooses among the positions of a sample of `split`, which are those that its dataset marks.
    pub fn apply(&self, split: &str, sample: &mut Sample) {
        match *self {
            Self::All {} => sample.positions = Positions::All,
            Self::Marked {} => {}
            Self::Share { seed, .. } => {
                let mut candidates: Vec<u32> = sample.position_indices().map(|position| position as u32).collect();
                let keys = [seed, split_key(split), sample.id.0];
                CounterRng::new("logitcask position share", &keys).shuffle(&mut candidates);
                candidates.truncate(self.count_of(candidates.len()));
                candidates.sort_unstable();
                sample.positions = Positions::Chosen(candidates);
            }
        }
    }
}

impl fmt::Display for PositionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All {} | Self::Marked {} => f.write_str(self.name()),
            Self::Share { share, seed } => write!(f, "share {share} seed {seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, SampleId};

    fn sample(id: u64, positions: Positions) -> Sample {
        Sample { positions, ..Sample::new(SampleId(id), Origin { document: id, offset: 0 }, (0..41).collect()) }
    }

    #[test]
    fn a_share_is_drawn_for_each_sample_among_those_that_the_dataset_marks() {
        let choice = PositionChoice::Share { share: 0.25, seed: 3 };
        let chosen = |split: &str, id, positions| {
            let mut sample = sample(id, positions);
            choice.apply(split, &mut sample);
            sample.position_indices().collect::<Vec<_>>()
        };
        let first = chosen("train", 0, Positions::All);
        assert_eq!(first.len(), 10);
        assert!(first.is_sorted_by(|a, b| a < b) && first[9] < 40);
        assert_eq!(first, chosen("train", 0, Positions::All), "the choice depends on nothing else");
        assert_ne!(first, chosen("train", 1, Positions::All));
        assert_ne!(first, chosen("test", 0, Positions::All));
        let marked = vec![3, 7, 8, 9, 20, 30];
        let among = chosen("train", 0, Positions::Chosen(marked.clone()));
        assert!(among.len() == 2 && among.iter().all(|&position| marked.contains(&(position as u32))), "{among:?}");
        assert_eq!(chosen("train", 0, Positions::Chosen(vec![5])), [5], "at least one");
        // Every position is chosen as often as any other: 0.25 of 2,000 samples, five standard errors.
        let mut times = [0u32; 40];
        (0..2000).flat_map(|id| chosen("train", id, Positions::All)).for_each(|position| times[position] += 1);
        assert!(times.iter().all(|&times| (400..=600).contains(&times)), "{times:?}");
    }

    #[test]
    fn all_and_marked_say_whether_marks_count() {
        let marked = Positions::Chosen(vec![2, 5]);
        for (choice, expected) in
            [(PositionChoice::All {}, Positions::All), (PositionChoice::Marked {}, marked.clone())]
        {
            let mut sample = sample(0, marked.clone());
            choice.apply("train", &mut sample);
            assert_eq!(sample.positions, expected);
        }
        for share in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(PositionChoice::Share { share, seed: 0 }.check().is_err(), "{share}");
        }
        assert!(PositionChoice::Share { share: 1.0, seed: 0 }.check().is_ok());
    }
}
