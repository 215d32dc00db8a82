//! The orders in which a cache is read: by id or shuffled by a seed, and all samples or some of them.

mod read_ahead;

use crate::error::Result;
use crate::reader::CacheReader;
use crate::row_group::{Blocks, CachedSample, RowGroup};
use crate::schema::ROWS_PER_PAGE;
use logitcask_core::rng::CounterRng;
use read_ahead::{ReadAhead, Rows};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZero;
use std::ops::Range;
use std::vec;

/// Number of blocks whose rows are shuffled together.
pub const WINDOW_BLOCKS: usize = 16;

/// Number of samples at the start of an order that are decoded individually, so that the first batch does not wait for
/// whole pages of which it needs one row each.
const ALONE: usize = 16;

/// Iterates over samples of a split; the first error is the last item.
#[derive(Debug)]
pub struct Samples {
    reader: CacheReader,
    /// Blocks to be read, in windows of `window_blocks`; the next window has number `window`.
    blocks: Blocks,
    /// Numbers of the blocks in their order; `None` means that of their numbers.
    order: Option<Vec<u64>>,
    window_blocks: usize,
    window: usize,
    /// Whether an error has ended the order.
    has_failed: bool,
    /// Seed and epoch of the order within windows.
    shuffle: Option<(u64, u64)>,
    /// Ids of the requested samples, ascending; `None` means all.
    kept: Option<Vec<u64>>,
    /// Number of rows still to be skipped.
    skip: u64,
    /// Remaining places of the window, in its order.
    places: vec::IntoIter<Place>,
    /// Decoded pages of the window; each is kept until its last sample has been returned.
    pages: HashMap<PageKey, Rows>,
    /// Ids of the samples that were decoded individually.
    alone: Vec<u64>,
    /// Threads that decode pages in advance.
    ahead: Option<ReadAhead>,
}

/// Location of a sample.
#[derive(Clone, Copy, Debug)]
struct Place {
    block: RowGroup,
    id: u64,
}

/// A page's unit, and the id of its first sample.
type PageKey = (u32, u64);

impl Place {
    fn page(self) -> PageKey {
        let page = (self.id - self.block.first) / ROWS_PER_PAGE as u64;
        (self.block.unit, self.block.first + page * ROWS_PER_PAGE as u64)
    }
}

/// The requested samples of a page.
#[derive(Debug)]
struct Page {
    key: PageKey,
    block: RowGroup,
    /// Ascending; at least one.
    ids: Vec<u64>,
}

impl Page {
    /// The pages of a window, in the order in which they are needed.
    fn of(places: &[Place]) -> Vec<Self> {
        let (mut pages, mut numbers) = (Vec::<Self>::new(), HashMap::new());
        for &place in places {
            let number = *numbers.entry(place.page()).or_insert_with(|| {
                pages.push(Self { key: place.page(), block: place.block, ids: Vec::new() });
                pages.len() - 1
            });
            pages[number].ids.push(place.id);
        }
        pages.iter_mut().for_each(|page| page.ids.sort_unstable());
        pages
    }

    /// Decodes from the first requested row to the last.
    fn decode(&self, reader: &CacheReader) -> Result<Rows> {
        let (Some(first), Some(last)) = (self.ids.first(), self.ids.last()) else { return Ok(Rows::new()) };
        let rows = reader.block(self.block, first - self.block.first..last + 1 - self.block.first)?;
        let rows = rows.into_iter().map(|row| (row.sample.id.0, row));
        Ok(rows.filter(|(id, _)| self.ids.binary_search(id).is_ok()).collect())
    }
}

impl Samples {
    pub(crate) fn in_order(reader: CacheReader, blocks: Blocks) -> Self {
        Self {
            reader,
            blocks,
            order: None,
            has_failed: false,
            window_blocks: 1,
            window: 0,
            shuffle: None,
            kept: None,
            skip: 0,
            places: Vec::new().into_iter(),
            pages: HashMap::new(),
            alone: Vec::new(),
            ahead: None,
        }
    }

    /// Decodes pages in `threads` other threads, before their samples are requested: those of the current window, and as
    /// many of the next as were used up of this one. It suits readers of all samples, because a page is decoded even if
    /// each of its samples is skipped.
    #[must_use]
    pub fn read_ahead(mut self, threads: NonZero<usize>) -> Self {
        let mut ahead = ReadAhead::start(&self.reader, threads);
        ahead.begin(self.next_window());
        Self { ahead: Some(ahead), ..self }
    }

