//! Hands out batches in unit order; a worker that finishes one unit starts the next without waiting for the others.
//! While one worker reads the next unit, the others still have batches to process.

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

/// How often to check whether another process has finished its unit.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A unit claimed by another process is computed here too once it has taken MIN_WAIT plus WAIT_FACTOR times the longest
/// unit so far. The other process may hang, and computing a unit twice does no harm. INITIAL_WAIT applies if no unit
/// has been timed yet.
const MIN_WAIT: Duration = Duration::from_secs(5);
const WAIT_FACTOR: u32 = 4;
const INITIAL_WAIT: Duration = Duration::from_secs(15);

/// The queue of batches that all forward workers share.
pub(crate) struct BatchQueue<'a> {
    pub(crate) writer: &'a CacheWriter,
    pub(crate) dataset: &'a dyn Dataset,
    pub(crate) batch_tokens: usize,
    /// Number of threads that take batches.
    pub(crate) workers: usize,
    /// Once it is set, no further unit is started.
    pub(crate) stop: &'a AtomicBool,
    /// A later stage ended with an error.
    pub(crate) failed: &'a AtomicBool,
    /// Called with the number of positions of each unit that another process committed.
    pub(crate) on_elsewhere: &'a (dyn Fn(u64) + Sync),
    pub(crate) state: Mutex<QueueState>,
    /// Signals that a unit has been read, or that the queue is closed.
    pub(crate) changed: Condvar,
}

/// The work that is left.
pub(crate) struct QueueState {
    /// Units that no worker of this process has started.
    pending: VecDeque<usize>,
    batches: VecDeque<(Arc<OpenUnit>, TokenBatch)>,
    /// When the last unit was started, and the longest time between two starts.
    last: Option<Instant>,
    longest: Duration,
    /// Since when all units that are left have been claimed by others without a commit.
    waiting: Option<Instant>,
    /// One of the workers is reading the next unit.
    is_reading: bool,
    is_closed: bool,
}

impl QueueState {
    /// The state before any of these units is started.
    pub(crate) fn new(pending: &[usize]) -> Self {
        let pending = pending.iter().copied().collect();
        let (batches, longest) = (VecDeque::new(), Duration::ZERO);
        Self { pending, batches, last: None, longest, waiting: None, is_reading: false, is_closed: false }
    }

    /// Records that a unit of this process is started now.
    fn begin_unit(&mut self) {
        let now = Instant::now();
        if self.waiting.take().is_none() {
            self.longest = self.longest.max(self.last.map_or(Duration::ZERO, |last| now - last));
        }
        self.last = Some(now);
    }

    /// The next pending unit; `None` once the queue is closed.
    fn next_unit(&mut self) -> Option<usize> {
        if self.is_closed { None } else { self.pending.pop_front() }
    }

    /// Have the other processes had enough time to finish their units?
    fn has_waited_enough(&mut self) -> bool {
        let patience = if self.longest.is_zero() { INITIAL_WAIT } else { MIN_WAIT + WAIT_FACTOR * self.longest };
        let begin = || {
            info!(
                units = self.pending.len() + 1,
                ?patience,
                "other workers have claimed all units that are left; waiting for them"
            );
            Instant::now()
        };
        self.waiting.get_or_insert_with(begin).elapsed() > patience
    }
}

impl BatchQueue<'_> {
    /// The next batch and its unit; `None` if there are no more.
    pub(crate) fn next(&self) -> Result<Option<(Arc<OpenUnit>, TokenBatch)>> {
        let mut state = self.state();
        while !state.is_closed {
            if !state.is_reading && !state.pending.is_empty() && state.batches.len() < self.workers {
                state.is_reading = true;
                drop(state);
                let read = std::panic::catch_unwind(AssertUnwindSafe(|| self.open_next_unit()));
                state = self.state();
                state.is_reading = false;
                self.changed.notify_all();
                // The workers that wait must not wait for one that panicked.
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

    /// Ends the queue for all workers.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the next unit and makes its batches; `None` if there are no more units. Only one worker at a time runs
    /// this.
    fn open_next_unit(&self) -> Result<Option<(Arc<OpenUnit>, Vec<TokenBatch>)>> {
        let Some((unit, claim)) = self.claim()? else { return Ok(None) };
        let samples = self.samples(unit)?;
        let batches = batch_by_length(&samples, self.batch_tokens);
        Ok(Some((Arc::new(OpenUnit::new(unit, samples, &self.writer.plan().keep, claim)), batches)))
    }

    /// Claims a unit that no other process works on, or one that another process does not finish in time.
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
                        // Other processes have claimed all units that are left.
                        if elsewhere == left && self.state().has_waited_enough() {
                            info!(unit, "another worker takes too long for this unit; computing it here too");
                            return Ok(Some((unit, Claim::none())));
                        }
                        self.state().pending.push_back(unit);
                    }
                }
            }
            if elsewhere == 0 {
                return Ok(None);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn positions(&self, unit: usize) -> Result<u64> {
        let plan = self.writer.plan();
        let unit = plan.unit(unit);
        Ok(self.dataset.positions(unit.split, unit.ids(), &plan.positions)?)
    }

    /// The samples of a unit. Each must have a position to predict, and the teacher must know all its tokens.
    fn samples(&self, unit: usize) -> Result<Vec<Sample>> {
        let plan = self.writer.plan();
        let (range, vocab_size) = (plan.unit(unit), plan.vocab_size);
        let sample = |id: u64| {
            let (split, id) = (range.split.to_owned(), SampleId(id));
            let mut sample = self.dataset.sample(range.split, id)?;
            plan.positions.apply(range.split, &mut sample);
            if sample.position_count() == 0 {
                return Err(Error::Short { split, sample: id });
            }
            match sample.input_ids.iter().find(|&&token| token >= vocab_size) {
                Some(&token) => Err(Error::Token { split, sample: id, token, vocab_size: vocab_size as usize }),
                None => Ok(sample),
            }
        };
        range.ids().map(sample).collect()
    }
}
