//! Writing the samples of sources into a cache.

use crate::error::{Error, Result};
use crate::fingerprint;
use crate::rows::{Rules, Tally, take};
use crate::source::Source;
use logitcask_cache::CacheWriter;
use logitcask_core::{Fingerprint, RowErrors};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most kept classes of a unit, which bounds the memory of each thread: 128 MiB.
const UNIT_ENTRIES: u64 = 1 << 24;
/// Most samples of a unit.
const UNIT_SAMPLES: u64 = 1024;

/// A split of the cache and the source of its samples.
pub struct Split {
    /// Its name.
    pub name: String,
    /// Where its samples are.
    pub source: Box<dyn Source>,
}

/// Identifies the samples and rows of a cache that is made from these splits, as the fingerprint of its dataset.
///
/// # Errors
/// A file that cannot be read.
pub fn dataset_fingerprint(splits: &[Split], renormalise: bool) -> Result<Fingerprint> {
    let prints: Vec<Fingerprint> = splits.iter().map(|split| split.source.fingerprint()).collect::<Result<_>>()?;
    let splits = splits.iter().map(|split| split.name.as_str()).zip(prints);
    Ok(fingerprint::of_splits(&renormalise, splits))
}

/// Number of samples of a unit, for samples of up to `max_length` tokens and `max_kept` classes at each.
pub fn samples_per_unit(max_length: u32, max_kept: u32) -> u64 {
    (UNIT_ENTRIES / (u64::from(max_length) * u64::from(max_kept)).max(1)).clamp(1, UNIT_SAMPLES)
}

/// Writes the units of the cache that are missing; returns what was found in them, or `None` if `stop` was set.
/// `on_sample` is called after each sample.
///
/// # Errors
/// The first sample or position that cannot be taken over, with its file; errors of the cache.
pub fn fill(
    splits: &[Split],
    writer: &CacheWriter,
    rules: &Rules,
    stop: &AtomicBool,
    on_sample: &(dyn Fn() + Sync),
) -> Result<Option<Tally>> {
    let write = |unit: usize| match stop.load(Ordering::Relaxed) {
        true => Ok(None),
        false => write_unit(splits, writer, unit, rules, on_sample).map(Some),
    };
    let tallies: Vec<Option<Tally>> = writer.pending()?.into_par_iter().map(write).collect::<Result<_>>()?;
    let mut sum = Tally::default();
    for tally in tallies {
        let Some(tally) = tally else { return Ok(None) };
        sum += tally;
    }
    Ok(Some(sum))
}

fn write_unit(
    splits: &[Split],
    writer: &CacheWriter,
    unit: usize,
    rules: &Rules,
    on_sample: &(dyn Fn() + Sync),
) -> Result<Tally> {
    let range = writer.plan().unit(unit);
    let (mut tally, mut errors) = (Tally::default(), RowErrors::new(&rules.keep));
    let (mut places, mut rows) = (Vec::new(), Vec::new());
    for split in splits.iter().filter(|split| split.name == range.split) {
        for (foreign, id) in split.source.samples(range.ids())?.zip(range.ids()) {
            let foreign = foreign?;
            places.push(foreign.place.clone());
            rows.push(take(foreign, id, rules, &mut errors, &mut tally)?);
            on_sample();
        }
    }
    match writer.write_unit(unit, &rows, &errors) {
        Ok(_) => Ok(tally),
        // The writer knows the sample by its id only.
        Err(logitcask_cache::Error::BadRow { split, sample, problem }) => {
            let place = sample.checked_sub(range.start).and_then(|index| places.into_iter().nth(index as usize));
            Err(match place {
                Some(place) => Error::Sample { place, problem: problem.to_string() },
                None => logitcask_cache::Error::BadRow { split, sample, problem }.into(),
            })
        }
        Err(error) => Err(error.into()),
    }
}
