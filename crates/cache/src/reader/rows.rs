//! Reading of samples: one, a range, or a whole split in some order.

use super::CacheReader;
use crate::error::{Error, Result};
use crate::order::Samples;
use crate::plan::Split;
use crate::row_group::{Blocks, CachedSample, RowGroup, rows_of_group};
use crate::schema;
use logitcask_core::SampleId;
use std::ops::Range;

impl CacheReader {
    /// Names of the splits, in the plan's order.
    pub fn splits(&self) -> Vec<&str> {
        self.plan().splits.iter().map(|split| split.name.as_str()).collect()
    }

    /// Number of samples in a split.
    ///
    /// # Errors
    /// [`Error::NoSplit`], which lists the splits of the cache; the same holds for every method that takes a split.
    pub fn len(&self, split: &str) -> Result<u64> {
        self.split(split).map(|(split, _)| split.samples)
    }

    /// Reads one sample; only its block is decoded.
    ///
    /// # Errors
    /// [`Error::NoSample`] past the split's end; otherwise any error in the shard or row.
    pub fn get(&self, split: &str, id: SampleId) -> Result<CachedSample> {
        let (blocks, len) = (self.blocks(split)?, self.len(split)?);
        let none = || Error::NoSample { split: split.into(), sample: id.0, len };
        if id.0 >= len {
            return Err(none());
        }
        let block = blocks.of_sample(id.0);
        let within = id.0 - block.first;
        self.block(block, within..within + 1)?.into_iter().next().ok_or_else(none)
    }

    /// Reads a range of samples by ascending id. Of every block that contains some, only those rows are decoded, once.
    ///
    /// # Errors
    /// [`Error::NoSample`] if `ids` extend past the split's end.
    pub fn range(&self, split: &str, ids: Range<u64>) -> Result<Vec<CachedSample>> {
        let (blocks, len) = (self.blocks(split)?, self.len(split)?);
        if ids.end > len {
            return Err(Error::NoSample { split: split.into(), sample: ids.end - 1, len });
        }
        let mut samples = Vec::with_capacity(ids.end.saturating_sub(ids.start) as usize);
        let mut next = ids.start;
        while next < ids.end {
            let block = blocks.of_sample(next);
            let last = ids.end.min(block.ids().end);
            samples.extend(self.block(block, next - block.first..last - block.first)?);
            next = last;
        }
        Ok(samples)
    }

    /// Every sample of a split by ascending id.
    ///
    /// # Errors
    /// [`Error::NoSplit`]; errors in a shard or row are items of the iterator.
    pub fn in_order(&self, split: &str) -> Result<Samples> {
        Ok(Samples::in_order(self.clone(), self.blocks(split)?))
    }

    /// Every sample of a split once, in an order that depends on `seed` and `epoch` only, from index `skip` on.
    ///
    /// Blocks are shuffled, then the rows within every window of [`crate::order::WINDOW_BLOCKS`] blocks. Memory holds
    /// pages of one window, each from its first sample to its last; pages with only skipped samples are not decoded.
    ///
    /// # Errors
    /// [`Error::NoSplit`]; errors in a shard or row are items of the iterator.
    pub fn shuffled(&self, split: &str, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        Ok(Samples::shuffled(self.clone(), self.blocks(split)?, seed, epoch, skip))
    }

    /// [`Self::shuffled`] restricted to the samples `kept`, whose ids must ascend; pages without any of them are not
    /// decoded. The order also depends on `kept`.
    ///
    /// # Errors
    /// [`Error::NoSample`] if `kept` does not ascend within the split.
    pub fn shuffled_among(&self, split: &str, kept: Vec<u64>, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        let len = self.len(split)?;
        let beyond = kept.last().copied().filter(|last| *last >= len);
        let stray = beyond.or(kept.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| pair[1]));
        if let Some(sample) = stray {
            return Err(Error::NoSample { split: split.into(), sample, len });
        }
        Ok(self.shuffled(split, seed, epoch, skip)?.among(kept))
    }

    /// The samples of a split that are decoded together, as ranges of their ids.
    ///
    /// # Errors
    /// [`Error::NoSplit`].
    pub fn groups(&self, split: &str) -> Result<Vec<Range<u64>>> {
        let page = schema::ROWS_PER_PAGE as u64;
        let pages = |block: RowGroup| {
            let ids = block.ids();
            ids.clone().step_by(page as usize).map(move |first| first..(first + page).min(ids.end))
        };
        let blocks = self.blocks(split)?;
        Ok((0..blocks.len()).flat_map(|number| pages(blocks.get(number))).collect())
    }

    /// Reads every row of a unit, with all extra columns.
    pub(crate) fn unit(&self, unit: usize) -> Result<Vec<CachedSample>> {
        let (shard, mut samples) = (self.shard(unit)?, Vec::new());
        for block in 0.. {
            match rows_of_group(self.plan(), unit, block) {
                0 => break,
                rows => samples.extend(shard.read(self.plan(), block as usize, 0..rows)?),
            }
        }
        Ok(samples)
    }

    /// Decodes rows of a block, counted within it.
    pub(crate) fn block(&self, block: RowGroup, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        self.shard(block.unit as usize)?.read_with(self.plan(), &self.extras, block.index as usize, rows)
    }

    /// A split of the plan and its units.
    fn split(&self, name: &str) -> Result<(&Split, Range<usize>)> {
        let split = self.plan().splits.iter().find(|split| split.name == name);
        split.zip(self.plan().units(name)).ok_or_else(|| Error::NoSplit {
            split: name.to_owned(),
            there: self.splits().into_iter().map(str::to_owned).collect(),
        })
    }

    pub(super) fn units(&self, split: &str) -> Result<Range<usize>> {
        self.split(split).map(|(_, units)| units)
    }

    /// The blocks of a split, computed from the plan without reading footers.
    fn blocks(&self, split: &str) -> Result<Blocks> {
        self.split(split).map(|(split, units)| Blocks::of(self.plan(), split, units.start))
    }
}
