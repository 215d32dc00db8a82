//! Teachers on servers, through the completions interface that vLLM and other servers share, or SGLang's own.
//!
//! - [`Client`] asks a server for the log-probabilities of the tokens of a prompt, in one of several
//!   ways ([`Interface`]), and compares the answer with what was asked.
//! - [`ServerRowBuilder`] makes rows of a server's answers, and refuses what cannot be the log-probabilities of a model
//!   at T = 1.
//! - [`serve()`] offers the same interface for a model of ours ([`ServedModel`]).
//!
//! A server tells less than a teacher whose logits are at hand: the likeliest classes and the label, but neither the
//! log-partition nor the shape of the tail ([`Interface::source`]). Nothing is made up in their place.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer_position;
mod answer_problem;
#[cfg_attr(not(feature = "http"), path = "client/not_built.rs")]
mod client;
mod error;
mod interface;
mod retry_policy;
mod rows;
mod serve;
#[cfg(all(test, feature = "http"))]
mod tests;

pub use answer_position::{AnswerPosition, Entry};
pub use answer_problem::AnswerProblem;
pub use client::Client;
pub use error::{Error, Result};
pub use interface::{Interface, ServerModel};
pub use retry_policy::RetryPolicy;
pub use rows::ServerRowBuilder;
pub use serve::{Listener, PositionLogProbs, PromptLogProbs, ServedModel, serve};

/// Name of the environment variable with the key that a server asks for.
pub const KEY_VARIABLE: &str = "LOGITCASK_API_KEY";
