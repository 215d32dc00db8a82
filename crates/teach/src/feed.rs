//! Batches of one unit after the other, for workers that take one whenever they are done with the last: where a unit ends,
//! none waits for the others.

use crate::{Error, Result};
use logitcask_cache::Unit;
use logitcask_core::{Sample, SampleId};
use logitcask_data::Dataset;
use logitcask_data::batches::{TokenBatch, batch_by_length};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the batches come from.
pub(crate) struct Feed<'a> {
    /// Units to be worked off, in order.
    pub(crate) pending: &'a [usize],
    /// All units.
    pub(crate) units: &'a [Unit],
    pub(crate) dataset: &'a dyn Dataset,
    pub(crate) vocab_size: usize,
    pub(crate) batch_tokens: usize,
    /// No unit is begun once it is set.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) begun: Mutex<Begun>,
}

/// What of it was begun.
#[derive(Default)]
pub(crate) struct Begun {
    /// How many units.
    units: usize,
    /// Batches that are left of the last of them, which comes first last.
    batches: Vec<TokenBatch>,
    is_closed: bool,
}

impl Feed<'_> {
    /// The next batch, and which unit it is of; a unit's samples go to `begin` before its first batch comes, and nothing more
    /// comes where that gives `false`.
    pub(crate) fn next(&self, begin: &dyn Fn(usize, Vec<Sample>) -> bool) -> Result<Option<(usize, TokenBatch)>> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while !begun.is_closed {
            if let Some(batch) = begun.batches.pop() {
                return Ok(Some((self.pending[begun.units - 1], batch)));
            }
            let Some(&unit) = self.pending.get(begun.units).filter(|_| !self.stop.load(Ordering::Relaxed)) else {
                break;
            };
            let samples = self.samples(unit)?;
            begun.batches = batch_by_length(&samples, self.batch_tokens);
            begun.batches.reverse();
            begun.units += 1;
            begun.is_closed = !begin(unit, samples);
        }
        Ok(None)
    }

    /// Nothing more comes, for anybody.
    pub(crate) fn close(&self) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }

    /// The samples of a unit, every token known to the teacher.
    fn samples(&self, unit: usize) -> Result<Vec<Sample>> {
        let range = &self.units[unit];
        let sample = |id: u64| {
            let (split, id) = (range.split.clone(), SampleId(id));
            let Some(sample) = self.dataset.sample(&range.split, id) else {
                return Err(Error::NoSample { split, sample: id });
            };
            match sample.input_ids.iter().find(|&&token| token as usize >= self.vocab_size) {
                Some(&token) => Err(Error::Token { split, sample: id, token, vocab_size: self.vocab_size }),
                None => Ok(sample),
            }
        };
        (range.start..range.end).map(sample).collect()
    }
}
