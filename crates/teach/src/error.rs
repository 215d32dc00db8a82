//! Errors of stage 1.

use logitcask_core::SampleId;
use logitcask_select::RowProblem;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why stage 1 stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] logitcask_cache::Error),
    /// The teacher produced a row that cannot be kept.
    #[error("split `{split}`, sample {}, position {position}: {problem}; no row of this unit was written", sample.0)]
    BadRow {
        /// The split of the sample.
        split: String,
        /// The sample's id.
        sample: SampleId,
        /// The position in the sample, counted from 0.
        position: usize,
        /// Why the row cannot be kept.
        problem: RowProblem,
    },
    /// A token for which the teacher has no embedding.
    #[error("split `{split}`, sample {}: token {token} is outside the teacher's vocabulary of {vocab_size} tokens; the tokenizer may belong to another model", sample.0)]
    Token {
        /// The split of the sample.
        split: String,
        /// The sample's id.
        sample: SampleId,
        /// The token's id.
        token: u32,
        /// Number of the teacher's classes.
        vocab_size: usize,
    },
    /// A sample without a position to predict.
    #[error("split `{split}`, sample {}: it has fewer than two tokens, so there is no position to predict", sample.0)]
    Short {
        /// The split of the sample.
        split: String,
        /// The sample's id.
        sample: SampleId,
    },
    /// The dataset could not provide a sample that the plan names.
    #[error(transparent)]
    Dataset(#[from] logitcask_data::Error),
    /// The sampling options are invalid, or the model's logits are not finite.
    #[error("cannot sample: {0}")]
    Sampling(String),
    /// Reading a tensor back from the device failed; the text is the device's message.
    #[error("the device failed: {0}")]
    Device(String),
    /// A later stage stopped. Its own error is the one that is reported.
    #[error("a later stage stopped")]
    Closed,
    /// The run was asked to stop before all units were committed.
    #[error("stopped after {committed} of {units} units; run the same command again to go on")]
    Interrupted {
        /// Units committed so far.
        committed: usize,
        /// Number of units in the plan.
        units: usize,
    },
}
