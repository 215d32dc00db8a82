//! SGLang's own interface: what `/generate` is asked, and what it answers (as in its versions 0.4.6 and 0.5.23).

use super::answer::{AtPosition, check_length, compare};
use super::finite::with_nulls;
use crate::{AnswerPosition, AnswerProblem, Entry, Error, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// A request for the log-probabilities of the tokens of some prompts, at T = 1 and without a cut of the distribution.
#[derive(Serialize)]
pub(super) struct GenerateRequest<'a> {
    input_ids: &'a [&'a [u32]],
    sampling_params: SamplingParams,
    return_logprob: bool,
    /// The first token that is told of. What is left out means the tokens that are generated, alone.
    logprob_start_len: u32,
    top_logprobs_num: u32,
    /// Older versions do not know it.
    return_prompt_token_ids: bool,
}

/// All that could change log-probabilities, since a server may have other defaults.
#[derive(Serialize)]
struct SamplingParams {
    /// Without a token that is generated, a server may tell of some positions alone (`--enable-mis`).
    max_new_tokens: u32,
    temperature: f64,
    top_p: f64,
    /// -1 is all classes.
    top_k: i32,
    min_p: f64,
}

impl<'a> GenerateRequest<'a> {
    /// For the `k` likeliest classes at every position.
    pub(super) fn new(prompts: &'a [&'a [u32]], k: u32) -> Self {
        Self {
            input_ids: prompts,
            sampling_params: SamplingParams { max_new_tokens: 1, temperature: 1.0, top_p: 1.0, top_k: -1, min_p: 0.0 },
            return_logprob: true,
            logprob_start_len: 0,
            top_logprobs_num: k,
            return_prompt_token_ids: true,
        }
    }
}

/// The answer to one prompt.
#[derive(Deserialize)]
struct Answer {
    meta_info: MetaInfo,
    prompt_token_ids: Option<Vec<u32>>,
}

/// What follows the first token has none that predicts it, so that both lists begin with nothing.
#[derive(Deserialize)]
struct MetaInfo {
    input_token_logprobs: Option<Vec<TokenLogProb>>,
    input_top_logprobs: Option<Vec<Option<Vec<TokenLogProb>>>>,
}

/// Log-probability, class and text. A number that is not finite is written as null.
type TokenLogProb = (Option<f64>, u32, IgnoredAny);

/// What the answers tell of each prompt, in the order of the prompts and compared with them.
pub(super) fn positions_of(url: String, body: &[u8], prompts: &[&[u32]]) -> Result<Vec<Vec<AnswerPosition>>> {
    let malformed = |problem: String| Error::Malformed { url, problem };
    let answers: Vec<Answer> = match serde_json::from_slice(&with_nulls(body)) {
        Ok(answers) => answers,
        Err(e) => return Err(malformed(e.to_string())),
    };
    if answers.len() != prompts.len() {
        return Err(malformed(format!("there are {} answers to {} prompts", answers.len(), prompts.len())));
    }
    let told = |(prompt, (answer, sent)): (usize, (Answer, &&[u32]))| {
        answer.positions(sent).map_err(|(position, problem)| Error::Answer { prompt, position, problem })
    };
    answers.into_iter().zip(prompts).enumerate().map(told).collect()
}

impl Answer {
    fn positions(self, sent: &[u32]) -> std::result::Result<Vec<AnswerPosition>, AtPosition> {
        let missing = |key| (0, AnswerProblem::Missing { key });
        let own = self.meta_info.input_token_logprobs.ok_or_else(|| missing("input_token_logprobs"))?;
        let listed = self.meta_info.input_top_logprobs.ok_or_else(|| missing("input_top_logprobs"))?;
        // Beside log-probabilities, the last class of the model's head is named 0.
        let named = || own.iter().map(|(_, token, _)| *token).collect();
        let ids: Vec<u32> = self.prompt_token_ids.unwrap_or_else(named);
        compare(sent, &ids.iter().map(u32::to_string).collect::<Vec<_>>())?;
        check_length(sent.len(), own.len())?;
        check_length(sent.len(), listed.len())?;
        let told = |(position, (classes, own)): (usize, (Option<Vec<TokenLogProb>>, TokenLogProb))| {
            let classes = classes.ok_or((position, AnswerProblem::NoEntries))?;
            let entry = |(log_prob, class, _): TokenLogProb| Entry { class, log_prob: number(log_prob), rank: None };
            let entries = classes.into_iter().map(entry).collect();
            Ok(AnswerPosition { entries, label_log_prob: Some(number(own.0)) })
        };
        listed.into_iter().zip(own).skip(1).enumerate().map(told).collect()
    }
}

fn number(log_prob: Option<f64>) -> f64 {
    log_prob.unwrap_or(f64::NAN)
}
