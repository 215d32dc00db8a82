//! The ways of asking for the log-probabilities of a prompt's tokens.

use logitcask_core::{Fingerprint, GoldSource, RowSource, TailSource};
use serde::{Deserialize, Serialize};

/// How a server is asked for the log-probabilities of a prompt's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// `prompt_logprobs`, which vLLM has: the likeliest classes and the label, each with its rank.
    #[default]
    PromptLogprobs,
    /// `echo` with `logprobs`: the likeliest classes, and the label's log-probability without its rank.
    Echo,
    /// `/generate`, which SGLang has: the likeliest classes, and the label's log-probability without its rank.
    Sglang,
}

impl Interface {
    /// What rows of such answers have.
    pub fn source(self) -> RowSource {
        let gold = match self {
            Self::PromptLogprobs => GoldSource::Always,
            Self::Echo | Self::Sglang => GoldSource::Kept,
        };
        RowSource { log_z: false, gold, tail: TailSource::Mass }
    }

    /// How many tokens a prompt must have fewer than the model's context.
    pub fn reserved_tokens(self) -> usize {
        match self {
            // The token that is generated.
            Self::PromptLogprobs => 1,
            Self::Echo => 0,
            // What the scheduler of SGLang (0.4.6 to 0.5.23) keeps free, the token that is generated among it.
            Self::Sglang => 7,
        }
    }
}

/// A model as its server lists it under `/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerModel {
    /// The name that requests use.
    pub id: String,
    /// What the server loaded under this name: vLLM gives a path or a name on a hub, and `logitcask serve` the model's
    /// fingerprint.
    #[serde(default)]
    pub root: Option<String>,
    /// The model that an adapter belongs to.
    #[serde(default)]
    pub parent: Option<String>,
    /// Largest number of tokens of a prompt and what is generated.
    #[serde(default)]
    pub max_model_len: Option<u64>,
}

impl ServerModel {
    /// Hash of all that the server says about which model it is: its name, root and parent.
    pub fn fingerprint(&self) -> Fingerprint {
        let said = serde_json::json!({"id": self.id, "parent": self.parent, "root": self.root});
        Fingerprint::of(said.to_string().as_bytes())
    }
}
