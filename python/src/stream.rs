//! Batches that a thread reads ahead: an endless stream in the order of the Rust trainer, or a split once in order.

use crate::batch::Batch;
use crate::cache::Cache;
use crate::error::{exception, invalid};
use logitcask_cache::{CacheReader, CachedSample, Error, Samples};
use logitcask_core::interleaving::Interleaving;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

/// Number of threads that decode for a reader of all samples.
const DECODERS: NonZero<usize> = NonZero::new(2).expect("2 is not 0");

/// Batches; `None` is the end.
type Ready = Receiver<Option<logitcask_cache::Result<Batch>>>;

/// Batches that a thread reads ahead.
#[pyclass(frozen, module = "logitcask._core")]
pub(crate) struct Stream {
    ready: Mutex<Ready>,
    extras: Vec<String>,
}

#[pymethods]
impl Stream {
    /// A stream over the split `split` of several caches, drawn by weight. A step has `batch_size` samples, of which the
    /// stream reads those at `share` = (start, end). Its first batch is that of step `first`, and each further one
    /// `stride` steps later. `ahead` batches are read in advance.
    #[new]
    #[pyo3(signature = (caches, weights, split, seed, batch_size, share, first, stride, ahead, classes, max_length, packed))]
    #[allow(clippy::too_many_arguments, reason = "these are the keyword arguments of a Python class")]
    fn new(
        py: Python<'_>,
        caches: Vec<Py<Cache>>,
        weights: Vec<f64>,
        split: &str,
        seed: u64,
        batch_size: u64,
        share: (u64, u64),
        first: u64,
        stride: u64,
        ahead: usize,
        classes: Option<usize>,
        max_length: Option<usize>,
        packed: bool,
    ) -> PyResult<Self> {
        let Some(leader) = caches.first().map(Py::get) else { return Err(invalid("no cache was given")) };
        for cache in &caches {
            cache.get().shape(classes, max_length, packed)?;
        }
        let shape = leader.shape(classes, max_length, packed)?;
        let readers: Vec<CacheReader> = caches.iter().map(|cache| cache.get().reader.clone()).collect();
        let start = first * batch_size;
        let reads_all = stride == 1 && share == (0, batch_size);
        let make = || Steps::new(&readers, &weights, split, seed, start, reads_all);
        let mut steps = py.detach(make).map_err(exception)?;
        let skipped = stride.saturating_sub(1) * batch_size;
        let mut is_first = true;
        let next = move || {
            if !std::mem::take(&mut is_first)
                && let Err(error) = steps.take(skipped, 0..0)
            {
                return Some(Err(error));
            }
            Some(steps.take(batch_size, share.0..share.1).map(|samples| Batch::new(samples, shape)))
        };
        Ok(Self::reading_ahead(ahead, leader.extras.clone(), next))
    }

    /// The samples of a split by ascending id: from the batch of number `first` on, and each further one `stride` batches
    /// later. The last batch may be smaller.
    #[staticmethod]
    #[pyo3(signature = (cache, split, batch_size, first, stride, ahead, classes, max_length, packed))]
    #[allow(clippy::too_many_arguments, reason = "these are the keyword arguments of a Python method")]
    fn in_order(
        cache: &Cache,
        split: &str,
        batch_size: usize,
        first: usize,
        stride: usize,
        ahead: usize,
        classes: Option<usize>,
        max_length: Option<usize>,
        packed: bool,
    ) -> PyResult<Self> {
        let shape = cache.shape(classes, max_length, packed)?;
        let mut samples = cache.reader.in_order(split).map_err(exception)?;
        if stride == 1 {
            samples = samples.read_ahead(DECODERS);
        }
        let mut skipped = first * batch_size;
        let next = move || {
            let first = samples.nth(skipped)?;
            skipped = (stride - 1) * batch_size;
            let rest = samples.by_ref().take(batch_size - 1);
            let read = std::iter::once(first).chain(rest).map(|sample| Ok((sample?, 0)));
            Some(read.collect::<logitcask_cache::Result<_>>().map(|samples| Batch::new(samples, shape)))
        };
        Ok(Self::reading_ahead(ahead, cache.extras.clone(), next))
    }

