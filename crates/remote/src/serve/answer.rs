//! Answers in the words of the interface.

use super::request::CompletionRequest;
use super::{PositionLogProbs, ServedModel};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The answer to `/v1/models`.
pub(super) fn models(model: &dyn ServedModel) -> String {
    let listed = json!({
        "id": model.name(),
        "object": "model",
        "owned_by": "logitcask",
        "root": model.fingerprint(),
        "parent": Value::Null,
        "max_model_len": model.max_length(),
    });
    json!({"object": "list", "data": [listed]}).to_string()
}

/// The answer to a request for completions.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

/// The answer to one prompt.
#[derive(Serialize)]
struct Choice {
    index: usize,
    text: String,
    finish_reason: &'static str,
    logprobs: Option<Echoed>,
    prompt_logprobs: Option<Vec<Option<Members<Ranked>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
}

/// Tokens with their log-probabilities.
#[derive(Default, Serialize)]
struct Echoed {
    text_offset: Vec<usize>,
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Members<f32>>>,
}

#[derive(Serialize)]
struct Ranked {
    logprob: f32,
    rank: u64,
    decoded_token: String,
}

/// A JSON object whose members keep their order.
struct Members<V>(Vec<(String, V)>);

impl<V: Serialize> Serialize for Members<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'a> Answer<'a> {
    /// Log-probabilities of the tokens of the prompts of a request.
    pub(super) fn new(
        asked: &CompletionRequest,
        log_probs: &[super::PromptLogProbs],
        model: &'a dyn ServedModel,
    ) -> Self {
        let prompt_tokens = asked.prompts.iter().map(Vec::len).sum();
        let completion_tokens = if asked.generates { asked.prompts.len() } else { 0 };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let choices = asked.prompts.iter().zip(log_probs).enumerate();
        Self {
            id: format!("cmpl-{created:x}"),
            object: "text_completion",
            created,
            model: model.name(),
            choices: choices
                .map(|(index, (prompt, log_probs))| choice(asked, index, prompt, log_probs, model))
                .collect(),
            usage: Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
        }
    }
}

fn choice(
    asked: &CompletionRequest,
    index: usize,
    prompt: &[u32],
    log_probs: &[PositionLogProbs],
    model: &dyn ServedModel,
) -> Choice {
    let last = log_probs.last().filter(|_| asked.generates);
    let next = last.and_then(|last| last.likeliest.first()).map(|(class, _)| *class);
    // An echo is the prompt with what follows it; what follows is all there is otherwise.
    let shown: Vec<u32> = prompt.iter().copied().filter(|_| asked.echo).chain(next).collect();
    Choice {
        index,
        text: model.decode(&shown),
        finish_reason: "length",
        logprobs: asked.logprobs.map(|k| echoed(asked, prompt, log_probs, next, k, model)),
        prompt_logprobs: asked.prompt_logprobs.map(|k| prompt_logprobs(prompt, log_probs, k, model)),
        prompt_token_ids: asked.return_token_ids.then(|| prompt.to_vec()),
        token_ids: asked.return_token_ids.then(|| next.into_iter().collect()),
    }
}

/// The likeliest classes and the next token at every position but the last, for the token that follows; nothing for
/// the first token, which follows none.
fn prompt_logprobs(
    prompt: &[u32],
    log_probs: &[PositionLogProbs],
    k: u32,
    model: &dyn ServedModel,
) -> Vec<Option<Members<Ranked>>> {
    let of = |(label, log_probs): (&u32, &PositionLogProbs)| {
        let ranked = |(class, log_prob, rank): (u32, f32, u64)| {
            (class.to_string(), Ranked { logprob: log_prob, rank, decoded_token: model.decode(&[class]) })
        };
        Some(Members(listed(*label, log_probs, k).into_iter().map(ranked).collect()))
    };
    std::iter::once(None).chain(prompt.iter().skip(1).zip(log_probs).map(of)).collect()
}

/// Class, log-probability and rank of the label and of the `k` likeliest classes, in this order.
fn listed(label: u32, log_probs: &PositionLogProbs, k: u32) -> Vec<(u32, f32, u64)> {
    let likeliest = log_probs.likeliest.iter().take(k as usize).zip(1..).map(|(&(class, lp), rank)| (class, lp, rank));
    let mut all: Vec<(u32, f32, u64)> = likeliest.collect();
    match all.iter().position(|(class, ..)| *class == label) {
        Some(place) => all[..=place].rotate_right(1),
        None => all.insert(0, (label, log_probs.label_log_prob, log_probs.label_rank)),
    }
    all
}

/// The tokens of the answer's text with their log-probabilities.
fn echoed(
    asked: &CompletionRequest,
    prompt: &[u32],
    log_probs: &[PositionLogProbs],
    next: Option<u32>,
    k: u32,
    model: &dyn ServedModel,
) -> Echoed {
    let name = |class: u32| match asked.names_by_id {
        true => format!("token_id:{class}"),
        false => model.decode(&[class]),
    };
    let mut out = Echoed::default();
    let mut offset = 0;
    let mut push = |token: u32, entries: Option<Vec<(u32, f32, u64)>>| {
        let text = name(token);
        out.text_offset.push(offset);
        offset += text.chars().count();
        out.tokens.push(text);
        out.token_logprobs.push(entries.as_ref().and_then(|entries| entries.first()).map(|(_, log_prob, _)| *log_prob));
        out.top_logprobs.push(entries.map(|entries| named(entries, &name)));
    };
    if asked.echo {
        prompt.first().into_iter().for_each(|first| push(*first, None));
        prompt
            .iter()
            .skip(1)
            .zip(log_probs)
            .for_each(|(label, log_probs)| push(*label, Some(listed(*label, log_probs, k))));
    }
    if let (Some(next), Some(last)) = (next, log_probs.last()) {
        push(next, Some(listed(next, last, k.max(1))));
    }
    out
}

/// The log-probabilities of classes by their names. Of classes with one text, the first stands for all.
fn named(entries: Vec<(u32, f32, u64)>, name: &dyn Fn(u32) -> String) -> Members<f32> {
    let mut members: Vec<(String, f32)> = Vec::with_capacity(entries.len());
    for (class, log_prob, _) in entries {
        let name = name(class);
        if members.iter().all(|(other, _)| *other != name) {
            members.push((name, log_prob));
        }
    }
    Members(members)
}
