//! Forward, selection and writing side by side, unit by unit.
//!
//! ```text
//! forward workers       select thread            writer thread
//! batch → forward  ──>  rows of a chunk   ──>    encode, fsync, commit
//!            bounded queue           bounded queue
//! ```
//! Queues hold two items: enough that nobody waits for a neighbour's hiccup, little enough that memory stays flat. Workers go
//! on to the next unit while others are still at the last; its rows go to the writer when the last of them is there.

#[cfg(test)]
mod tests;

use crate::batch_queue::{BatchQueue, State};
use crate::open_unit::{FinishedUnit, OpenUnit};
use crate::teacher::{Outputs, Teacher};
use crate::{Error, Result};
use logitcask_cache::CacheWriter;
use logitcask_data::Dataset;
use logitcask_data::batches::TokenBatch;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tracing::info;

const QUEUE: usize = 2;

/// What a run reports while it works.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// This many positions went through the teacher.
    Positions(u64),
    /// This many positions need not go through the teacher any more: another worker committed their unit.
    Elsewhere(u64),
    /// A unit is durable.
    Committed {
        /// Units committed so far, those of earlier runs and of other workers included.
        committed: usize,
        /// Units in all.
        units: usize,
    },
}

/// Time each stage was busy. Stages overlap, so they add up to more than the run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageSeconds {
    /// Batching and teacher forward. A GPU's is only queued here: selection waits for it.
    pub forward: f64,
    /// Selection, and reading back what it needs.
    pub select: f64,
    /// Encoding, compressing, hashing, fsync.
    pub write: f64,
}

impl AddAssign for StageSeconds {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.select += other.select;
        self.write += other.write;
    }
}

/// Everything stage 1 needs.
pub struct Pipeline<'a> {
    /// Where samples come from; the one the plan was made from.
    pub dataset: &'a dyn Dataset,
    /// Who gives the logits.
    pub teacher: &'a dyn Teacher,
    /// Where the rows go.
    pub writer: &'a CacheWriter,
    /// Rows times width of a batch, padding included.
    pub batch_tokens: usize,
}

/// From the forward to the selection: a part of what was said of a batch.
struct ToSelect {
    unit: Arc<OpenUnit>,
    batch: Arc<TokenBatch>,
    outputs: Outputs,
}

