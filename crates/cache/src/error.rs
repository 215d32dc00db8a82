//! Errors of reading and writing a cache, each with the file, what was expected and a possible remedy.

use crate::row_problem::RowProblem;
use crate::shard_part::ShardPart;
use logitcask_core::{ConfigError, Fingerprint};
use parquet::errors::ParquetError;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// How damaged files are made again, in the words of errors about them. A cache does not say which program made it.
pub const REBUILD: &str =
    "rebuild it with `logitcask repair RECIPE`, or with the `logitcask import` or `export` that made the cache";

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a cache's writer or reader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system reported an error, such as a full disk, a read-only folder, or a missing path.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed, as a verb and its object.
        action: &'static str,
        /// The operating system's error.
        reason: io::Error,
    },
    /// A plan from which no cache can be written.
    #[error("this plan cannot be written: {problem}")]
    BadPlan {
        /// The rejected field, and what would be accepted.
        problem: ConfigError,
    },
    /// The folder contains a cache made from another plan.
    #[error(
        "{} holds a cache of another plan ({}): name another folder, or restore the settings of that cache",
        path.display(),
        differences.join("; ")
    )]
    OtherPlan {
        /// The folder.
        path: PathBuf,
        /// One sentence for each field that differs.
        differences: Vec<String>,
    },
    /// The folder contains something else.
    #[error(
        "{}: the folder contains `{found}`, so no cache is started in it: name an empty or a new folder",
        path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// One of the files or folders in it.
        found: String,
    },
    /// The folder has no plan.
    #[error("{}: {}", path.display(), not_a_cache(path))]
    NotACache {
        /// The folder.
        path: PathBuf,
    },
    /// The cache was not finished: it has no manifest.
    #[error(
        "{}: only {committed} of {units} units are committed, so the cache is incomplete: run `logitcask cache` again \
         to finish it",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// Number of units that are committed.
        committed: usize,
        /// Number of units in the plan.
        units: usize,
    },
    /// The file has a format version that this build does not support.
    #[error(
        "{}: format version {got}, but this build reads version {expected}: make the cache again with `logitcask cache \
         RECIPE --replace`, or use the version of the program that made it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// [`crate::FORMAT_VERSION`].
        expected: u32,
        /// The file's version.
        got: u32,
    },
    /// A plan, commit, manifest or footer that our writer would never produce.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file's bytes do not have the pinned hash.
    #[error(
        "{}: the BLAKE3 hash is {got} instead of the recorded {expected}: the file was changed or damaged; restore \
         it, or {rebuild}",
        path.display(),
        rebuild = REBUILD
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The hash in the manifest or plan.
        expected: Fingerprint,
        /// The hash of the bytes.
        got: Fingerprint,
    },
    /// A row group or the footer of a shard does not have the recorded hash.
    #[error(
        "{}: {part}: the BLAKE3 hash is {got} instead of the recorded {expected}: the file was changed or damaged; \
         restore it, or {rebuild}",
        path.display(),
        rebuild = REBUILD
    )]
    Damaged {
        /// The shard.
        path: PathBuf,
        /// The damaged part of it.
        part: Box<ShardPart>,
        /// The hash in the manifest.
        expected: Fingerprint,
        /// The hash of the bytes.
        got: Fingerprint,
    },
    /// The shard does not have the length that its manifest states.
    #[error(
        "{}: {got} bytes instead of the {expected} in the manifest: the file was truncated or changed; restore it, or \
         {rebuild}",
        path.display(),
        rebuild = REBUILD
    )]
    Size {
        /// The shard.
        path: PathBuf,
        /// The length in the manifest.
        expected: u64,
        /// The length of the file.
        got: u64,
    },
    /// A shard without a commit differs from the bytes that this run produced.
    #[error(
        "{}: this shard has no commit, and its bytes (BLAKE3 {}) differ from those of this run ({}): another teacher \
         or device wrote it; if no other run is active, remove the file and run the command again",
        path.display(), got.short(), expected.short()
    )]
    ForeignShard {
        /// The shard.
        path: PathBuf,
        /// Hash of the bytes that this run would have written.
        expected: Fingerprint,
        /// Hash of the existing bytes.
        got: Fingerprint,
    },
    /// A lost shard was rebuilt, but with other bytes than it had.
    #[error(
        "{}: the {part} of the rebuilt shard has the BLAKE3 hash {} instead of the recorded {}: another device, \
         precision or version of the program wrote the original; nothing was changed. Rebuild it where the cache was \
         written, or write a new cache",
        path.display(), got.short(), expected.short()
    )]
    Rebuilt {
        /// The shard.
        path: PathBuf,
        /// The first part of it that differs.
        part: Box<ShardPart>,
        /// The hash in its commit.
        expected: Fingerprint,
        /// The hash of the bytes that this run produced.
        got: Fingerprint,
    },
    /// A writer was given a row that must not be written.
    #[error("split `{split}`, sample {sample}: {problem}")]
    BadRow {
        /// The split.
        split: String,
        /// The sample's id in the split.
        sample: u64,
        /// What is wrong.
        problem: RowProblem,
    },
    /// A stored row cannot be a teacher's output for its input.
    #[error("{}, row {row} (sample {sample}): {problem}", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// Index of the row in the shard, from 0.
        row: u64,
        /// The id of the sample that belongs there.
        sample: u64,
        /// What is wrong.
        problem: RowProblem,
    },
    /// Parquet data could not be written or read.
    #[error("{}: {reason}", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// The Parquet crate's error.
        reason: ParquetError,
    },
    /// The cache has no such split.
    #[error("this cache has no split `{split}`; its splits are {}", there.join(", "))]
    NoSplit {
        /// The requested split.
        split: String,
        /// The splits of the cache.
        there: Vec<String>,
    },
    /// The cache has no such extra column.
    #[error(
        "{}: this cache has no extra column `{column}`, {}; caching with [cache.extras.{column}] makes one", path.display(),
        if there.is_empty() { "and no other".to_owned() } else { format!("only {}", there.join(", ")) }
    )]
    NoExtra {
        /// The cache's folder.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The extra columns of the cache.
        there: Vec<String>,
    },
    /// The split has no such sample.
    #[error("split `{split}` has samples 0..{len}, so there is no sample {sample}")]
    NoSample {
        /// The split.
        split: String,
        /// The requested id.
        sample: u64,
        /// Number of samples in the split.
        len: u64,
    },
}

impl Error {
    /// For `map_err`: adds the path and the operation that failed.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io { path: path.to_owned(), action, reason }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Display) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }
}

fn not_a_cache(path: &Path) -> String {
    match (path.is_dir(), path.exists()) {
        (true, _) => format!("this is not a cache: the folder has no {}", crate::PLAN_NAME),
        (false, true) => "this is not a cache: a cache is a folder".to_owned(),
        (false, false) => "there is no such folder".to_owned(),
    }
}
