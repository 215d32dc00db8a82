//! The orders in which a cache is read: by id, or shuffled by a seed; all of it, or some samples.

use crate::error::Result;
use crate::reader::{CacheReader, CachedSample};
use crate::schema::ROWS_PER_PAGE;
use logitcask_core::rng::CounterRng;
use std::ops::Range;
use std::vec;

/// Blocks whose rows are shuffled together.
pub const WINDOW_BLOCKS: usize = 16;

/// Some rows of a shard that are decoded together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The shard's unit.
    pub(crate) unit: u32,
    /// Its number within the shard.
    pub(crate) index: u32,
    /// Id of its first sample.
    pub(crate) first: u64,
    /// How many rows it has.
    pub(crate) rows: u64,
}

impl Block {
    /// Ids of its samples.
    pub(crate) fn ids(&self) -> Range<u64> {
        self.first..self.first + self.rows
    }
}

/// Samples of a split, one after the other; the first error is the last item.
#[derive(Debug)]
pub struct Samples {
    reader: CacheReader,
    /// What is still to be read, in windows of `window_blocks`; the next of them has number `window`.
    blocks: Vec<Block>,
    window_blocks: usize,
    window: usize,
    /// Seed and epoch of the order within windows.
    shuffle: Option<(u64, u64)>,
    /// Ids of the samples that are wanted, ascending; `None`: all of them.
    kept: Option<Vec<u64>>,
    /// Rows still to be left out.
    skip: u64,
    /// The window in memory.
    rows: vec::IntoIter<CachedSample>,
}

impl Samples {
    pub(crate) fn in_order(reader: CacheReader, blocks: Vec<Block>) -> Self {
        Self {
            reader,
            blocks,
            window_blocks: 1,
            window: 0,
            shuffle: None,
            kept: None,
            skip: 0,
            rows: Vec::new().into_iter(),
        }
    }

    pub(crate) fn shuffled(reader: CacheReader, mut blocks: Vec<Block>, seed: u64, epoch: u64, skip: u64) -> Self {
        CounterRng::new("logitcask block order", &[seed, epoch]).shuffle(&mut blocks);
        let shuffle = Some((seed, epoch));
        Self { shuffle, skip, window_blocks: WINDOW_BLOCKS, ..Self::in_order(reader, blocks) }
    }

    /// Leaves out all samples but these, whose ids ascend.
    pub(crate) fn among(mut self, kept: Vec<u64>) -> Self {
        self.blocks.retain(|block| !within(&kept, block.ids()).is_empty());
        self.kept = Some(kept);
        self
    }

    /// How many rows of a block are wanted.
    fn wanted(&self, block: &Block) -> u64 {
        self.kept.as_ref().map_or(block.rows, |kept| within(kept, block.ids()).len() as u64)
    }

    /// The rows of a block that are wanted; only the pages that hold one are decoded.
    fn read(&self, block: Block) -> Result<Vec<CachedSample>> {
        let Some(kept) = &self.kept else { return self.reader.block(block, 0..block.rows) };
        let page = |id: &u64| (id - block.first) / ROWS_PER_PAGE as u64;
        let mut rows = Vec::new();
        // Pages that follow one another are read in one go.
        for run in within(kept, block.ids()).chunk_by(|a, b| page(b) - page(a) <= 1) {
            if let [first, .., last] | [first @ last] = run {
                let span = self.reader.block(block, first - block.first..last + 1 - block.first)?;
                rows.extend(span.into_iter().filter(|row| run.binary_search(&row.sample.id.0).is_ok()));
            }
        }
        Ok(rows)
    }

    /// Decodes the next window, passing over those that lie wholly within `skip`; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let Some(blocks) = self.blocks.chunks(self.window_blocks).nth(self.window) else { return Ok(false) };
            let window = self.window as u64;
            self.window += 1;
            let len: u64 = blocks.iter().map(|block| self.wanted(block)).sum();
            if self.skip >= len {
                self.skip -= len;
                continue;
            }
            let mut rows = Vec::with_capacity(len as usize);
            for block in blocks {
                rows.extend(self.read(*block)?);
            }
            if let Some((seed, epoch)) = self.shuffle {
                CounterRng::new("logitcask window order", &[seed, epoch, window]).shuffle(&mut rows);
            }
            rows.drain(..self.skip as usize);
            self.skip = 0;
            self.rows = rows.into_iter();
            return Ok(true);
        }
    }
}

impl Iterator for Samples {
    type Item = Result<CachedSample>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(sample) = self.rows.next() {
                return Some(Ok(sample));
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.blocks.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Those of ascending `ids` that lie in `range`.
fn within(ids: &[u64], range: Range<u64>) -> &[u64] {
    let at = |id: u64| ids.partition_point(|there| *there < id);
    &ids[at(range.start)..at(range.end)]
}
