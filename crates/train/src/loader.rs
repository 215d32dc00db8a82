//! Prefetching of batches.

use crate::batch::Batch;
use crate::mixture::WeightedSource;
use crate::pruning::Stage;
use crate::source::{DistillSample, Samples, prefix};
use crate::target_spec::TargetSpec;
use crate::{Error, Result, Source, TrainConfig};
use logitcask_core::interleaving::Interleaving;
use logitcask_model::Packing;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use tracing::debug;

/// Number of steps whose batches are prepared in advance.
const AHEAD: usize = 4;

/// An endless stream of samples from one or several sources.
pub(crate) struct Loader {
    streams: Vec<Stream>,
    /// From which stream each sample comes.
    order: Interleaving,
    /// Number of samples in a step, and in each of its parts.
    sizes: (usize, usize),
    max_length: usize,
    packing: Packing,
}

/// An endless stream of one source's samples: shuffled epochs are concatenated, so that a single number gives the place
/// in it.
struct Stream {
    source: Source,
    length: u64,
    seed: u64,
    place: u64,
    samples: Samples,
    /// If the samples are pruned: the known stages, and a channel for later ones.
    stages: Option<(VecDeque<Stage>, Receiver<Stage>)>,
}

/// The batches of successive steps.
pub(crate) struct Batches {
    ready: Receiver<Result<Vec<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// Returns the parts of the next step.
    pub(crate) fn next(&mut self) -> Result<Vec<Batch>> {
        if let Ok(step) = self.ready.recv() {
            return step;
        }
        // The thread either handed over an error before it ended, or it panicked.
        let reason = match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => said(panic.as_ref()),
            _ => "it ended before the run".to_owned(),
        };
        Err(Error::Loader { reason })
    }
}

/// Extracts the message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked without a message".to_owned())
}

impl Loader {
    /// Streams the samples of every step from `first` on, from `sources`, of which there is at least one. `stages` is set
    /// if the samples are pruned, which only a single source's are.
    pub(crate) fn new(
        sources: &[WeightedSource],
        config: &TrainConfig,
        first: u64,
        packing: Packing,
        mut stages: Option<(Vec<Stage>, Receiver<Stage>)>,
    ) -> Result<Self> {
        let weights: Vec<f64> = sources.iter().map(|source| source.weight).collect();
        let order = Interleaving::after(&weights, first * config.batch_size as u64);
        let stream = |(number, (source, &place)): (u64, (&WeightedSource, &u64))| {
            Ok(Stream {
                source: source.source.clone(),
                length: source.source.len("train")?,
                seed: Interleaving::seed_of(config.seed, number),
                place,
                samples: Box::new(std::iter::empty()),
                stages: stages.take().map(|(known, more)| (known.into(), more)),
            })
        };
        Ok(Self {
            streams: (0..).zip(sources.iter().zip(order.taken())).map(stream).collect::<Result<_>>()?,
            order,
            sizes: (config.batch_size, config.batch_size / config.accumulate),
            max_length: config.max_length.map_or(usize::MAX, |length| length as usize),
            packing,
        })
    }

    /// Prepares the batches of every step in advance in a separate thread; `spec` selects what a loss reads of the
    /// teacher's rows.
    pub(crate) fn start(mut self, spec: Option<TargetSpec>) -> Batches {
        let (out, ready) = sync_channel(AHEAD);
        let thread = std::thread::spawn(move || {
            loop {
                let step = self.step(spec.as_ref());
                let is_last = step.is_err();
                // A closed channel means that the run is over.
                if out.send(step).is_err() || is_last {
                    return;
                }
            }
        });
        Batches { ready, thread: Some(thread) }
    }

    /// The parts of the next step.
    fn step(&mut self, spec: Option<&TargetSpec>) -> Result<Vec<Batch>> {
        let (size, part) = self.sizes;
        let (mut rows, mut sources) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for _ in 0..size {
            let source = self.order.next_source();
            rows.push(prefix(self.streams[source].next()?, self.max_length));
            sources.push(source);
        }
        let (is_mixed, packing) = (self.streams.len() > 1, self.packing);
        let batch = |(rows, sources): (&[DistillSample], &[usize])| {
            let sources = if is_mixed { sources.to_vec() } else { Vec::new() };
            Ok(Batch { sources, ..Batch::packed(rows, spec, packing)? })
        };
        let parts: Vec<Batch> = rows.chunks(part).zip(sources.chunks(part)).map(batch).collect::<Result<_>>()?;
        // Of a sample's chosen positions, none may be within its first tokens.
        let parts: Vec<Batch> = parts.into_iter().filter(|part| !part.positions.is_empty()).collect();
        if parts.is_empty() { Err(Error::EmptyBatch) } else { Ok(parts) }
    }
}

impl Stream {
    fn next(&mut self) -> Result<DistillSample> {
        loop {
            match self.samples.next() {
                Some(row) => {
                    self.place += 1;
                    return row;
                }
                None => self.samples = self.epoch()?,
            }
        }
    }

    /// The samples of the current epoch, from the current place on.
    fn epoch(&mut self) -> Result<Samples> {
        let Some((stages, more)) = &mut self.stages else {
            let (epoch, skip) = (self.place / self.length, self.place % self.length);
            debug!(epoch, skip, samples = self.length, "epoch begins");
            return self.source.shuffled("train", self.seed, epoch, skip);
        };
        let is_over = |stage: &Stage| stage.end.is_some_and(|end| end <= self.place);
        while stages.front().is_none_or(is_over) {
            stages.pop_front();
            if stages.is_empty() {
                stages.push_back(
                    more.recv().map_err(|_| Error::Loader { reason: "the run ended before its samples".into() })?,
                );
            }
        }
        let Some(stage) = stages.front() else { return Ok(Box::new(std::iter::empty())) };
        let (done, length) = (self.place - stage.start, stage.kept.len() as u64);
        debug!(stage = stage.number, epoch = done / length, samples = length, "epoch of a stage begins");
        // Epochs of different stages have different samples, and therefore different orders.
        let seed = self.seed.wrapping_add(u64::from(stage.number) << 32);
        self.source.shuffled_among("train", &stage.kept, seed, done / length, done % length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_thread_is_told_with_its_reason() {
        for (panic, wanted) in
            [(|| panic!("page {} is torn", 7), "page 7 is torn"), (|| panic!("no"), "no")] as [(fn(), &str); 2]
        {
            let (out, ready) = sync_channel(AHEAD);
            let thread = std::thread::spawn(move || {
                let _held = out;
                panic();
            });
            let error = Batches { ready, thread: Some(thread) }.next().unwrap_err();
            assert!(matches!(&error, Error::Loader { reason } if reason == wanted), "{error}");
        }
    }
}
