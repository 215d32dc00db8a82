//! The interface of datasets: deterministic, ordered, addressable samples.

use crate::error::Result;
use logitcask_core::{Fingerprint, PositionChoice, Sample, SampleId};
use std::collections::BTreeMap;
use std::ops::Range;

/// Samples in a fixed order, each identified by its split and its index in it.
///
/// A sample may be created or read on request, which may fail; the number of samples and their lengths are known
/// without it.
pub trait Dataset: Send + Sync {
    /// Name and number of samples of every nonempty split: train, validation, test, then others by name.
    fn splits(&self) -> Vec<(String, u64)>;

    /// Number of samples of a split; 0 if it does not exist.
    fn len(&self, split: &str) -> u64;

    /// Number of tokens of a sample, without loading it.
    ///
    /// # Errors
    /// [`Error::NoSample`](crate::Error::NoSample) if the split has no such index or does not exist; any error in
    /// accessing the dataset's storage.
    fn length_of(&self, split: &str, id: SampleId) -> Result<usize>;

    /// Returns a sample.
    ///
    /// # Errors
    /// The same as for [`length_of`](Self::length_of).
    fn sample(&self, split: &str, id: SampleId) -> Result<Sample>;

    /// Changes whenever any sample, its origin, its index or its split does.
    fn fingerprint(&self) -> Fingerprint;

    /// Name for file names and headings.
    fn name(&self) -> &str;

    /// Maximum number of tokens of a sample.
    fn max_length(&self) -> usize;

    /// What determines how its conversations are written and what is learned of them, by name: the template's hash, the
    /// date, variables. Empty for other datasets.
    fn rendering(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Whether it marks positions: samples are then returned with [`Positions::Chosen`](logitcask_core::Positions).
    fn marks_positions(&self) -> bool {
        false
    }

    /// Number of positions of a sample as [`sample`](Self::sample) returns it, without loading it.
    ///
    /// # Errors
    /// The same as for [`length_of`](Self::length_of).
    fn position_count(&self, split: &str, id: SampleId) -> Result<usize> {
        Ok(self.length_of(split, id)?.saturating_sub(1))
    }

    /// Total number of positions that `choice` chooses of samples of a split.
    ///
    /// # Errors
    /// The same as for [`length_of`](Self::length_of).
    fn positions(&self, split: &str, ids: Range<u64>, choice: &PositionChoice) -> Result<u64> {
        let of_sample = |id: u64| match choice.is_all() {
            true => Ok(self.length_of(split, SampleId(id))?.saturating_sub(1) as u64),
            false => Ok(choice.count_of(self.position_count(split, SampleId(id))?) as u64),
        };
        ids.map(of_sample).sum()
    }
}
