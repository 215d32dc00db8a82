//! What a plan pins: who and what a cache was made from, and by which rules.

use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};

/// A thing that must not change between two runs, under the name people know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRef {
    /// For messages; does not identify.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Identifies.
    pub fingerprint: Fingerprint,
}

/// Versions of what turns texts into tokens, logits into rows, and rows into bytes, counted up by hand whenever the same
/// input would give other output. The program's own version says nothing about that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Of how texts become windows of tokens.
    pub tokenisation: u32,
    /// Of how logits become rows.
    pub selection: u32,
    /// Of how rows become the bytes of a shard: [`CODEC_VERSION`].
    pub codec: u32,
}

impl Versions {
    /// What a plan without the field means.
    pub const FIRST: Self = Self { tokenisation: 1, selection: 1, codec: 1 };

    pub(crate) const fn first() -> Self {
        Self::FIRST
    }

    pub(crate) fn are_first(&self) -> bool {
        *self == Self::FIRST
    }
}

/// Version of the bytes that rows become, that of the libraries that compress them included. A test holds a shard's hash
/// and says when to count it up.
pub const CODEC_VERSION: u32 = 1;

/// A token that the tokenizer's file lacks and its configuration adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub content: String,
}

/// What a plan without the field means by `special_tokens`.
pub const REFUSE_SPECIAL_TOKENS: &str = "refuse";

pub(crate) fn refuse() -> String {
    REFUSE_SPECIAL_TOKENS.to_owned()
}

pub(crate) fn is_refuse(special_tokens: &str) -> bool {
    special_tokens == REFUSE_SPECIAL_TOKENS
}
