//! Offers the completions interface for a model.

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod connection;
#[cfg_attr(not(feature = "http"), path = "serve/not_built.rs")]
mod http;
#[cfg(feature = "http")]
mod request;
#[cfg(feature = "http")]
mod routes;

pub use http::{Listener, serve};

/// Log-probabilities at one position of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionLogProbs {
    /// The likeliest classes with their log-probabilities at T = 1, largest first, ties to the lower id.
    pub likeliest: Vec<(u32, f32)>,
    /// Log-probability of the next token.
    pub label_log_prob: f32,
    /// Number of classes that are at least as probable as the next token, itself included.
    pub label_rank: u64,
}

/// Log-probabilities at every token of a prompt that has a next one, and perhaps at the last, whose label is then class
/// 0.
pub type PromptLogProbs = Vec<PositionLogProbs>;

/// A model that is offered.
pub trait ServedModel: Sync {
    /// The name in requests and answers.
    fn name(&self) -> &str;

    /// What tells this model from others.
    fn fingerprint(&self) -> String;

    /// Number of tokens that can be asked for.
    fn vocab_size(&self) -> u32;

    /// Largest number of tokens of a prompt and what follows it.
    fn max_length(&self) -> usize;

    /// The tokens of a text, behind the start token if `with_start`.
    ///
    /// # Errors
    /// Why the text cannot be tokenised.
    fn encode(&self, text: &str, with_start: bool) -> Result<Vec<u32>, String>;

    /// The text of some tokens.
    fn decode(&self, tokens: &[u32]) -> String;

    /// What the model says of some prompts, with the `k` likeliest classes of each position, and at the last token too
    /// if it `generates`. Prompts have at least one token and, with what is generated, at most [`Self::max_length`];
    /// their tokens are below [`Self::vocab_size`].
    ///
    /// # Errors
    /// Why the model failed.
    fn log_probs(&self, prompts: &[Vec<u32>], k: u32, generates: bool) -> Result<Vec<PromptLogProbs>, String>;
}