    pub(crate) fn shuffled(reader: CacheReader, blocks: Blocks, seed: u64, epoch: u64, skip: u64) -> Self {
        let mut order: Vec<u64> = (0..blocks.len()).collect();
        CounterRng::new("logitcask block order", &[seed, epoch]).shuffle(&mut order);
        let (order, shuffle) = (Some(order), Some((seed, epoch)));
        Self { order, shuffle, skip, window_blocks: WINDOW_BLOCKS, ..Self::in_order(reader, blocks) }
    }

    /// Restricts the samples to these ids, which must ascend.
    pub(crate) fn among(mut self, kept: Vec<u64>) -> Self {
        let (blocks, order) = (self.blocks, self.order.iter_mut());
        order.for_each(|order| order.retain(|number| !within(&kept, blocks.get(*number).ids()).is_empty()));
        self.kept = Some(kept);
        self
    }

    /// The requested ids of a range.
    fn wanted(&self, ids: Range<u64>) -> Vec<u64> {
        self.kept.as_ref().map_or_else(|| ids.clone().collect(), |kept| within(kept, ids.clone()).to_vec())
    }

    /// Number of requested ids in a range.
    fn samples_in(&self, ids: Range<u64>) -> u64 {
        self.kept.as_ref().map_or(ids.end - ids.start, |kept| within(kept, ids).len() as u64)
    }

    /// The blocks of a window; none beyond the last.
    fn window_at(&self, window: usize) -> Vec<RowGroup> {
        let len = self.order.as_ref().map_or(self.blocks.len(), |order| order.len() as u64);
        let start = (window as u64).saturating_mul(self.window_blocks as u64);
        let numbers = start..len.min(start.saturating_add(self.window_blocks as u64));
        let number = |place: u64| self.order.as_ref().map_or(place, |order| order[place as usize]);
        numbers.map(|place| self.blocks.get(number(place))).collect()
    }

    /// Orders the next window, skipping windows that lie entirely within `skip`; `None` at the end. Nothing is decoded.
    fn next_window(&mut self) -> Option<Vec<Place>> {
        loop {
            let blocks = self.window_at(self.window);
            if blocks.is_empty() {
                return None;
            }
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
            return Some(places);
        }
    }

    /// Begins the next window; returns `false` at the end.
    fn fill(&mut self) -> bool {
        let next = self.next_window();
        let places = match &mut self.ahead {
            Some(ahead) => ahead.begin(next),
            None => next,
        };
        self.pages.clear();
        let is_there = places.is_some();
        self.places = places.unwrap_or_default().into_iter();
        is_there
    }

    /// Returns the sample at a place. A page is decoded when the first of its samples is requested; the first few
    /// samples of an order are decoded individually, so that the first batch of an epoch does not wait for a whole
    /// window. A page without requested samples is never read.
    fn take(&mut self, place: Place) -> Result<CachedSample> {
        let Place { block, id } = place;
        let key = place.page();
        if let Some(rows) = self.ahead.as_mut().and_then(|ahead| ahead.take(key)) {
            self.pages.insert(key, rows);
        }
        if let Entry::Occupied(mut page) = self.pages.entry(key)
            && let Some(sample) = page.get_mut().remove(&id)
        {
            if page.get().is_empty() {
                page.remove();
            }
            return Ok(sample);
        }
        let ids = if self.shuffle.is_some() && self.alone.len() < ALONE {
            self.alone.push(id);
            vec![id]
        } else {
            let end = block.ids().end.min(key.1 + ROWS_PER_PAGE as u64);
            let mut wanted = self.wanted(key.1..end);
            wanted.retain(|id| !self.alone.contains(id));
            wanted
        };
        let mut rows = Page { key, block, ids }.decode(&self.reader)?;
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
                    self.has_failed = true;
                }
                return Some(sample);
            }
            if self.has_failed || !self.fill() {
                return None;
            }
        }
    }

    /// Skips `n` samples, of which no page is decoded unless another of its samples is returned.
    fn nth(&mut self, mut n: usize) -> Option<Self::Item> {
        while n > 0 {
            let skipped = n.min(self.places.len());
            self.places.by_ref().take(skipped).for_each(drop);
            n -= skipped;
            if n > 0 && (self.has_failed || !self.fill()) {
                return None;
            }
        }
        self.next()
    }
}

/// The part of the ascending `ids` that lies in `range`.
fn within(ids: &[u64], range: Range<u64>) -> &[u64] {
    let at = |id: u64| ids.partition_point(|there| *there < id);
    &ids[at(range.start)..at(range.end)]
}
