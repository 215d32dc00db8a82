//! The orders in which a cache is read: by id, or shuffled by a seed; all of it, or some samples.

use crate::error::Result;
use crate::reader::CacheReader;
use crate::row_group::{CachedSample, RowGroup};
use crate::schema::ROWS_PER_PAGE;
use logitcask_core::rng::CounterRng;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::vec;

/// Blocks whose rows are shuffled together.
pub const WINDOW_BLOCKS: usize = 16;

/// Samples at the start of an order that are decoded alone: a first batch does not wait for pages of which it needs a row
/// each.
const ALONE: usize = 16;

/// Samples of a split, one after the other; the first error is the last item.
#[derive(Debug)]
pub struct Samples {
    reader: CacheReader,
    /// What is still to be read, in windows of `window_blocks`; the next of them has number `window`.
    blocks: Vec<RowGroup>,
    window_blocks: usize,
    window: usize,
    /// Seed and epoch of the order within windows.
    shuffle: Option<(u64, u64)>,
    /// Ids of the samples that are wanted, ascending; `None`: all of them.
    kept: Option<Vec<u64>>,
    /// Rows still to be left out.
    skip: u64,
    /// What is still to come of the window, in its order.
    places: vec::IntoIter<Place>,
    /// Pages of the window that were decoded, each until its last sample is gone.
    pages: HashMap<(u32, u64), HashMap<u64, CachedSample>>,
    /// Those that were decoded alone.
    alone: Vec<u64>,
}

/// Where a sample is.
#[derive(Clone, Copy, Debug)]
struct Place {
    block: RowGroup,
    id: u64,
}

impl Samples {
    pub(crate) fn in_order(reader: CacheReader, blocks: Vec<RowGroup>) -> Self {
        Self {
            reader,
            blocks,
            window_blocks: 1,
            window: 0,
            shuffle: None,
            kept: None,
            skip: 0,
            places: Vec::new().into_iter(),
            pages: HashMap::new(),
            alone: Vec::new(),
        }
    }

    pub(crate) fn shuffled(reader: CacheReader, mut blocks: Vec<RowGroup>, seed: u64, epoch: u64, skip: u64) -> Self {
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

    /// Ids of a range that are wanted.
    fn wanted(&self, ids: Range<u64>) -> Vec<u64> {
        self.kept.as_ref().map_or_else(|| ids.clone().collect(), |kept| within(kept, ids.clone()).to_vec())
    }

    /// How many they are.
    fn samples_in(&self, ids: Range<u64>) -> u64 {
        self.kept.as_ref().map_or(ids.end - ids.start, |kept| within(kept, ids).len() as u64)
    }

    /// Orders the next window, passing over those that lie wholly within `skip`; `false` at the end. Nothing is decoded.
    fn fill(&mut self) -> bool {
        loop {
            let Some(blocks) = self.blocks.chunks(self.window_blocks).nth(self.window) else { return false };
            let samples = blocks.iter().map(|block| self.samples_in(block.ids())).sum::<u64>();
            let window = self.window as u64;
            self.window += 1;
            if self.skip >= samples {
                self.skip -= samples;
                continue;
            }
            let places_of = |&block: &RowGroup| self.wanted(block.ids()).into_iter().map(move |id| Place { block, id });
            let mut places: Vec<Place> = blocks.iter().flat_map(places_of).collect();
            if let Some((seed, epoch)) = self.shuffle {
                CounterRng::new("logitcask window order", &[seed, epoch, window]).shuffle(&mut places);
            }
            places.drain(..self.skip as usize);
            self.skip = 0;
            self.places = places.into_iter();
            self.pages.clear();
            return true;
        }
    }

    /// The sample at a place. A page is decoded when the first of its samples is asked for, the first few of an order apart,
    /// so that the first batch of an epoch does not wait for a whole window; one without a wanted sample is never read.
    fn take(&mut self, Place { block, id }: Place) -> Result<CachedSample> {
        let page = (id - block.first) / ROWS_PER_PAGE as u64;
        let key = (block.unit, block.first + page * ROWS_PER_PAGE as u64);
        if let Entry::Occupied(mut page) = self.pages.entry(key)
            && let Some(sample) = page.get_mut().remove(&id)
        {
            if page.get().is_empty() {
                page.remove();
            }
            return Ok(sample);
        }
        let wanted = if self.shuffle.is_some() && self.alone.len() < ALONE {
            self.alone.push(id);
            vec![id]
        } else {
            let end = block.ids().end.min(key.1 + ROWS_PER_PAGE as u64);
            let mut wanted = self.wanted(key.1..end);
            wanted.retain(|id| !self.alone.contains(id));
            wanted
        };
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
            unreachable!("a place is of a sample that is wanted")
        };
        let rows = self.reader.block(block, first - block.first..last + 1 - block.first)?;
        let rows = rows.into_iter().map(|row| (row.sample.id.0, row));
        let mut rows: HashMap<u64, CachedSample> = rows.filter(|(id, _)| wanted.binary_search(id).is_ok()).collect();
        let sample = rows.remove(&id);
        if !rows.is_empty() {
            self.pages.insert(key, rows);
        }
        Ok(sample.unwrap_or_else(|| unreachable!("every row of a page was checked to be the sample of its place")))
    }
}

impl Iterator for Samples {
    type Item = Result<CachedSample>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(place) = self.places.next() {
                let sample = self.take(place);
                if sample.is_err() {
                    self.places = Vec::new().into_iter();
                    self.blocks.clear();
                }
                return Some(sample);
            }
            if !self.fill() {
                return None;
            }
        }
    }
}

/// Those of ascending `ids` that lie in `range`.
fn within(ids: &[u64], range: Range<u64>) -> &[u64] {
    let at = |id: u64| ids.partition_point(|there| *there < id);
    &ids[at(range.start)..at(range.end)]
}
