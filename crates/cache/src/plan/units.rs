//! The units of a plan, computed from its splits: nothing is stored for a unit, so that a plan of any size is small.

use super::Plan;
use crate::names::{self, shard_name};
use crate::{commit, manifest};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Maximum number of commits in a part of the manifest.
pub const MAX_PART_UNITS: usize = 4096;
/// Maximum number of blocks whose hashes a part lists, unless it has a single commit: parts of large shards have fewer
/// commits.
pub const MAX_PART_BLOCKS: u64 = 1 << 16;

/// A split and its number of samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Name of the split.
    pub name: String,
    /// Number of its samples, at least 1.
    pub samples: u64,
}

/// Samples `start..end` of a split, which one worker writes at once into one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkUnit<'a> {
    /// Name of the split.
    pub split: &'a str,
    /// First sample id.
    pub start: u64,
    /// One past the last sample id.
    pub end: u64,
}

impl WorkUnit<'_> {
    /// Ids of its samples.
    pub fn ids(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Number of its samples.
    pub fn samples(&self) -> u64 {
        self.end - self.start
    }
}

impl Plan {
    /// The splits of these names and lengths that have samples.
    ///
    /// # Examples
    /// ```
    /// use logitcask_cache::Plan;
    ///
    /// let splits = Plan::splits_of(&[("train".to_owned(), 250), ("validation".to_owned(), 0), ("test".to_owned(), 20)]);
    /// let there: Vec<_> = splits.iter().map(|split| (split.name.as_str(), split.samples)).collect();
    /// assert_eq!(there, [("train", 250), ("test", 20)]);
    /// ```
    pub fn splits_of(splits: &[(String, u64)]) -> Vec<Split> {
        let there = splits.iter().filter(|(_, samples)| *samples > 0);
        there.map(|(name, samples)| Split { name: name.clone(), samples: *samples }).collect()
    }

    /// Number of units, hence of shards.
    pub fn unit_count(&self) -> usize {
        self.splits.iter().map(|split| self.units_in(split)).sum()
    }

    /// Number of units of a split.
    fn units_in(&self, split: &Split) -> usize {
        split.samples.div_ceil(self.samples_per_unit) as usize
    }

    /// The unit of this number. A split's units are adjacent, in the order of the plan's splits.
    ///
    /// # Panics
    /// If the plan has no such unit.
    pub fn unit(&self, unit: usize) -> WorkUnit<'_> {
        let (split, number) = self.place(unit);
        let start = number as u64 * self.samples_per_unit;
        let end = split.samples.min(start.saturating_add(self.samples_per_unit));
        WorkUnit { split: &split.name, start, end }
    }

    /// The split of a unit, and the unit's number within it.
    fn place(&self, unit: usize) -> (&Split, usize) {
        let mut number = unit;
        for split in &self.splits {
            let units = self.units_in(split);
            if number < units {
                return (split, number);
            }
            number -= units;
        }
        unreachable!("unit {unit} of a plan with {} units", self.unit_count())
    }

    /// The units of a split; `None` if the plan has no such split.
    pub fn units(&self, split: &str) -> Option<Range<usize>> {
        let place = self.splits.iter().position(|there| there.name == split)?;
        let start = self.splits[..place].iter().map(|split| self.units_in(split)).sum();
        Some(start..start + self.units_in(&self.splits[place]))
    }

    /// The unit that holds a sample of a split; `None` if there is no such sample.
    pub fn unit_of(&self, split: &str, sample: u64) -> Option<usize> {
        let units = self.units(split)?;
        let unit = units.start + usize::try_from(sample / self.samples_per_unit).ok()?;
        (units.contains(&unit) && sample < self.unit(unit).end).then_some(unit)
    }

    /// Path of a unit's shard relative to the cache's folder, with its number within its split:
    /// `data/train-00007-of-00042.parquet`.
    ///
    /// # Panics
    /// If the plan has no such unit.
    pub fn shard_name(&self, unit: usize) -> String {
        let (split, number) = self.place(unit);
        shard_name(&split.name, number, self.units_in(split))
    }

    /// Whether a cache of this plan has a shard, a commit or a part of the manifest with this path.
    pub(crate) fn names(&self, file: &str) -> bool {
        let is_shard = |(split, number, of): (&str, usize, usize)| {
            self.units(split).is_some_and(|units| units.len() == of && number < of)
        };
        names::shard_parts(file).is_some_and(is_shard)
            || commit::number(file).is_some_and(|unit| unit < self.unit_count())
            || manifest::part_number(file).is_some_and(|part| part < self.part_count())
    }

    /// Number of blocks of a unit that has `samples` samples.
    pub(crate) fn blocks_of(&self, samples: u64) -> u64 {
        samples.div_ceil(self.rows_per_group())
    }

    /// Number of commits in each part of the manifest but the last: [`MAX_PART_UNITS`], or as many as have
    /// [`MAX_PART_BLOCKS`] blocks, but at least one.
    pub fn units_per_part(&self) -> usize {
        let longest = self.splits.iter().map(|split| split.samples).max().unwrap_or(0).min(self.samples_per_unit);
        (MAX_PART_BLOCKS / self.blocks_of(longest).max(1)).clamp(1, MAX_PART_UNITS as u64) as usize
    }

    /// Number of parts of the manifest.
    pub fn part_count(&self) -> usize {
        self.unit_count().div_ceil(self.units_per_part())
    }

    /// The units whose commits a part of the manifest holds.
    pub(crate) fn units_of_part(&self, part: usize) -> Range<usize> {
        let per_part = self.units_per_part();
        part * per_part..self.unit_count().min((part + 1) * per_part)
    }
}
