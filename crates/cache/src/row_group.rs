//! Cached samples, and the groups of rows that are decoded together.

use crate::plan::{Plan, WorkUnit};
use logitcask_core::{Sample, SoftRows};
use std::ops::Range;

/// A sample with the teacher's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedSample {
    /// The input.
    pub sample: Sample,
    /// The teacher's rows; log-probabilities are the stored, rounded values.
    pub rows: SoftRows,
}

/// Rows of a shard that are decoded together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowGroup {
    /// The shard's unit.
    pub(crate) unit: u32,
    /// Index within the shard.
    pub(crate) index: u32,
    /// Id of its first sample.
    pub(crate) first: u64,
    /// Number of rows.
    pub(crate) rows: u64,
}

impl RowGroup {
    /// Ids of its samples.
    pub(crate) fn ids(&self) -> Range<u64> {
        self.first..self.first + self.rows
    }
}

/// Number of rows that the plan puts into a block of `unit`; 0 if it has no such block.
pub(crate) fn rows_of_group(plan: &Plan, unit: usize, block: u64) -> u64 {
    let WorkUnit { start, end, .. } = plan.units[unit];
    let per_block = plan.rows_per_group();
    per_block.min((end - start).saturating_sub(block * per_block))
}
