//! The errors of other tools' caches.

use crate::source::Place;
use std::io;
use std::path::{Path, PathBuf};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cache of another tool cannot be read, or not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed, as a verb and its object.
        action: &'static str,
        /// The operating system's error.
        reason: io::Error,
    },
    /// A file that is not what the format demands.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// A sample that cannot be taken over.
    #[error("{place}: {problem}")]
    Sample {
        /// Where it is.
        place: Place,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// A position of a sample that cannot be taken over.
    #[error("{place}: position {position}: {problem}")]
    Position {
        /// Where the sample is.
        place: Place,
        /// The position, an index into the sample's tokens.
        position: usize,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// The cache that is written or read.
    #[error(transparent)]
    Cache(#[from] logitcask_cache::Error),
}

impl Error {
    pub(crate) fn file(path: &Path, problem: impl ToString) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, action, reason }
    }
}
