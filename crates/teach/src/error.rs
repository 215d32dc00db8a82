//! Errors of stage 1.

use logitcask_core::{Sample, SampleId};
use logitcask_remote::AnswerProblem;
use logitcask_select::RowProblem;
use std::path::{Path, PathBuf};

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
    /// The teacher's row for a token of a prompt cannot be told.
    #[error("prompt {prompt}, position {position}: {problem}")]
    BadPrompt {
        /// Index of the prompt.
        prompt: usize,
        /// The position in the prompt, counted from 0.
        position: usize,
        /// Why the row cannot be told.
        problem: RowProblem,
    },
    /// A server's answer that is none to what was asked, or whose numbers are not those of a model at T = 1.
    #[error("split `{split}`, sample {}, position {position}: {problem}; no row of this unit was written", sample.0)]
    BadAnswer {
        /// The split of the sample.
        split: String,
        /// The sample's id.
        sample: SampleId,
        /// The position in the sample, counted from 0.
        position: usize,
        /// What is wrong with the answer.
        problem: AnswerProblem,
    },
    /// A server could not be asked.
    #[error("split `{split}`, samples {}: {problem}; no row of this unit was written", listed(samples))]
    NoAnswer {
        /// The split of the samples.
        split: String,
        /// The samples of the request.
        samples: Vec<SampleId>,
        /// Why there is no answer.
        problem: Box<logitcask_remote::Error>,
    },
    /// A server failed at a request, before its samples are named ([`Self::NoAnswer`], [`Self::BadAnswer`]).
    #[error(transparent)]
    Remote(Box<logitcask_remote::Error>),
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
    /// A file of hidden states that cannot be taken over.
    #[error("{}: {problem}", path.display())]
    HiddenStates {
        /// The file or folder.
        path: PathBuf,
        /// What was found, where in the file, what was expected, and what to do.
        problem: String,
    },
    /// A file of hidden states that is not one of safetensors, or cannot be read.
    #[error(transparent)]
    Tensors(Box<logitcask_model::Error>),
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

/// Numbers of samples that an error lists.
const LISTED: usize = 4;

/// The ids of the first samples.
fn listed(samples: &[SampleId]) -> String {
    let ids: Vec<String> = samples.iter().take(LISTED).map(|id| id.0.to_string()).collect();
    let more = samples.len().saturating_sub(LISTED);
    ids.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

impl From<logitcask_remote::Error> for Error {
    fn from(error: logitcask_remote::Error) -> Self {
        Self::Remote(Box::new(error))
    }
}

impl From<logitcask_model::Error> for Error {
    fn from(error: logitcask_model::Error) -> Self {
        Self::Tensors(Box::new(error))
    }
}

impl Error {
    pub(crate) fn states(path: &Path, problem: impl Into<String>) -> Self {
        Self::HiddenStates { path: path.to_owned(), problem: problem.into() }
    }

    /// The same error of a server, with the samples named that these of `split` were asked for.
    pub(crate) fn of_samples(self, split: &str, samples: &[Sample]) -> Self {
        let Self::Remote(error) = self else { return self };
        let split = split.to_owned();
        match *error {
            logitcask_remote::Error::Answer { prompt, position, problem } => {
                Self::BadAnswer { split, sample: samples[prompt].id, position, problem }
            }
            problem => {
                let samples = samples.iter().map(|sample| sample.id).collect();
                Self::NoAnswer { split, samples, problem: Box::new(problem) }
            }
        }
    }
}
