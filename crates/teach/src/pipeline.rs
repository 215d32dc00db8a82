//! Forward pass, selection and writing in parallel, unit by unit.
//!
//! ```text
//! forward workers       select thread            writer thread
//! batch → forward  ──>  rows of a chunk   ──>    encode, fsync, commit
//!            bounded queue           bounded queue
//! ```
//! Each queue holds two items. That is enough to absorb short delays of a neighbouring stage, and few enough to keep
//! memory use constant. Workers go on to the next unit while others still work on the previous one, whose rows go to
//! the writer when the last of them has arrived.

#[cfg(test)]
mod tests;

use crate::batch_queue::{BatchQueue, QueueState};
use crate::open_unit::{FinishedUnit, OpenUnit, Wanted};
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
    /// This many positions no longer need to go through the teacher, because another worker committed their unit.
    Elsewhere(u64),
    /// A unit has been written durably.
    Committed {
        /// Units committed so far, including those of earlier runs and of other workers.
        committed: usize,
        /// Number of units in the plan.
        units: usize,
    },
}

/// Time for which each stage was busy, in seconds. Stages overlap, so the sum exceeds the duration of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageSeconds {
    /// Batching and the teacher's forward pass. On a GPU the forward pass is only queued here, and selection waits for
    /// it.
    pub forward: f64,
    /// Selection, including reading back what it needs.
    pub select: f64,
    /// Encoding, compressing, hashing and fsync.
    pub write: f64,
}

impl AddAssign for StageSeconds {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.select += other.select;
        self.write += other.write;
    }
}

/// The inputs and the output of stage 1.
pub struct Pipeline<'a> {
    /// The dataset that the plan was made from.
    pub dataset: &'a dyn Dataset,
    /// Computes the logits.
    pub teacher: &'a dyn Teacher,
    /// Writes the rows.
    pub writer: &'a CacheWriter,
    /// Bound on the number of samples of a batch times the tokens of the longest.
    pub batch_tokens: usize,
}

/// What a forward worker sends to the selection: the outputs for a part of a batch.
struct ToSelect {
    unit: Arc<OpenUnit>,
    batch: Arc<TokenBatch>,
    outputs: Outputs,
}

impl Pipeline<'_> {
    /// Processes every unit that has no commit yet and that no other worker has claimed, and waits for the units of
    /// other workers. Once `stop` is set, no further unit is started, and the run ends when the started ones are done.
    /// In that case too, the time for which each stage was busy is added to `seconds`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if `stop` was set before the end. [`Error::Dataset`], [`Error::Short`] or
    /// [`Error::Token`] if a sample cannot be given to the teacher; [`Error::BadRow`] or [`Error::Device`] if its
    /// logits cannot be kept; [`Error::BadAnswer`] or [`Error::NoAnswer`] if a server's are not; [`Error::Cache`] if the
    /// rows cannot be written. Units committed before the error stay valid.
    pub fn run(
        &self,
        stop: &AtomicBool,
        seconds: &mut StageSeconds,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<()> {
        let pending = self.writer.pending()?;
        let units = self.writer.plan().unit_count();
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
        // A stage whose queue is closed stops silently. The stage that closed the queue has the error.
        let busy = StageSeconds { write: write?, select: select?, forward: forward? };
        info!(
            forward = busy.forward,
            select = busy.select,
            write = busy.write,
            "stage 1 ends; these are the seconds for which each part was busy"
        );
        *seconds += busy;
        let left = self.writer.pending()?.len();
        match left {
            0 => Ok(()),
            _ => Err(Error::Interrupted { committed: units - left, units }),
        }
    }

    /// Runs as many batches in parallel as the teacher asks for. Returns the mean time a worker was busy, in seconds.
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
        let queue = BatchQueue {
            writer: self.writer,
            dataset: self.dataset,
            batch_tokens: self.batch_tokens,
            workers,
            stop,
            failed,
            on_elsewhere: &elsewhere,
            state: Mutex::new(QueueState::new(pending)),
            changed: Condvar::new(),
        };
        let work = || -> Result<Duration> {
            let mut busy = Duration::ZERO;
            while let Some((unit, batch)) = queue.next()? {
                busy += self.forward_batch(&unit, batch, &out, on_progress)?;
            }
            Ok(busy)
        };
        // If one worker fails, the others stop too.
        let work = || work().inspect_err(|_| queue.close());
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
        let outputs = self.teacher.outputs(&batch, &mut |outputs: Outputs| {
            on_progress(Progress::Positions(outputs.positions.len() as u64));
            let part = ToSelect { unit: unit.clone(), batch: batch.clone(), outputs };
            let wait = Instant::now();
            let is_open = out.send(part).is_ok();
            waited += wait.elapsed();
            // The selection or the writer stopped. Its error takes precedence over this one.
            if is_open { Ok(()) } else { Err(Error::Closed) }
        });
        outputs.map_err(|error| error.of_samples(self.writer.plan().unit(unit.unit).split, &batch.samples))?;
        Ok(start.elapsed().saturating_sub(waited))
    }

    fn select(&self, from: Receiver<ToSelect>, out: SyncSender<FinishedUnit>) -> Result<f64> {
        let plan = self.writer.plan();
        let mut busy = Duration::ZERO;
        for ToSelect { unit, batch, outputs } in from {
            let start = Instant::now();
            let wanted = Wanted { split: plan.unit(unit.unit).split, keep: &plan.keep, extras: &plan.extras };
            let finished = unit.add(wanted, &batch, &outputs)?;
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

/// A rayon pool of one thread. Tensor operations that run in it do not wait for other workers or for the selection.
fn single_thread_pool() -> std::result::Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()
}

/// The thread's result. If the thread panicked, the panic continues in this thread.
fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
