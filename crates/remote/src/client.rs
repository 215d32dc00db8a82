//! Asks a server.

mod answer;
mod connection;
mod entries;
mod finite;
mod request;
mod sglang;

use crate::{AnswerPosition, Error, Interface, Result, RetryPolicy, ServerModel};
use answer::{Completion, positions_of};
use connection::Connection;
use request::CompletionsRequest;
use serde::Deserialize;

/// Bytes of an answer beside its entries.
const ANSWER_BYTES: usize = 1 << 20;
/// Bytes of an entry at most: its id, its numbers and its text.
const ENTRY_BYTES: usize = 512;
/// Largest list of models.
const LIST_BYTES: usize = 16 << 20;

/// A model on a server.
pub struct Client {
    connection: Connection,
    model: String,
    interface: Interface,
}

/// The answer to `/v1/models`.
#[derive(Deserialize)]
struct Models {
    data: Vec<ServerModel>,
}

impl Client {
    /// For the model that the server at `url` (`http://HOST:PORT`, perhaps with a path before `/v1`) knows as `model`.
    /// `key` is sent as a bearer token.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(url: &str, model: &str, interface: Interface, key: Option<String>, retry: RetryPolicy) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url);
        let is_address =
            ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        if !is_address {
            return Err(Error::Address { url: url.to_owned() });
        }
        Ok(Self { connection: Connection::new(url, key, retry), model: model.to_owned(), interface })
    }

    /// What the server says about the model.
    ///
    /// # Errors
    /// [`Error::NoModel`]; [`Error::Adapter`] where a request cannot choose one; [`Error::Unreachable`] at once if
    /// nothing answers, since nothing is lost yet; [`Error::Refused`]; [`Error::Malformed`].
    pub fn model(&self) -> Result<ServerModel> {
        let (url, body) = self.connection.get("v1/models", LIST_BYTES)?;
        let models: Models = serde_json::from_slice(&body)
            .map_err(|e| Error::Malformed { url: url.clone(), problem: format!("its list of models: {e}") })?;
        let there = models.data.iter().map(|model| model.id.clone()).collect();
        let found = models.data.into_iter().find(|model| model.id == self.model);
        match found {
            // `/generate` names no model: it would answer for the one that the adapter belongs to.
            Some(ServerModel { parent: Some(parent), .. }) if self.interface == Interface::Sglang => {
                Err(Error::Adapter { url, model: self.model.clone(), parent })
            }
            Some(model) => Ok(model),
            None => Err(Error::NoModel { url, model: self.model.clone(), there }),
        }
    }

    /// What the server tells of every position of every prompt, after a comparison of the answer with what was sent.
    /// Each prompt has at least two tokens, and one position fewer. The numbers themselves are checked by
    /// [`ServerRowBuilder::push`](crate::ServerRowBuilder::push).
    ///
    /// # Errors
    /// [`Error::Answer`] names the prompt and position at which an answer is not one to what was asked;
    /// [`Error::Unreachable`], [`Error::Refused`], [`Error::Malformed`].
    pub fn log_probs(&self, prompts: &[&[u32]], k: u32) -> Result<Vec<Vec<AnswerPosition>>> {
        let tokens: usize = prompts.iter().map(|prompt| prompt.len()).sum();
        let most = ANSWER_BYTES + tokens * (k as usize + 2) * ENTRY_BYTES;
        let is_echo = match self.interface {
            Interface::Echo => true,
            Interface::PromptLogprobs => false,
            Interface::Sglang => {
                let (url, body) = self.connection.post("generate", &sglang::GenerateRequest::new(prompts, k), most)?;
                return sglang::positions_of(url, &body, prompts);
            }
        };
        let asked = CompletionsRequest::new(&self.model, prompts, is_echo, k);
        let (url, body) = self.connection.post("v1/completions", &asked, most)?;
        let completion = Completion::read(&body).map_err(|problem| Error::Malformed { url, problem })?;
        positions_of(completion, prompts, is_echo)
    }
}
