//! Sources of a trainer's samples: a cache, two caches, or a dataset's labels only.

use crate::error::CacheDifference;
use crate::{Error, LossConfig, Result};
use logitcask_cache::{CacheReader, CachedSample};
use logitcask_core::rng::CounterRng;
use logitcask_core::{ConfigError, Sample, SampleId, SoftRows};
use logitcask_data::Dataset;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// One sample and each teacher's rows for it: none, one or two teachers.
pub type DistillSample = (Sample, Vec<SoftRows>);

/// Samples in order.
pub type Samples = Box<dyn Iterator<Item = Result<DistillSample>> + Send>;

/// Source of samples.
#[derive(Clone)]
pub enum Source {
    /// A cache: every sample with its soft rows.
    Cache(CacheReader),
    /// Two teachers' caches of the same samples; the first determines the order.
    Both(CacheReader, CacheReader),
    /// A dataset: labels only.
    Labels(Arc<dyn Dataset>),
}

impl Source {
    /// Combines two caches of the same samples.
    ///
    /// # Errors
    /// [`Error::CachesDiffer`] if their classes, texts or windows differ, since the rows of one teacher would then be
    /// paired with another text.
    pub fn both(first: CacheReader, second: CacheReader) -> Result<Self> {
        let (a, b) = (first.plan(), second.plan());
        let properties = [
            ("classes", a.vocab_size.to_string(), b.vocab_size.to_string()),
            ("tokenizer", a.tokenizer.fingerprint.short(), b.tokenizer.fingerprint.short()),
            ("dataset", a.dataset.fingerprint.short(), b.dataset.fingerprint.short()),
            ("max_length", a.max_length.to_string(), b.max_length.to_string()),
            ("positions", a.positions.to_string(), b.positions.to_string()),
        ];
        let requirement = "two teachers' caches can only be read together if they have the same samples";
        check_same((&first, &second), properties, requirement)?;
        Ok(Self::Both(first, second))
    }

    /// Identifies the samples and the teachers' rows by their hashes.
    pub fn name(&self) -> String {
        match self {
            Self::Cache(reader) => reader.cache_id().to_string(),
            Self::Both(first, second) => format!("{} and {}", first.cache_id(), second.cache_id()),
            Self::Labels(dataset) => dataset.fingerprint().to_string(),
        }
    }

    /// The cache that determines the order, if there is one.
    pub fn cache(&self) -> Option<&CacheReader> {
        match self {
            Self::Cache(reader) | Self::Both(reader, _) => Some(reader),
            Self::Labels(_) => None,
        }
    }

