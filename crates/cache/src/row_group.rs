//! Cached samples, and the groups of rows that are decoded together.

use crate::plan::{Plan, Split};
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

/// The blocks of a split, computed from the plan: every unit but the last has equally many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// First unit of the split.
    unit: usize,
    /// Number of blocks, and those of a full unit.
    count: u64,
    per_unit: u64,
    rows_per_block: u64,
    samples_per_unit: u64,
    samples: u64,
}

impl Blocks {
    /// The blocks of a split of the plan, whose first unit has this number.
    pub(crate) fn of(plan: &Plan, split: &Split, first_unit: usize) -> Self {
        let per_unit = plan.blocks_of(plan.samples_per_unit);
        let (full, rest) = (split.samples / plan.samples_per_unit, split.samples % plan.samples_per_unit);
        Self {
            unit: first_unit,
            count: full * per_unit + plan.blocks_of(rest),
            per_unit,
            rows_per_block: plan.rows_per_group(),
            samples_per_unit: plan.samples_per_unit,
            samples: split.samples,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// The block of this number.
    pub(crate) fn get(&self, number: u64) -> RowGroup {
        let (unit, index) = (number / self.per_unit, number % self.per_unit);
        let start = unit * self.samples_per_unit;
        let first = start + index * self.rows_per_block;
        let end = (first + self.rows_per_block).min(start + self.samples_per_unit).min(self.samples);
        RowGroup { unit: (self.unit as u64 + unit) as u32, index: index as u32, first, rows: end - first }
    }

    /// The block that holds a sample.
    pub(crate) fn of_sample(&self, id: u64) -> RowGroup {
        let within = id % self.samples_per_unit;
        self.get(id / self.samples_per_unit * self.per_unit + within / self.rows_per_block)
    }
}

/// Number of rows that the plan puts into a block of `unit`; 0 if it has no such block.
pub(crate) fn rows_of_group(plan: &Plan, unit: usize, block: u64) -> u64 {
    let per_block = plan.rows_per_group();
    per_block.min(plan.unit(unit).samples().saturating_sub(block * per_block))
}
