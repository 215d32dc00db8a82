//! The pins of a plan: what a cache was made from, and by which versions of the rules.

use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};

/// Something that must not change between two runs, with the name by which people know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRef {
    /// The name for messages; it does not identify anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The hash that identifies it.
    pub fingerprint: Fingerprint,
}

/// Versions of the conversions from texts to tokens, tokens to logits, logits to rows, and rows to bytes. They are
/// incremented by hand whenever the same input would give other output, independent of the program's own version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Version of the conversion from texts to windows of tokens.
    pub tokenisation: u32,
    /// Version of the forward pass, from tokens to logits; 1 if another program computed them.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub forward: u32,
    /// Version of the conversion from logits to rows.
    pub selection: u32,
    /// Version of the conversion from rows to the bytes of a shard: [`CODEC_VERSION`].
    pub codec: u32,
}

impl Versions {
    /// The versions of a plan without this field.
    pub const FIRST: Self = Self { tokenisation: 1, forward: 1, selection: 1, codec: 1 };

    pub(crate) const fn first() -> Self {
        Self::FIRST
    }

    pub(crate) fn are_first(&self) -> bool {
        *self == Self::FIRST
    }
}

fn first_version() -> u32 {
    1
}

fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

/// Version of the bytes that rows become, including the version of the libraries that compress them. A test pins a
/// shard's hash and fails if it must be incremented.
pub const CODEC_VERSION: u32 = 2;

/// A token that is not in the tokenizer's file but is added by its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub content: String,
}

/// The value of `special_tokens` in a plan without this field.
pub const REFUSE_SPECIAL_TOKENS: &str = "refuse";

pub(crate) fn refuse() -> String {
    REFUSE_SPECIAL_TOKENS.to_owned()
}

pub(crate) fn is_refuse(special_tokens: &str) -> bool {
    special_tokens == REFUSE_SPECIAL_TOKENS
}
