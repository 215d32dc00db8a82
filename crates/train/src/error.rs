//! The errors of stage 2, training.

use logitcask_core::Fingerprint;
use std::path::{Path, PathBuf};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// A property in which two caches differ although it must be the same.
#[derive(Debug, thiserror::Error)]
#[error("{second}: its {property} is {second_value}, but that of {first} is {first_value}: {requirement}")]
pub struct CacheDifference {
    /// The folder of the first cache.
    pub first: PathBuf,
    /// The folder of the second cache.
    pub second: PathBuf,
    /// The property.
    pub property: &'static str,
    /// Its value in the first cache.
    pub first_value: String,
    /// Its value in the second cache.
    pub second_value: String,
    /// What requires that it is the same.
    pub requirement: &'static str,
}

/// An error of stage 2, training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache reported an error.
    #[error(transparent)]
    Cache(#[from] logitcask_cache::Error),
    /// The dataset could not provide a sample.
    #[error(transparent)]
    Dataset(#[from] logitcask_data::Error),
    /// The model that the student starts from could not be read.
    #[error(transparent)]
    Model(#[from] logitcask_model::Error),
    /// The operating system reported an error.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// A checkpoint from which a run cannot resume, with none to fall back on.
    #[error("{path}: {problem}; put it back from a copy, or train anew in another run folder")]
    Checkpoint {
        /// The checkpoint's folder, or the file in it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A checkpoint belongs to another run.
    #[error(
        "{path}: it is of the run {}, and this is the run {}; train in another run folder, or move this one aside",
        there.short(),
        wanted.short()
    )]
    OtherRun {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The run that it belongs to.
        there: Fingerprint,
        /// The run that is to be resumed.
        wanted: Fingerprint,
    },
    /// A checkpoint cannot be written.
    #[error("{path}: cannot write it: {problem}")]
    Unwritten {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The thread that makes batches panicked.
    #[error("the thread that makes batches died: {reason}")]
    Loader {
        /// The message of the panic.
        reason: String,
    },
    /// The loss needs soft targets, but there are only labels.
    #[error("the loss needs a teacher, but this run has none; name a [teacher] or set [loss] alpha = 0")]
    NoTeacher,
    /// Two caches differ in a property that must be the same.
    #[error(transparent)]
    CachesDiffer(#[from] Box<CacheDifference>),
    /// The second of two caches lacks a sample of the first.
    #[error("split `{split}`: the second cache has no sample {sample}; make both caches from one dataset")]
    NoSecondSample {
        /// The split.
        split: String,
        /// The id of the sample.
        sample: u64,
    },
    /// Two caches have different tokens or positions in a sample.
    #[error(
        "split `{split}`, sample {sample}: the tokens or the positions differ between the two caches; make both from one dataset"
    )]
    SamplesDiffer {
        /// The split.
        split: String,
        /// The id of the sample.
        sample: u64,
    },
    /// A step has no position at which its loss could be computed.
    #[error(
        "no sample of a step has a cached position within its first tokens; raise [train] max_length or batch_size"
    )]
    EmptyBatch,
    /// A key of the recipe has a value that is not accepted.
    #[error(transparent)]
    Refused(#[from] logitcask_core::ConfigError),
    /// A split has no samples.
    #[error("split `{split}` has no samples")]
    EmptySplit {
        /// Its name.
        split: String,
    },
    /// A value is no longer finite.
    #[error("step {step}: {what}; lower the learning rate, or look at the last lines of metrics.jsonl")]
    Diverged {
        /// The step.
        step: u64,
        /// Which value, and what it became.
        what: String,
    },
    /// Reading a tensor back from the device failed.
    #[error("the device failed: {0}")]
    Device(String),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, action, reason }
    }
}
