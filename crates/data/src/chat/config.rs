//! How conversations become samples.

use super::dates;
use super::rows::RESERVED;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How conversations are rendered, and what is learned of them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ChatConfig {
    /// A file with a Jinja template, in place of the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The day (`2026-07-26`) that a template writes which asks for the current one. Such a template is refused
    /// without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Variables for the template, such as `enable_thinking`. A row's own `chat_template_kwargs` come before them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Value>,
    /// Which tokens are to be learned.
    pub answers: Answers,
    /// What happens to a conversation with more tokens than a sample can have.
    pub too_long: TooLong,
}

/// Which tokens of a conversation are to be learned.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// Whose turns of the assistant.
    pub turns: Turns,
    /// Whether the special token that ends a turn is one of them, and the white space after it. A student that never
    /// learns it does not stop.
    pub end_of_turn: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self { turns: Turns::default(), end_of_turn: true }
    }
}

/// Turns of the assistant.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    /// All of them.
    #[default]
    All,
    /// The last one. What follows it is left out.
    Last,
}

impl Turns {
    /// The name in recipes, and in the plans of caches.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Last => "last",
        }
    }
}

/// The treatment of a conversation with more tokens than a sample can have.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// It is left out.
    #[default]
    Drop,
    /// Its last tokens are left out.
    Cut,
}

impl TooLong {
    /// The name in recipes, and in the plans of caches.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Cut => "cut",
        }
    }
}

impl ChatConfig {
    /// Whether every setting has its default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Rejects a day that is none, and variables that belong to the conversation itself.
    pub(crate) fn check(&self) -> Result<()> {
        self.date.as_deref().map(dates::parse).transpose()?;
        match self.variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
            Some(name) => Err(Error::Option {
                option: "chat.variables",
                got: name.clone(),
                expected: "names that do not belong to the conversation itself",
            }),
            None => Ok(()),
        }
    }
}
