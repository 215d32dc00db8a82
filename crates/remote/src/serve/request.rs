//! What a client asks for, and what of it is not understood.

use super::ServedModel;
use serde::Deserialize;

/// Tokens that are generated if a request does not say how many: the interface's default.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// The body of a request, with every key that is understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: Option<String>,
    prompt: Prompt,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<u64>,
    stream: Option<bool>,
    #[serde(default)]
    echo: bool,
    logprobs: Option<u32>,
    prompt_logprobs: Option<u32>,
    #[serde(default)]
    return_token_ids: bool,
    #[serde(default)]
    return_tokens_as_token_ids: bool,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

const fn yes() -> bool {
    true
}

/// One or several prompts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `prompt` to be a text, a list of token ids, or a list of these")]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

/// A request that can be answered.
pub(super) struct CompletionRequest {
    pub(super) prompts: Vec<Vec<u32>>,
    /// Whether one token follows each prompt.
    pub(super) generates: bool,
    /// How many likeliest classes `prompt_logprobs` asks for.
    pub(super) prompt_logprobs: Option<u32>,
    /// How many likeliest classes `logprobs` asks for.
    pub(super) logprobs: Option<u32>,
    pub(super) echo: bool,
    pub(super) return_token_ids: bool,
    pub(super) names_by_id: bool,
}

impl CompletionRequest {
    /// Reads a request; fails with what is not understood and what is.
    pub(super) fn read(body: &[u8], model: &dyn ServedModel) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(body).map_err(|e| format!("the request is not understood: {e}"))?;
        body.check(model)?;
        let this = Self {
            prompts: prompts(body.prompt, body.add_special_tokens, model)?,
            generates: body.max_tokens == Some(1),
            prompt_logprobs: body.prompt_logprobs,
            logprobs: body.logprobs,
            echo: body.echo,
            return_token_ids: body.return_token_ids,
            names_by_id: body.return_tokens_as_token_ids,
        };
        this.check_prompts(model)?;
        Ok(this)
    }

    /// Number of likeliest classes that the model is to say at each position: at least one, which may follow.
    pub(super) fn likeliest(&self) -> u32 {
        self.prompt_logprobs.max(self.logprobs).unwrap_or(0).max(1)
    }

    fn check_prompts(&self, model: &dyn ServedModel) -> Result<(), String> {
        let (vocab_size, room) = (model.vocab_size(), model.max_length() - usize::from(self.generates));
        for (index, prompt) in self.prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(format!("prompt {index} has no token"));
            }
            if prompt.len() > room {
                return Err(format!(
                    "prompt {index} has {} tokens; this model's maximum context length is {}, of which max_tokens \
                     leaves {room}",
                    prompt.len(),
                    model.max_length()
                ));
            }
            if let Some(token) = prompt.iter().find(|&&token| token >= vocab_size) {
                return Err(format!("prompt {index}: token {token} is outside the vocabulary of {vocab_size} tokens"));
            }
        }
        Ok(())
    }
}

impl Body {
    /// Refuses values that are not understood, by name.
    fn check(&self, model: &dyn ServedModel) -> Result<(), String> {
        if let Some(name) = self.model.as_ref().filter(|name| *name != model.name()) {
            return Err(format!("model = {name:?}: there is only {:?}", model.name()));
        }
        let max_tokens = self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        if max_tokens > 1 {
            return Err(format!("max_tokens = {max_tokens}: no texts are generated here; it must be 0 or 1"));
        }
        if self.temperature.is_some_and(|t| t != 1.0 && t != 0.0) {
            return Err(
                "temperature: log-probabilities are given at 1, and a token that follows is the likeliest; it \
                        must be 0 or 1"
                    .to_owned(),
            );
        }
        if self.top_p.is_some_and(|p| p != 1.0) {
            return Err("top_p: no class is left out here; it must be 1".to_owned());
        }
        if self.n.is_some_and(|n| n != 1) {
            return Err("n: there is one answer to a prompt; it must be 1".to_owned());
        }
        if self.stream == Some(true) {
            return Err("stream: answers are sent whole; it must be false".to_owned());
        }
        let most = model.vocab_size();
        for (key, k) in [("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)] {
            if let Some(k) = k.filter(|k| *k > most) {
                return Err(format!("{key} = {k}: the vocabulary has {most} tokens"));
            }
        }
        if self.echo && self.prompt_logprobs.is_some() {
            return Err("echo and prompt_logprobs ask for the same; leave one of them out".to_owned());
        }
        Ok(())
    }
}

/// The tokens of every prompt.
fn prompts(prompt: Prompt, with_start: bool, model: &dyn ServedModel) -> Result<Vec<Vec<u32>>, String> {
    let encode = |text: &String| model.encode(text, with_start).map_err(|problem| format!("prompt: {problem}"));
    match prompt {
        Prompt::Text(text) => Ok(vec![encode(&text)?]),
        Prompt::Texts(texts) => texts.iter().map(encode).collect(),
        Prompt::Tokens(tokens) => Ok(vec![tokens]),
        Prompt::TokenLists(lists) => Ok(lists),
    }
}
