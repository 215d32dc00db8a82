//! Conversations: messages that a model's own chat template turns into text, and the tokens of it that are answers.
//!
//! A source gives a [`Conversation`], whichever columns it is stored in. A renderer writes it with the template
//! and finds the answers in the text; the tokenizer then shows which tokens those are. Every conversation is one
//! sample, and the positions before the tokens of its answers are marked.

mod answers;
mod config;
mod conversation;
mod counts;
mod dates;
mod error;
mod files;
mod from_value;
mod generation;
mod prompts;
#[cfg(test)]
mod prompts_tests;
mod python_json;
mod renderer;
mod rows;
mod template;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trl_tests;

pub use config::{Answers, ChatConfig, TooLong, Turns};
pub use conversation::Conversation;
pub use error::ChatError;
pub use files::ChatFiles;
pub use prompts::{Prompt, Prompts};

pub(crate) use counts::ChatCounts;
pub(crate) use files::DEFAULT;
pub(crate) use renderer::{Marked, Renderer};
pub(crate) use rows::{Columns, conversation};

/// Marks of the program's own in rendered texts. A message that holds one of them is refused.
mod marks {
    /// Where an answer begins, as `{% generation %}` says.
    pub(crate) const BEGIN: char = '\u{E000}';
    /// Where it ends.
    pub(crate) const END: char = '\u{E001}';
    /// Divides the text of a special token that is not to become that token.
    pub(crate) const BREAK: char = '\u{E002}';
}
pub(crate) use marks::BREAK;
