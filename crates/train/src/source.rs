//! Where a trainer's samples come from: a cache, or a dataset's labels alone.

use crate::{Error, Result};
use logitcask_cache::CacheReader;
use logitcask_core::rng::CounterRng;
use logitcask_core::{Sample, SampleId, SoftRows};
use logitcask_data::Dataset;
use std::sync::Arc;

/// One sample and what a teacher said about it, if there was one.
pub type Taught = (Sample, Option<SoftRows>);

/// Samples in order.
pub type Samples = Box<dyn Iterator<Item = Result<Taught>> + Send>;

/// Where samples come from.
#[derive(Clone)]
pub enum Source {
    /// A cache: every sample with its soft rows.
    Cache(CacheReader),
    /// A dataset: labels only.
    Labels(Arc<dyn Dataset>),
}

impl Source {
    /// Number of samples of a split.
    pub fn len(&self, split: &str) -> Result<u64> {
        let count = match self {
            Self::Cache(reader) => reader.len(split)?,
            Self::Labels(dataset) => {
                dataset.splits().iter().find(|(name, _)| name == split).map_or(0, |(_, count)| *count)
            }
        };
        if count == 0 { Err(Error::EmptySplit { split: split.to_owned() }) } else { Ok(count) }
    }

    /// Every sample of a split in the dataset's order.
    pub fn in_order(&self, split: &str) -> Result<Samples> {
        match self {
            Self::Cache(reader) => Ok(taught(reader.in_order(split)?)),
            Self::Labels(dataset) => Ok(labelled(dataset.clone(), split, (0..self.len(split)?).collect())),
        }
    }

    /// Every sample of a split once, in an order that `seed` and `epoch` decide alone, without the first `skip` of it.
    pub fn shuffled(&self, split: &str, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        match self {
            Self::Cache(reader) => Ok(taught(reader.shuffled(split, seed, epoch, skip)?)),
            Self::Labels(dataset) => {
                let mut ids: Vec<u64> = (0..self.len(split)?).collect();
                CounterRng::new("logitcask label order", &[seed, epoch]).shuffle(&mut ids);
                Ok(labelled(dataset.clone(), split, ids.split_off(skip.min(ids.len() as u64) as usize)))
            }
        }
    }
}

/// The first `max_length` tokens of a sample and what the teacher said about them.
pub(crate) fn prefix((mut sample, mut rows): Taught, max_length: usize) -> Taught {
    sample.input_ids.truncate(max_length);
    if let Some(rows) = &mut rows {
        rows.truncate(sample.positions());
    }
    (sample, rows)
}

fn taught(
    rows: impl Iterator<Item = logitcask_cache::Result<logitcask_cache::CachedSample>> + Send + 'static,
) -> Samples {
    Box::new(rows.map(|row| row.map(|row| (row.sample, Some(row.rows))).map_err(Error::from)))
}

fn labelled(dataset: Arc<dyn Dataset>, split: &str, ids: Vec<u64>) -> Samples {
    let split = split.to_owned();
    Box::new(ids.into_iter().map(move |id| match dataset.sample(&split, SampleId(id)) {
        Some(sample) => Ok((sample, None)),
        None => Err(Error::Config(format!("split `{split}` announces a sample {id} that it does not have"))),
    }))
}