    /// The next batch; `None` at the end. Raises RuntimeError after an error, which ends the stream.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let receive = || self.ready.lock().ok().and_then(|ready| ready.recv().ok());
        let ended = || PyRuntimeError::new_err("the thread that reads has ended, because of an error before");
        match py.detach(receive).ok_or_else(ended)? {
            Some(batch) => batch.map_err(exception)?.into_arrays(py, &self.extras).map(Some),
            None => Ok(None),
        }
    }
}

impl Stream {
    /// A thread that calls `next` until it returns `None` or an error, `ahead` batches in advance.
    fn reading_ahead(
        ahead: usize,
        extras: Vec<String>,
        mut next: impl FnMut() -> Option<logitcask_cache::Result<Batch>> + Send + 'static,
    ) -> Self {
        let (out, ready) = sync_channel(ahead);
        std::thread::spawn(move || {
            loop {
                let batch = next();
                let is_last = !matches!(batch, Some(Ok(_)));
                // A closed channel means that nobody reads the stream any more.
                if out.send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        Self { ready: Mutex::new(ready), extras }
    }
}

/// The samples of a run in their order.
struct Steps {
    order: Interleaving,
    streams: Vec<Epochs>,
}

/// The epochs of one cache, one after the other.
struct Epochs {
    reader: CacheReader,
    split: String,
    seed: u64,
    length: u64,
    /// Number of samples that were taken or skipped.
    place: u64,
    /// Whether no sample is skipped but at the start.
    reads_all: bool,
    open: Option<Epoch>,
}

/// The order of an epoch, from `place` on.
struct Epoch {
    samples: Samples,
    number: u64,
    place: u64,
}

impl Steps {
    fn new(
        readers: &[CacheReader],
        weights: &[f64],
        split: &str,
        seed: u64,
        start: u64,
        reads_all: bool,
    ) -> logitcask_cache::Result<Self> {
        let order = Interleaving::after(weights, start);
        let epochs = |(number, (reader, &place)): (u64, (&CacheReader, &u64))| {
            let length = reader.len(split)?;
            let (reader, split) = (reader.clone(), split.to_owned());
            Ok(Epochs {
                reader,
                split,
                seed: Interleaving::seed_of(seed, number),
                length,
                place,
                reads_all,
                open: None,
            })
        };
        let streams =
            (0..).zip(readers.iter().zip(order.taken())).map(epochs).collect::<logitcask_cache::Result<_>>()?;
        Ok(Self { order, streams })
    }

    /// The samples at the places `share` of the next `batch_size`; the others are skipped.
    fn take(&mut self, batch_size: u64, share: Range<u64>) -> logitcask_cache::Result<Vec<(CachedSample, usize)>> {
        let mut samples = Vec::with_capacity((share.end - share.start) as usize);
        for place in 0..batch_size {
            let source = self.order.next_source();
            if share.contains(&place) {
                samples.push((self.streams[source].next()?, source));
            } else {
                self.streams[source].place += 1;
            }
        }
        Ok(samples)
    }
}

impl Epochs {
    fn next(&mut self) -> logitcask_cache::Result<CachedSample> {
        let (number, within) = (self.place / self.length, self.place % self.length);
        let mut open = match self.open.take().filter(|open| open.number == number) {
            Some(open) => open,
            None => {
                let samples = self.reader.shuffled(&self.split, self.seed, number, within)?;
                let samples = if self.reads_all { samples.read_ahead(DECODERS) } else { samples };
                Epoch { samples, number, place: within }
            }
        };
        // Skipped samples are not decoded. Only an error ends an order before its length.
        let sample = open.samples.nth((within - open.place) as usize);
        let none = || Error::NoSample { split: self.split.clone(), sample: within, len: self.length };
        let sample = sample.ok_or_else(none)??;
        open.place = within + 1;
        self.place += 1;
        self.open = Some(open);
        Ok(sample)
    }
}
