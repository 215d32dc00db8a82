//! What can stop stage 2.

use logitcask_core::Fingerprint;
use std::path::{Path, PathBuf};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can stop stage 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] logitcask_cache::Error),
    /// The dataset does not give a sample.
    #[error(transparent)]
    Dataset(#[from] logitcask_data::Error),
    /// The operating system refused.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its reason.
        reason: std::io::Error,
    },
    /// A checkpoint that a run cannot go on from, and there is none to fall back on.
    #[error("{path}: {problem}; put it back from a copy, or train anew in another run folder")]
    Checkpoint {
        /// The checkpoint's folder, or the file in it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A checkpoint of another run.
    #[error(
        "{path}: it is of the run {}, and this is the run {}; train in another run folder, or move this one aside",
        there.short(),
        wanted.short()
    )]
    OtherRun {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The run it is of.
        there: Fingerprint,
        /// The run that is to go on.
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
    /// The thread that makes batches died.
    #[error("the thread that makes batches died: {reason}")]
    Loader {
        /// What it said.
        reason: String,
    },
    /// Soft targets are asked for where there are only labels.
    #[error("the loss asks for a teacher, but this run has none; name a [teacher] or set [loss] alpha = 0")]
    NoTeacher,
    /// The recipe's numbers make no sense together.
    #[error("{0}")]
    Config(String),
    /// A key of the recipe has a value that is not accepted.
    #[error(transparent)]
    Refused(#[from] logitcask_core::ConfigError),
    /// A split without a sample.
    #[error("split `{split}` has no samples")]
    EmptySplit {
        /// Its name.
        split: String,
    },
    /// Something stopped being a finite number.
    #[error("step {step}: {what}; lower the learning rate, or look at the last lines of metrics.jsonl")]
    Diverged {
        /// The step.
        step: u64,
        /// What it was, and what it is.
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
