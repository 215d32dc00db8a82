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
use crate::select::{SelectProblem, select_logits};
use crate::teacher::{Logits, LogitsChunk, Teacher};
use crate::{Error, Result};
use logitcask_cache::{CacheWriter, Claim};
use logitcask_core::{RowErrors, Sample, SoftRows, Truncation};
use logitcask_data::Dataset;
use logitcask_data::batches::TokenBatch;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex};
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

/// From the forward to the selection.
enum ToSelect {
    WorkUnit { unit: usize, samples: Vec<Sample>, claim: Claim },
    Chunk { unit: usize, places: Vec<TokenPosition>, logits: Logits },
}

/// A position of a unit: which sample, and where in it.
#[derive(Clone, Copy)]
pub(crate) struct TokenPosition {
    sample: usize,
    position: usize,
}

/// From the selection to the writer: a whole unit.
struct ToWrite {
    unit: usize,
    rows: Vec<(Sample, SoftRows)>,
    errors: RowErrors,
    /// Held until it is written.
    claim: Claim,
}

impl Pipeline<'_> {
    /// Works off every unit that has no commit yet and that no other worker is at, and waits for those of the others. Once
    /// `stop` is set no unit is begun, and the run ends with
    /// [`Error::Interrupted`] when those begun are done. `seconds` says, then too, how long each stage was busy.
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
        let begin = |unit, samples, claim| out.send(ToSelect::WorkUnit { unit, samples, claim }).is_ok();
        let work = || -> Result<Duration> {
            let mut busy = Duration::ZERO;
            while let Some((unit, batch)) = feed.next(&begin)? {
                busy += self.forward_batch((unit, &batch), &out, on_progress)?;
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
        (unit, batch): (usize, &TokenBatch),
        out: &SyncSender<ToSelect>,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Duration> {
        let (start, mut waited) = (Instant::now(), Duration::ZERO);
        let places = token_positions(batch);
        self.teacher.logits(batch, &mut |chunk: LogitsChunk| {
            let first = chunk.first_position;
            let count = chunk.logits.positions(self.teacher.vocab_size());
            on_progress(Progress::Positions(count as u64));
            let places = places[first..first + count].to_vec();
            let wait = Instant::now();
            let is_open = out.send(ToSelect::Chunk { unit, places, logits: chunk.logits }).is_ok();
            waited += wait.elapsed();
            // The selection or the writer stopped; it has the reason, which outranks this one.
            if is_open { Ok(()) } else { Err(Error::Closed) }
        })?;
        Ok(start.elapsed().saturating_sub(waited))
    }

    fn select(&self, from: Receiver<ToSelect>, out: SyncSender<ToWrite>) -> Result<f64> {
        let keep = &self.writer.plan().keep;
        let mut busy = Duration::ZERO;
        // Each with the number of positions that are still to come.
        let mut open: HashMap<usize, (ToWrite, usize)> = HashMap::new();
        for message in from {
            let unit = match message {
                ToSelect::WorkUnit { unit, samples, claim } => {
                    let positions = samples.iter().map(|sample| sample.input_ids.len().saturating_sub(1)).sum();
                    let rows = samples.into_iter().map(|sample| (sample, SoftRows::new(keep))).collect();
                    open.insert(unit, (ToWrite { unit, rows, errors: RowErrors::new(keep), claim }, positions));
                    unit
                }
                ToSelect::Chunk { unit, places, logits } => {
                    let Some((work, left)) = open.get_mut(&unit) else { continue };
                    let start = Instant::now();
                    let split = &self.writer.plan().units[unit].split;
                    rows_of_batch(split, keep, &places, &logits, &mut work.rows, &mut work.errors)?;
                    *left -= places.len();
                    busy += start.elapsed();
                    unit
                }
            };
            let is_whole = open.get(&unit).is_some_and(|(_, left)| *left == 0);
            if let Some((work, _)) = is_whole.then(|| open.remove(&unit)).flatten()
                && out.send(work).is_err()
            {
                break;
            }
        }
        Ok(busy.as_secs_f64())
    }

    fn write(
        &self,
        from: Receiver<ToWrite>,
        committed: &AtomicUsize,
        units: usize,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<f64> {
        let mut busy = Duration::ZERO;
        for work in from {
            let start = Instant::now();
            self.writer.write_unit(work.unit, &work.rows, &work.errors)?;
            drop(work.claim);
            busy += start.elapsed();
            let committed = 1 + committed.fetch_add(1, Ordering::Relaxed);
            on_progress(Progress::Committed { committed, units });
        }
        Ok(busy.as_secs_f64())
    }
}

/// Selects from the logits of some positions and gives each sample its rows.
pub(crate) fn rows_of_batch(
    split: &str,
    keep: &Truncation,
    places: &[TokenPosition],
    logits: &Logits,
    rows: &mut [(Sample, SoftRows)],
    errors: &mut RowErrors,
) -> Result<()> {
    let gold: Vec<u32> = places.iter().map(|p| rows[p.sample].0.input_ids[p.position + 1]).collect();
    let sampling_offset =
        |place: &TokenPosition| keep.selection.sampling_offset(split, rows[place.sample].0.id, place.position);
    let sampling_offsets: Vec<f64> = places.iter().map(sampling_offset).collect();
    let selected = select_logits(logits, &gold, &sampling_offsets, keep);
    let (selected, costs) = selected.map_err(|problem| match problem {
        SelectProblem::Device(problem) => Error::Device(problem),
        SelectProblem::Row(row, problem) => Error::BadRow {
            split: split.to_owned(),
            sample: rows[places[row].sample].0.id,
            position: places[row].position,
            problem,
        },
    })?;
    for (place, row) in places.iter().zip(selected.iter().flat_map(SoftRows::iter)) {
        rows[place.sample].1.push(row);
    }
    errors.merge(&costs);
    Ok(())
}

/// Every position of a batch that has a next token, in the order in which a teacher counts them.
pub(crate) fn token_positions(batch: &TokenBatch) -> Vec<TokenPosition> {
    let of = |(&sample, &length): (&usize, &usize)| {
        (0..length.saturating_sub(1)).map(move |position| TokenPosition { sample, position })
    };
    batch.indices.iter().zip(&batch.lengths).flat_map(of).collect()
}

/// A rayon pool of one: a worker's tensor operations run in it without waiting for other workers or for the selection.
fn single_thread_pool() -> std::result::Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()
}

/// The thread's result; a panic goes on in this thread.
fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