    /// Names of all splits.
    pub fn splits(&self) -> Vec<String> {
        match self {
            Self::Cache(reader) | Self::Both(reader, _) => reader.splits().into_iter().map(str::to_owned).collect(),
            Self::Labels(dataset) => dataset.splits().into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// The same samples, each with the first teacher's vector from the extra column `name`.
    ///
    /// # Errors
    /// [`Error::Cache`] if the cache has no such column, [`Error::NoTeacher`] without a cache.
    pub fn with_vectors(&self, name: &str) -> Result<Self> {
        match self {
            Self::Cache(reader) => Ok(Self::Cache(reader.with_extras(&[name])?)),
            Self::Both(first, second) => Ok(Self::Both(first.with_extras(&[name])?, second.clone())),
            Self::Labels(_) => Err(Error::NoTeacher),
        }
    }

    /// Rejects a loss that needs more than the cached rows contain.
    ///
    /// # Errors
    /// Names the key of the recipe, its value and what is accepted.
    pub fn check(&self, loss: &LossConfig) -> std::result::Result<(), ConfigError> {
        self.caches().try_for_each(|cache| loss.check_against(&cache.plan().keep))
    }

    /// Every cache that is read.
    fn caches(&self) -> impl Iterator<Item = &CacheReader> {
        let (first, second) = match self {
            Self::Cache(reader) => (Some(reader), None),
            Self::Both(first, second) => (Some(first), Some(second)),
            Self::Labels(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Number of samples of a split.
    ///
    /// # Errors
    /// [`Error::EmptySplit`] if there is none; [`Error::Cache`] for a split that the cache does not have.
    pub fn len(&self, split: &str) -> Result<u64> {
        let count = match self {
            Self::Cache(reader) | Self::Both(reader, _) => reader.len(split)?,
            Self::Labels(dataset) => dataset.len(split),
        };
        if count == 0 { Err(Error::EmptySplit { split: split.to_owned() }) } else { Ok(count) }
    }

    /// Every sample of a split in the dataset's order.
    ///
    /// # Errors
    /// [`Error::Cache`] or [`Error::EmptySplit`] for a split that is not there. A sample is [`Error::NoSecondSample`] or
    /// [`Error::SamplesDiffer`] if the second cache does not have it.
    pub fn in_order(&self, split: &str) -> Result<Samples> {
        match self {
            Self::Cache(reader) => Ok(taught(reader.in_order(split)?)),
            Self::Both(first, second) => beside(taught(first.in_order(split)?), second, split),
            Self::Labels(dataset) => Ok(labelled(dataset.clone(), split, (0..self.len(split)?).collect())),
        }
    }

    /// Every sample of a split once, in an order that depends on `seed` and `epoch` only, without the first `skip`
    /// samples.
    ///
    /// # Errors
    /// [`Error::Cache`] or [`Error::EmptySplit`] for a split that is not there. A sample is [`Error::NoSecondSample`] or
    /// [`Error::SamplesDiffer`] if the second cache does not have it.
    pub fn shuffled(&self, split: &str, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        match self {
            Self::Cache(reader) => Ok(taught(reader.shuffled(split, seed, epoch, skip)?)),
            Self::Both(first, second) => beside(taught(first.shuffled(split, seed, epoch, skip)?), second, split),
            Self::Labels(dataset) => {
                let mut ids: Vec<u64> = (0..self.len(split)?).collect();
                CounterRng::new("logitcask label order", &[seed, epoch]).shuffle(&mut ids);
                Ok(labelled(dataset.clone(), split, ids.split_off(skip.min(ids.len() as u64) as usize)))
            }
        }
    }

    /// Some samples of a cache's split once, in an order that depends on `kept`, `seed` and `epoch` only. `kept` lists
    /// their ids, ascending; pages that contain none of them are not read.
    pub(crate) fn shuffled_among(
        &self,
        split: &str,
        kept: &[u64],
        seed: u64,
        epoch: u64,
        skip: u64,
    ) -> Result<Samples> {
        match self {
            Self::Cache(reader) => Ok(taught(reader.shuffled_among(split, kept.to_vec(), seed, epoch, skip)?)),
            Self::Both(first, second) => {
                beside(taught(first.shuffled_among(split, kept.to_vec(), seed, epoch, skip)?), second, split)
            }
            Self::Labels(_) => Err(Error::NoTeacher),
        }
    }
}

/// Rejects the second of two caches if one of the properties differs, each given with its value in both.
pub(crate) fn check_same<const N: usize>(
    (first, second): (&CacheReader, &CacheReader),
    properties: [(&'static str, String, String); N],
    requirement: &'static str,
) -> Result<()> {
    let Some((property, first_value, second_value)) = properties.into_iter().find(|(_, a, b)| a != b) else {
        return Ok(());
    };
    let [first, second] = [first, second].map(|cache| cache.folder().to_owned());
    Err(Box::new(CacheDifference { first, second, property, first_value, second_value, requirement }).into())
}

/// The first `max_length` tokens of a sample and the teachers' rows for them.
pub(crate) fn prefix((mut sample, mut rows): DistillSample, max_length: usize) -> DistillSample {
    sample.truncate(max_length);
    for rows in &mut rows {
        rows.truncate(sample.position_count());
    }
    (sample, rows)
}

fn taught(rows: impl Iterator<Item = logitcask_cache::Result<CachedSample>> + Send + 'static) -> Samples {
    Box::new(rows.map(|row| row.map(|row| (row.sample, vec![row.rows])).map_err(Error::from)))
}

fn labelled(dataset: Arc<dyn Dataset>, split: &str, ids: Vec<u64>) -> Samples {
    let split = split.to_owned();
    Box::new(ids.into_iter().map(move |id| Ok((dataset.sample(&split, SampleId(id))?, Vec::new()))))
}

/// Number of decoded groups of the second cache's samples to hold: more than the shuffle window of the first cache.
const GROUPS: usize = 96;

/// Reads a second cache in the order of a first.
struct AlignedReader {
    reader: CacheReader,
    split: String,
    groups: Vec<Range<u64>>,
    /// Decoded groups, newest last.
    near: VecDeque<(Range<u64>, HashMap<u64, CachedSample>)>,
}

/// Adds the second teacher's rows to samples that have the first teacher's.
fn beside(first: Samples, second: &CacheReader, split: &str) -> Result<Samples> {
    let groups = second.groups(split)?;
    let mut second = AlignedReader { reader: second.clone(), split: split.to_owned(), groups, near: VecDeque::new() };
    Ok(Box::new(first.map(move |taught| {
        let (sample, mut rows) = taught?;
        rows.push(second.rows_of(&sample)?);
        Ok((sample, rows))
    })))
}

impl AlignedReader {
    fn rows_of(&mut self, sample: &Sample) -> Result<SoftRows> {
        let id = sample.id.0;
        if !self.near.iter().any(|(ids, _)| ids.contains(&id)) {
            let group = self.groups.partition_point(|ids| ids.end <= id);
            let missing = || Error::NoSecondSample { split: self.split.clone(), sample: id };
            let ids = self.groups.get(group).cloned().ok_or_else(missing)?;
            let read = self.reader.range(&self.split, ids.clone())?;
            let read = read.into_iter().map(|row| (row.sample.id.0, row)).collect();
            self.near.push_back((ids, read));
            if self.near.len() > GROUPS {
                self.near.pop_front();
            }
        }
        let found = self.near.iter().find_map(|(_, group)| group.get(&id));
        match found {
            Some(found) if found.sample == *sample => Ok(found.rows.clone()),
            _ => Err(Error::SamplesDiffer { split: self.split.clone(), sample: id }),
        }
    }
}