impl Pipeline<'_> {
    /// Works off every unit that has no commit yet and that no other worker is at, and waits for those of the others. Once
    /// `stop` is set no unit is begun, and the run ends when those begun are done. `seconds` says, then too, how long each
    /// stage was busy.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where `stop` was set before the end. [`Error::Dataset`], [`Error::Short`] or
    /// [`Error::Token`] where the teacher cannot be asked about a sample; [`Error::BadRow`] or [`Error::Device`] where
    /// its answer is none that can be kept; [`Error::Cache`] where that cannot be written. What was committed before is
    /// whole.
    pub fn run(
        &self,
        stop: &AtomicBool,
        seconds: &mut StageSeconds,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<()> {
        let pending = self.writer.pending()?;
        let units = self.writer.plan().units.len();
        let done = units - pending.len();
        info!(units, committed = done, pending = pending.len(), workers = self.teacher.workers(), "stage 1 begins");
        let (failed, done) = (AtomicBool::new(false), AtomicUsize::new(done));
        let (failed, done) = (&failed, &done);
        let (to_select, from_forward) = sync_channel(QUEUE);
        let (to_write, from_select) = sync_channel(QUEUE);

        let (forward, select, write) = std::thread::scope(|scope| {
            let fail = |error: &Error| failed.store(!matches!(error, Error::Closed), Ordering::Relaxed);
            let select = scope.spawn(move || self.select(from_forward, to_write).inspect_err(fail));
            let write = scope.spawn(move || self.write(from_select, done, units, on_progress).inspect_err(fail));
            let forward = self.forward(&pending, to_select, (stop, failed), done, on_progress);
            (forward, join(select), join(write))
        });
        // A stage that meets a closed queue stops quietly; the one that closed it has the reason.
        let busy = StageSeconds { write: write?, select: select?, forward: forward? };
        info!(
            forward = busy.forward,
            select = busy.select,
            write = busy.write,
            "stage 1 ends; seconds each part was busy"
        );
        *seconds += busy;
        let left = self.writer.pending()?.len();
        match left {
            0 => Ok(()),
            _ => Err(Error::Interrupted { committed: units - left, units }),
        }
    }

    /// Runs as many batches at once as the teacher finds worth it; returns the mean time a worker was busy.
    fn forward(
        &self,
        pending: &[usize],
        out: SyncSender<ToSelect>,
        (stop, failed): (&AtomicBool, &AtomicBool),
        done: &AtomicUsize,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<f64> {
        let workers = self.teacher.workers().max(1);
        let elsewhere = |positions| {
            done.fetch_add(1, Ordering::Relaxed);
            on_progress(Progress::Elsewhere(positions));
        };
        let feed = BatchQueue {
            writer: self.writer,
            dataset: self.dataset,
            batch_tokens: self.batch_tokens,
            workers,
            stop,
            failed,
            on_elsewhere: &elsewhere,
            state: Mutex::new(State::of(pending)),
            changed: Condvar::new(),
        };
        let work = || -> Result<Duration> {
            let mut busy = Duration::ZERO;
            while let Some((unit, batch)) = feed.next()? {
                busy += self.forward_batch(&unit, batch, &out, on_progress)?;
            }
            Ok(busy)
        };
        // Where one fails, nothing is left for the others either.
        let work = || work().inspect_err(|_| feed.close());
        if workers == 1 {
            return Ok(work()?.as_secs_f64());
        }
        let busy = std::thread::scope(|scope| {
            let alone = || single_thread_pool().map_or_else(|_| work(), |pool| pool.install(work));
            let started: Vec<_> = (0..workers).map(|_| scope.spawn(alone)).collect();
            started.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        Ok(busy.iter().sum::<Duration>().as_secs_f64() / workers as f64)
    }

    fn forward_batch(
        &self,
        unit: &Arc<OpenUnit>,
        batch: TokenBatch,
        out: &SyncSender<ToSelect>,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Duration> {
        let (start, mut waited) = (Instant::now(), Duration::ZERO);
        let batch = Arc::new(batch);
        self.teacher.outputs(&batch, &mut |outputs: Outputs| {
            on_progress(Progress::Positions(outputs.positions.len() as u64));
            let part = ToSelect { unit: unit.clone(), batch: batch.clone(), outputs };
            let wait = Instant::now();
            let is_open = out.send(part).is_ok();
            waited += wait.elapsed();
            // The selection or the writer stopped; it has the reason, which outranks this one.
            if is_open { Ok(()) } else { Err(Error::Closed) }
        })?;
        Ok(start.elapsed().saturating_sub(waited))
    }

    fn select(&self, from: Receiver<ToSelect>, out: SyncSender<FinishedUnit>) -> Result<f64> {
        let plan = self.writer.plan();
        let mut busy = Duration::ZERO;
        for ToSelect { unit, batch, outputs } in from {
            let start = Instant::now();
            let finished = unit.add(&plan.units[unit.unit].split, &plan.keep, &batch, &outputs)?;
            busy += start.elapsed();
            if let Some(finished) = finished
                && out.send(finished).is_err()
            {
                break;
            }
        }
        Ok(busy.as_secs_f64())
    }

    fn write(
        &self,
        from: Receiver<FinishedUnit>,
        committed: &AtomicUsize,
        units: usize,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<f64> {
        let mut busy = Duration::ZERO;
        for FinishedUnit { unit, rows, errors, claim } in from {
            let start = Instant::now();
            self.writer.write_unit(unit, &rows, &errors)?;
            drop(claim);
            busy += start.elapsed();
            let committed = 1 + committed.fetch_add(1, Ordering::Relaxed);
            on_progress(Progress::Committed { committed, units });
        }
        Ok(busy.as_secs_f64())
    }
}

/// A rayon pool of one: a worker's tensor operations run in it without waiting for other workers or for the selection.
fn single_thread_pool() -> std::result::Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()
}

/// The thread's result; a panic goes on in this thread.
fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
