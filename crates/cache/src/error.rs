//! What can go wrong between a cache and its folder, each with the file, what was expected and what would help.

use crate::row_problem::RowProblem;
use logitcask_core::{ConfigError, Fingerprint};
use parquet::errors::ParquetError;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything a writer or reader of a cache refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no: a full disk, a read-only folder, a path that is not there.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb and its object.
        action: &'static str,
        /// The reason.
        reason: io::Error,
    },
    /// A plan that no cache can be written from.
    #[error("this plan cannot be written: {problem}")]
    BadPlan {
        /// The field that is refused, and what would do.
        problem: ConfigError,
    },
    /// The folder holds a cache made from another plan.
    #[error(
        "{} holds a cache of another plan ({}): choose another folder, or ask for the same again",
        path.display(),
        differences.join("; ")
    )]
    OtherPlan {
        /// The folder.
        path: PathBuf,
        /// One sentence for each field that differs.
        differences: Vec<String>,
    },
    /// A folder of something else.
    #[error(
        "{}: no cache is begun here, the folder holds `{found}`: name an empty folder, or one that is not there",
        path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// One of the files or folders in it.
        found: String,
    },
    /// A folder without a plan.
    #[error("{}: {}", path.display(), not_a_cache(path))]
    NotACache {
        /// The folder.
        path: PathBuf,
    },
    /// A cache whose writing stopped before its manifest.
    #[error("{}: {committed} of {units} units are committed, there is no complete cache yet: run cache again to finish it", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// Units that have their commit.
        committed: usize,
        /// Units of the plan.
        units: usize,
    },
    /// A file of a format this build does not know.
    #[error("{}: format version {got}, this build reads {expected}: use the version that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// [`crate::FORMAT_VERSION`].
        expected: u32,
        /// The file's.
        got: u32,
    },
    /// A plan, commit, manifest or footer that no writer of ours produces.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file with other bytes than those that were pinned.
    #[error("{}: BLAKE3 is {got}, {expected} was recorded: the file was changed or damaged; restore it, or let `logitcask repair RECIPE` make it anew", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What the manifest or plan says.
        expected: Fingerprint,
        /// What the bytes say.
        got: Fingerprint,
    },
    /// A shard that is shorter or longer than its manifest says.
    #[error("{}: {got} bytes, the manifest says {expected}: the file was cut or changed; restore it, or let `logitcask repair RECIPE` make it anew", path.display())]
    Size {
        /// The shard.
        path: PathBuf,
        /// The manifest's.
        expected: u64,
        /// The file's.
        got: u64,
    },
    /// A shard without a commit whose bytes are not the ones this run produced.
    #[error(
        "{}: a shard without a commit holds other bytes (BLAKE3 {}) than this run made ({}): \
         another teacher or device wrote it; where no other run is at work, remove the file and run again",
        path.display(), got.short(), expected.short()
    )]
    ForeignShard {
        /// The shard.
        path: PathBuf,
        /// Hash of what this run would have written.
        expected: Fingerprint,
        /// Hash of what is there.
        got: Fingerprint,
    },
    /// A lost shard that was made again, with other bytes than it had.
    #[error(
        "{}: made again it has BLAKE3 {}, {} was recorded: another device, precision or version of the program wrote \
         it; nothing was changed, rebuild it where the cache was written or write the whole cache anew",
        path.display(), got.short(), expected.short()
    )]
    Rebuilt {
        /// The shard.
        path: PathBuf,
        /// What its commit says.
        expected: Fingerprint,
        /// What this run made.
        got: Fingerprint,
    },
    /// A row that a writer was given and must not write.
    #[error("split `{split}`, sample {sample}: {problem}")]
    BadRow {
        /// The split.
        split: String,
        /// The sample's id in it.
        sample: u64,
        /// What is wrong.
        problem: RowProblem,
    },
    /// A stored row that is not what a teacher said about its input.
    #[error("{}, row {row} (sample {sample}): {problem}", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// Counted from 0 within the shard.
        row: u64,
        /// The sample that belongs there.
        sample: u64,
        /// What is wrong.
        problem: RowProblem,
    },
    /// Parquet could not be written or read.
    #[error("{}: {reason}", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// Its reason.
        reason: ParquetError,
    },
    /// A split the cache does not have.
    #[error("no split `{split}` in this cache, there is {}", there.join(", "))]
    NoSplit {
        /// The one asked for.
        split: String,
        /// The ones there are.
        there: Vec<String>,
    },
    /// A sample the split does not have.
    #[error("split `{split}` holds samples 0..{len}, {sample} was asked for")]
    NoSample {
        /// The split.
        split: String,
        /// The id asked for.
        sample: u64,
        /// The split's length.
        len: u64,
    },
}

impl Error {
    /// For `map_err`: what was tried with which path.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io { path: path.to_owned(), action, reason }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Display) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }
}

fn not_a_cache(path: &Path) -> String {
    match (path.is_dir(), path.exists()) {
        (true, _) => format!("not a cache, the folder has no {}", crate::PLAN_NAME),
        (false, true) => "not a cache, which is a folder".to_owned(),
        (false, false) => "there is no such folder".to_owned(),
    }
}
