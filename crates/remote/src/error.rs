//! Errors of asking and serving.

use crate::AnswerProblem;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server could not be asked, or its answer not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There was no answer, after all attempts.
    #[error(
        "{url}: no answer in {attempts} attempts: {reason}; check that the server runs and can be reached from here"
    )]
    Unreachable {
        /// What was asked.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Why the last of them failed.
        reason: String,
    },
    /// The server refuses the request, so that asking again is of no use.
    #[error("{url}: the server refuses (HTTP {status}): {text}{advice}")]
    Refused {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The server's words.
        text: String,
        /// What to do, after a semicolon; empty if nothing is known.
        advice: String,
    },
    /// The answer is not of the interface.
    #[error("{url}: the answer is not of this interface: {problem}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The answer to one of the prompts cannot be one to it.
    #[error("prompt {prompt}, position {position}: {problem}")]
    Answer {
        /// Index of the prompt in the request.
        prompt: usize,
        /// The position in the prompt, counted from 0; its label is the next token.
        position: usize,
        /// What is wrong with it.
        problem: AnswerProblem,
    },
    /// The server does not have the model.
    #[error("{url}: the server has no model `{model}`; it has {}", listed(.there))]
    NoModel {
        /// What was asked.
        url: String,
        /// The name that was wanted.
        model: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// The model is an adapter, which the interface cannot choose.
    #[error(
        "{url}: `{model}` is an adapter of `{parent}`, and interface = \"sglang\" cannot ask for one; let the server run \
         the model with the adapter merged into it"
    )]
    Adapter {
        /// What was asked.
        url: String,
        /// The name that was wanted.
        model: String,
        /// The model that it belongs to.
        parent: String,
    },
    /// The address is none of a server.
    #[error("`{url}` is no address of a server; it looks like http://HOST:PORT")]
    Address {
        /// The address.
        url: String,
    },
    /// No connection can be accepted at an address.
    #[error("{address}: cannot listen there: {reason}; name another address or port with --listen HOST:PORT")]
    Listen {
        /// The address.
        address: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The build has no code that opens connections.
    #[error("this build can neither ask servers nor be one: build it with the feature `server`")]
    NotBuilt,
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
