//! One document as stored in its source.

use crate::chat::Conversation;

/// A document that is not blank, with its index in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Index in the source, counted over all its files; blank documents are left out but keep their index.
    pub index: u64,
    /// The text or the tokens.
    pub content: Content,
    /// The split given by the document's column, its file's name or the card; `None` if there is none.
    pub split: Option<String>,
}

/// What a document consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text, as stored in the source, before tokenisation.
    Text(String),
    /// Tokens that another program made.
    Tokens(TokenRow),
    /// A conversation, before it is rendered.
    Conversation(Conversation),
}

/// A row of tokens, and which of them are to be learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For every token, whether the student is to learn to predict it; `None` if the source has no such column.
    pub marks: Option<Vec<bool>>,
}

impl Content {
    /// The text; `None` for tokens and conversations.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Tokens(_) | Self::Conversation(_) => None,
        }
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(row) => 4 * row.ids.len() + row.marks.as_ref().map_or(0, Vec::len),
            Self::Conversation(conversation) => conversation.bytes(),
        }
    }

    /// Whether it holds nothing but white space, no token or no message.
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Tokens(row) => row.ids.is_empty(),
            Self::Conversation(conversation) => conversation.is_blank(),
        }
    }
}
