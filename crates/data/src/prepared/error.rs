//! The errors of prepared datasets.

use std::io;
use std::path::{Path, PathBuf};

/// An error of a dataset that was prepared on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreparedError {
    /// A file of the prepared dataset cannot be written.
    #[error(
        "{path}: the prepared dataset cannot be written: {cause}; it takes about as much room as the unpacked texts, beside the cache's folder (`path` in [cache])"
    )]
    Write {
        /// File or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A file of the prepared dataset is missing or not as it was written.
    #[error(
        "{path}: this part of the prepared dataset {problem}; `logitcask prepare RECIPE` makes damaged parts again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A source file changed while it was read.
    #[error("{path}: changed while the dataset was prepared; run the command again when nothing writes to it any more")]
    Changed {
        /// The source file.
        path: PathBuf,
    },
    /// A source that can be read only once.
    #[error(
        "{path}: is no regular file, so that an interrupted `prepare` could not read it again; write it to a file first"
    )]
    NotAFile {
        /// The source.
        path: PathBuf,
    },
    /// Only files of one split hold documents, although others are named.
    #[error(
        "{path}: only its files of the split `train` hold texts; remove the files of other splits, so that a share of the texts can be held out"
    )]
    OnlyTrain {
        /// The dataset.
        path: PathBuf,
    },
    /// The same source files gave another dataset than before.
    #[error(
        "{path}: the parts that were made again are another dataset than before; the source files have changed without a change of their lengths and times, so remove this folder"
    )]
    OtherDataset {
        /// The prepared dataset.
        path: PathBuf,
    },
}

impl PreparedError {
    /// For `map_err` on operations that write.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Write { path: path.to_owned(), cause }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }
}
