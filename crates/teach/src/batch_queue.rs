//! Batches of one unit after the other, for workers that take one whenever they are done with the last: where a unit ends,
//! none waits for the others, and while one reads the next unit the others have batches left.

use crate::open_unit::OpenUnit;
use crate::{Error, Result};
use logitcask_cache::{CacheWriter, Claim, Claimed};
use logitcask_core::{Sample, SampleId};
use logitcask_data::Dataset;
use logitcask_data::batches::{TokenBatch, batch_by_length};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// How often a unit that another process is at is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Units of other processes are made here too when they take this long, and so many times longer than any took here: one
/// of them may stand still, and a unit that is made twice does no harm. Who made none here yet waits longer.
const PATIENCE: Duration = Duration::from_secs(5);
const SLOWER: u32 = 4;
const WITHOUT_MEASURE: Duration = Duration::from_secs(15);

/// Where the batches come from.
pub(crate) struct BatchQueue<'a> {
    pub(crate) writer: &'a CacheWriter,
    pub(crate) dataset: &'a dyn Dataset,
    pub(crate) batch_tokens: usize,
    /// Threads that take batches.
    pub(crate) workers: usize,
    /// No unit is begun once it is set.
    pub(crate) stop: &'a AtomicBool,
    /// A later stage ended with an error.
    pub(crate) failed: &'a AtomicBool,
    /// Hears of the positions of units that other processes committed.
    pub(crate) on_elsewhere: &'a (dyn Fn(u64) + Sync),
    pub(crate) state: Mutex<State>,
    /// Something was read, or there is nothing more.
    pub(crate) changed: Condvar,
}

/// What is left to do.
pub(crate) struct State {
    /// Units that nobody here has begun.
    pending: VecDeque<usize>,
    batches: VecDeque<(Arc<OpenUnit>, TokenBatch)>,
    /// When the last unit was begun, and the longest time from one to the next.
    last: Option<Instant>,
    longest: Duration,
    /// Since when others are at all units that are left, and commit none.
    waiting: Option<Instant>,
    /// Some worker reads the next unit.
    is_reading: bool,
    is_closed: bool,
}

impl State {
    /// Nothing begun of these units.
    pub(crate) fn of(pending: &[usize]) -> Self {
        let pending = pending.iter().copied().collect();
        let (batches, longest) = (VecDeque::new(), Duration::ZERO);
        Self { pending, batches, last: None, longest, waiting: None, is_reading: false, is_closed: false }
    }

    /// A unit of our own is begun.
    fn begin_unit(&mut self) {
        let now = Instant::now();
        if self.waiting.take().is_none() {
            self.longest = self.longest.max(self.last.map_or(Duration::ZERO, |last| now - last));
        }
        self.last = Some(now);
    }

    /// Nothing where no more is wanted.
    fn next_unit(&mut self) -> Option<usize> {
        if self.is_closed { None } else { self.pending.pop_front() }
    }

    /// Did the others have all the time that a unit may take?
    fn is_out_of_patience(&mut self) -> bool {
        let patience = if self.longest.is_zero() { WITHOUT_MEASURE } else { PATIENCE + SLOWER * self.longest };
        let begin = || {
            info!(units = self.pending.len() + 1, ?patience, "other workers are at all units that are left; waiting");
            Instant::now()
        };
        self.waiting.get_or_insert_with(begin).elapsed() > patience
    }
}

impl BatchQueue<'_> {
    /// The next batch, and which unit it is of.
    pub(crate) fn next(&self) -> Result<Option<(Arc<OpenUnit>, TokenBatch)>> {
        let mut state = self.state();
        while !state.is_closed {
            if !state.is_reading && !state.pending.is_empty() && state.batches.len() < self.workers {
                state.is_reading = true;
                drop(state);
                let read = std::panic::catch_unwind(AssertUnwindSafe(|| self.read()));
                state = self.state();
                state.is_reading = false;
                self.changed.notify_all();
                // The others must not wait for one that is gone.
                match read.unwrap_or_else(|panic| resume_unwind(panic))? {
                    Some((unit, batches)) => {
                        state.batches.extend(batches.into_iter().map(|batch| (unit.clone(), batch)));
                    }
                    None => state.pending.clear(),
                }
            } else if let Some(batch) = state.batches.pop_front() {
                return Ok(Some(batch));
            } else if state.is_reading {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                break;
            }
        }
        Ok(None)
    }

    /// Nothing more comes, for anybody.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batches of the next unit that is ours to make; `None` where there is none. Only one worker is here at a time.
    fn read(&self) -> Result<Option<(Arc<OpenUnit>, Vec<TokenBatch>)>> {
        let Some((unit, claim)) = self.claim()? else { return Ok(None) };
        let samples = self.samples(unit)?;
        let batches = batch_by_length(&samples, self.batch_tokens);
        Ok(Some((Arc::new(OpenUnit::new(unit, samples, &self.writer.plan().keep, claim)), batches)))
    }

    /// A unit that nobody else is at, or that others are at and do not finish.
    fn claim(&self) -> Result<Option<(usize, Claim)>> {
        loop {
            let (mut elsewhere, left) = (0, self.state().pending.len());
            for _ in 0..left {
                let is_over = self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed);
                let Some(unit) = self.state().next_unit().filter(|_| !is_over) else { return Ok(None) };
                match self.writer.claim(unit)? {
                    Claimed::Mine(claim) => {
                        debug!(unit, "unit begun");
                        self.state().begin_unit();
                        return Ok(Some((unit, claim)));
                    }
                    Claimed::Committed => {
                        info!(unit, "unit skipped: another worker committed it");
                        self.state().waiting = None;
                        (self.on_elsewhere)(self.positions(unit)?);
                    }
                    Claimed::Elsewhere => {
                        elsewhere += 1;
                        // Others are at all that is left.
                        if elsewhere == left && self.state().is_out_of_patience() {
                            info!(unit, "another worker takes long at this unit; it is made here too");
                            return Ok(Some((unit, Claim::none())));
                        }
                        self.state().pending.push_back(unit);
                    }
                }
            }
            if elsewhere == 0 {
                return Ok(None);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn positions(&self, unit: usize) -> Result<u64> {
        let unit = &self.writer.plan().units[unit];
        Ok(self.dataset.positions(&unit.split, unit.start..unit.end)?)
    }

    /// The samples of a unit, every token known to the teacher and one of them at least to be foretold.
    fn samples(&self, unit: usize) -> Result<Vec<Sample>> {
        let (range, vocab_size) = (&self.writer.plan().units[unit], self.writer.plan().vocab_size);
        let sample = |id: u64| {
            let (split, id) = (range.split.clone(), SampleId(id));
            let sample = self.dataset.sample(&range.split, id)?;
            if sample.positions() == 0 {
                return Err(Error::Short { split, sample: id });
            }
            match sample.input_ids.iter().find(|&&token| token >= vocab_size) {
                Some(&token) => Err(Error::Token { split, sample: id, token, vocab_size: vocab_size as usize }),
                None => Ok(sample),
            }
        };
        (range.start..range.end).map(sample).collect()
    }
}
