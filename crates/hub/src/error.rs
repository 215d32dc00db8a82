//! The errors of models that are named instead of being a folder.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// A model cannot be found or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache does not have the model.
    #[error("{name}: there is no such file or folder, and no {place} in the cache of models; {remedy}")]
    Missing {
        /// The name.
        name: String,
        /// Where it would be.
        place: PathBuf,
        /// Why it is not fetched, and what to do.
        remedy: String,
    },
    /// The cache has a part of the model.
    #[error("{name}: {folder} lacks {file}; {remedy}")]
    Incomplete {
        /// The name.
        name: String,
        /// The snapshot.
        folder: PathBuf,
        /// The first file that is missing.
        file: String,
        /// Why it is not fetched, and what to do.
        remedy: String,
    },
    /// The hub has no such model, or not in a form that can be opened, or does not answer.
    #[error("{name}: there is no such file or folder, and it cannot be fetched from {endpoint}: {problem}")]
    Fetch {
        /// The name.
        name: String,
        /// The hub's address.
        endpoint: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// The model is of a kind that is not opened, so that its weights are not fetched.
    #[error("{name}: {reason}; its weights were not fetched")]
    Refused {
        /// The name.
        name: String,
        /// What the check said of its files.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system reported an error.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The operating system's error.
        reason: std::io::Error,
    },
}
