//! What can stop stage 1.

use crate::select::RowProblem;
use logitcask_core::SampleId;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can stop stage 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] logitcask_cache::Error),
    /// A teacher produced a row that cannot be kept.
    #[error("split `{split}`, sample {}, position {position}: {problem}; nothing of this unit was written", sample.0)]
    BadRow {
        /// The split.
        split: String,
        /// The sample.
        sample: SampleId,
        /// The position in it, counted from 0.
        position: usize,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// A token the teacher has no embedding for.
    #[error("split `{split}`, sample {}: token {token} is outside the teacher's vocabulary of {vocab_size}; is this the teacher's tokenizer?", sample.0)]
    Token {
        /// The split.
        split: String,
        /// The sample.
        sample: SampleId,
        /// The token.
        token: u32,
        /// Number of the teacher's classes.
        vocab_size: usize,
    },
    /// A sample of which no token can be foretold.
    #[error("split `{split}`, sample {}: it has fewer than two tokens, so a teacher has nothing to say about it", sample.0)]
    Short {
        /// The split.
        split: String,
        /// The sample.
        sample: SampleId,
    },
    /// The dataset does not give a sample that the plan names.
    #[error(transparent)]
    Dataset(#[from] logitcask_data::Error),
    /// Nothing can be sampled.
    #[error("cannot sample: {0}")]
    Sampling(String),
    /// Reading a tensor back from the device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// A later stage stopped; its own error is the one that is reported.
    #[error("a later stage stopped")]
    Closed,
    /// The run was asked to stop.
    #[error("stopped after {committed} of {units} units; run the same command again to go on")]
    Interrupted {
        /// Units committed so far.
        committed: usize,
        /// Units in all.
        units: usize,
    },
}
