//! What a completions interface is asked.

use serde::Serialize;

/// A request for the log-probabilities of the tokens of some prompts, at T = 1 and without a cut of the distribution.
#[derive(Serialize)]
pub(super) struct CompletionsRequest<'a> {
    model: &'a str,
    /// Token ids, which no server reads in another way.
    prompt: &'a [&'a [u32]],
    temperature: f64,
    top_p: f64,
    add_special_tokens: bool,
    #[serde(flatten)]
    how: How,
}

/// The keys of the two ways of asking.
#[derive(Serialize)]
#[serde(untagged)]
enum How {
    PromptLogprobs {
        /// vLLM generates at least one token.
        max_tokens: u32,
        prompt_logprobs: u32,
        return_token_ids: bool,
    },
    Echo {
        max_tokens: u32,
        echo: bool,
        logprobs: u32,
        return_tokens_as_token_ids: bool,
    },
}

impl<'a> CompletionsRequest<'a> {
    /// For the `k` likeliest classes at every position, by an echo or by `prompt_logprobs`.
    pub(super) fn new(model: &'a str, prompt: &'a [&'a [u32]], is_echo: bool, k: u32) -> Self {
        let how = match is_echo {
            true => How::Echo { max_tokens: 0, echo: true, logprobs: k, return_tokens_as_token_ids: true },
            false => How::PromptLogprobs { max_tokens: 1, prompt_logprobs: k, return_token_ids: true },
        };
        Self { model, prompt, temperature: 1.0, top_p: 1.0, add_special_tokens: false, how }
    }
}
