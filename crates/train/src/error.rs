//! What can stop stage 2.

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
    /// A checkpoint that cannot be resumed from.
    #[error("{path}: {problem}; remove this checkpoint to resume from the one before it")]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Soft targets are asked for where there are only labels.
    #[error("the loss asks for a teacher, but this run has none; name a [teacher] or set [loss] alpha = 0")]
    NoTeacher,
    /// The recipe's numbers make no sense together.
    #[error("{0}")]
    Config(String),
    /// A split without a sample.
    #[error("split `{split}` has no samples")]
    EmptySplit {
        /// Its name.
        split: String,
    },
    /// The loss stopped being a number.
    #[error("step {step}: the loss is {loss}; lower the learning rate, or look at the last lines of metrics.jsonl")]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
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
