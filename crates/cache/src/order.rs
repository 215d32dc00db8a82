//! The orders in which a cache is read: by id, or shuffled by a seed.

use crate::error::Result;
use crate::reader::{CacheReader, CachedSample};
use logitcask_core::rng::CounterRng;
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
    /// How many rows it has.
    pub(crate) rows: u64,
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
    /// Rows still to be left out.
    skip: u64,
    /// The window in memory.
    rows: vec::IntoIter<CachedSample>,
}

impl Samples {
    pub(crate) fn in_order(reader: CacheReader, blocks: Vec<Block>) -> Self {
        Self { reader, blocks, window_blocks: 1, window: 0, shuffle: None, skip: 0, rows: Vec::new().into_iter() }
    }

    pub(crate) fn shuffled(reader: CacheReader, mut blocks: Vec<Block>, seed: u64, epoch: u64, skip: u64) -> Self {
        CounterRng::new("logitcask block order", &[seed, epoch]).shuffle(&mut blocks);
        let shuffle = Some((seed, epoch));
        Self { shuffle, skip, window_blocks: WINDOW_BLOCKS, ..Self::in_order(reader, blocks) }
    }

    /// Decodes the next window, passing over those that lie wholly within `skip`; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let Some(blocks) = self.blocks.chunks(self.window_blocks).nth(self.window) else { return Ok(false) };
            let window = self.window as u64;
            self.window += 1;
            let len: u64 = blocks.iter().map(|block| block.rows).sum();
            if self.skip >= len {
                self.skip -= len;
                continue;
            }
            let mut rows = Vec::with_capacity(len as usize);
            for block in blocks {
                rows.extend(self.reader.block(*block)?);
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
