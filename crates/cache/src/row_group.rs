//! Samples as they lie in shards, and the groups of rows that are decoded together.

use crate::plan::{Plan, WorkUnit};
use logitcask_core::{Sample, SoftRows};
use std::ops::Range;

/// A sample and what the teacher said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedSample {
    /// The input.
    pub sample: Sample,
    /// Log-probabilities are the values that were stored, already rounded.
    pub rows: SoftRows,
}

/// Some rows of a shard that are decoded together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowGroup {
    /// The shard's unit.
    pub(crate) unit: u32,
    /// Its number within the shard.
    pub(crate) index: u32,
    /// Id of its first sample.
    pub(crate) first: u64,
    /// How many rows it has.
    pub(crate) rows: u64,
}

impl RowGroup {
    /// Ids of its samples.
    pub(crate) fn ids(&self) -> Range<u64> {
        self.first..self.first + self.rows
    }
}

/// Rows that the plan puts into a block of `unit`; none where it has no such block.
pub(crate) fn rows_of_group(plan: &Plan, unit: usize, block: u64) -> u64 {
    let WorkUnit { start, end, .. } = plan.units[unit];
    let per_block = plan.rows_per_group();
    per_block.min((end - start).saturating_sub(block * per_block))
}
