//! What a server answers, and its comparison with what was asked.

use super::entries::{Entries, Ranked};
use super::finite::with_nulls;
use crate::{AnswerPosition, AnswerProblem, Entry, Error, Result};
use serde::Deserialize;

/// What stands before an id that is given as a token's text.
const ID: &str = "token_id:";

/// An answer to a request for completions.
#[derive(Deserialize)]
pub(super) struct Completion {
    choices: Vec<Choice>,
}

/// The answer to one prompt.
#[derive(Deserialize)]
struct Choice {
    index: usize,
    prompt_logprobs: Option<Vec<Option<Entries<Ranked>>>>,
    prompt_token_ids: Option<Vec<u32>>,
    logprobs: Option<Echoed>,
}

/// The tokens of a prompt and what follows it, each with log-probabilities.
#[derive(Deserialize)]
struct Echoed {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Option<Vec<Option<Top>>>,
}

/// The log-probabilities of some classes.
type Top = Entries<Option<f64>>;

/// A position and what is wrong there.
pub(super) type AtPosition = (usize, AnswerProblem);

impl Completion {
    /// Reads an answer; fails with the problem in words.
    pub(super) fn read(body: &[u8]) -> std::result::Result<Self, String> {
        serde_json::from_slice(&with_nulls(body)).map_err(|e| e.to_string())
    }
}

/// What an answer tells of each prompt, compared with the prompts. The request was for an echo, or for
/// `prompt_logprobs`.
pub(super) fn positions_of(
    completion: Completion,
    prompts: &[&[u32]],
    is_echo: bool,
) -> Result<Vec<Vec<AnswerPosition>>> {
    let mut of_prompt: Vec<Vec<Choice>> = prompts.iter().map(|_| Vec::new()).collect();
    for choice in completion.choices {
        if let Some(choices) = of_prompt.get_mut(choice.index) {
            choices.push(choice);
        }
    }
    let told = |(prompt, (choices, sent)): (usize, (Vec<Choice>, &&[u32]))| {
        let got = choices.len();
        let mut choices = choices.into_iter();
        let told = match (choices.next(), got) {
            (Some(choice), 1) if is_echo => choice.echo(sent),
            (Some(choice), 1) => choice.prompt_logprobs(sent),
            _ => Err((0, AnswerProblem::Choices { got })),
        };
        told.map_err(|(position, problem)| Error::Answer { prompt, position, problem })
    };
    of_prompt.into_iter().zip(prompts).enumerate().map(told).collect()
}

impl Choice {
    /// What `prompt_logprobs` tells.
    fn prompt_logprobs(self, sent: &[u32]) -> std::result::Result<Vec<AnswerPosition>, AtPosition> {
        let listed = self.prompt_logprobs.ok_or((0, AnswerProblem::Missing { key: "prompt_logprobs" }))?;
        let ids = self.prompt_token_ids.ok_or((0, AnswerProblem::NoTokenIds))?;
        compare(sent, &ids.iter().map(u32::to_string).collect::<Vec<_>>())?;
        check_length(sent.len(), listed.len())?;
        let told = |(position, entries): (usize, Option<Entries<Ranked>>)| {
            let Entries(members) = entries.ok_or((position, AnswerProblem::NoEntries))?;
            let entry = |(name, ranked): (String, Ranked)| {
                let class = class(&name).ok_or((position, AnswerProblem::Text { text: name }))?;
                Ok(Entry { class, log_prob: ranked.logprob.unwrap_or(f64::NAN), rank: ranked.rank })
            };
            Ok(AnswerPosition {
                entries: members.into_iter().map(entry).collect::<std::result::Result<_, _>>()?,
                label_log_prob: None,
            })
        };
        listed.into_iter().skip(1).enumerate().map(told).collect()
    }

    /// What `echo` with `logprobs` tells.
    fn echo(self, sent: &[u32]) -> std::result::Result<Vec<AnswerPosition>, AtPosition> {
        let Echoed { tokens, token_logprobs, top_logprobs } =
            self.logprobs.ok_or((0, AnswerProblem::Missing { key: "logprobs" }))?;
        let listed = top_logprobs.ok_or((0, AnswerProblem::Missing { key: "top_logprobs" }))?;
        if let Some(text) = tokens.iter().find(|token| !token.starts_with(ID)) {
            return Err((0, AnswerProblem::Text { text: text.clone() }));
        }
        compare(sent, &tokens.iter().map(|token| token[ID.len()..].to_owned()).collect::<Vec<_>>())?;
        check_length(sent.len(), listed.len())?;
        check_length(sent.len(), token_logprobs.len())?;
        let told = |(position, (entries, own)): (usize, (Option<Top>, Option<f64>))| {
            let Entries(members) = entries.ok_or((position, AnswerProblem::NoEntries))?;
            let entry = |(name, log_prob): (String, Option<f64>)| {
                let class = name.strip_prefix(ID).and_then(class);
                let class = class.ok_or((position, AnswerProblem::Text { text: name }))?;
                Ok(Entry { class, log_prob: log_prob.unwrap_or(f64::NAN), rank: None })
            };
            let entries = members.into_iter().map(entry).collect::<std::result::Result<_, _>>()?;
            Ok(AnswerPosition { entries, label_log_prob: Some(own.unwrap_or(f64::NAN)) })
        };
        listed.into_iter().zip(token_logprobs).skip(1).enumerate().map(told).collect()
    }
}

/// A class that is named by its id.
fn class(name: &str) -> Option<u32> {
    name.parse().ok().filter(|id: &u32| id.to_string() == name)
}

/// Compares the tokens of an answer with those of its prompt. The position of the first that differs is the one that
/// predicts it.
pub(super) fn compare(sent: &[u32], got: &[String]) -> std::result::Result<(), AtPosition> {
    let is_other =
        |index: &usize| got.get(*index).map(String::as_str) != sent.get(*index).map(u32::to_string).as_deref();
    match (0..sent.len().max(got.len())).find(is_other) {
        None => Ok(()),
        Some(index) if index >= sent.len() => Err(positions(sent.len(), got.len())),
        Some(index) => {
            let (sent, got) = (sent[index].to_string(), got.get(index).cloned());
            Err((index.saturating_sub(1), AnswerProblem::OtherToken { index, sent, got }))
        }
    }
}

/// Compares the number of tokens of an answer with that of its prompt.
pub(super) fn check_length(expected: usize, got: usize) -> std::result::Result<(), AtPosition> {
    if expected == got { Ok(()) } else { Err(positions(expected, got)) }
}

/// The problem of an answer with another number of tokens, at the first position that it lacks or has too many.
fn positions(expected: usize, got: usize) -> AtPosition {
    (expected.min(got).saturating_sub(1), AnswerProblem::Positions { expected, got })
}
