//! The errors of conversations.

use std::path::PathBuf;

/// An error of a dataset of conversations, or of one that could be read as such.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A file can be read in two ways, and no option says which is meant.
    #[error("{path}: has {first} and {second}; say which with {choose_first} or {choose_second}")]
    TwoFormats {
        /// The file.
        path: PathBuf,
        /// The columns of one way.
        first: &'static str,
        /// The columns of the other.
        second: &'static str,
        /// The option and its value for the first.
        choose_first: &'static str,
        /// The same for the second.
        choose_second: &'static str,
    },
    /// Options of conversations for a dataset of something else.
    #[error(
        "{path}: [dataset.chat] is for conversations, and this dataset has no column `messages`, `conversations`, `prompt` and `completion` or `instruction` and `output`; leave it out, or name the column with `messages_column`"
    )]
    NotConversations {
        /// File or folder.
        path: PathBuf,
    },
    /// A text file among conversations.
    #[error("{path}: is a text file, which holds no conversations; use JSON Lines, Parquet or Arrow files alone")]
    TextOfConversations {
        /// The file.
        path: PathBuf,
    },
    /// A dataset whose prompts are to be answered has none.
    #[error(
        "{path}: has no column `messages`, `conversations`, `prompt` or `instruction`, so that there is nothing to answer; name the column of messages with `messages_column`"
    )]
    NotPrompts {
        /// File or folder.
        path: PathBuf,
    },
    /// No row of a dataset asks anything.
    #[error("{path}: none of its {rows} rows has a message before an answer, so that there is nothing to answer")]
    NoPrompts {
        /// File or folder.
        path: PathBuf,
        /// Number of rows that are not blank.
        rows: usize,
    },
    /// A dataset of prompts is read before its answers are written.
    #[error("{path}: [dataset.generate] asks for answers by the teacher, and these rows are only their prompts")]
    Unanswered {
        /// File or folder.
        path: PathBuf,
    },
    /// A chat template that is no valid one.
    #[error("{path}: the chat template {name}cannot be read: {problem}")]
    Template {
        /// Its file.
        path: PathBuf,
        /// Its name with a space behind it, empty for a model's only one.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A conversation that cannot be rendered.
    #[error("{path}: conversation {document} (counted from 0): {problem}")]
    Conversation {
        /// The file.
        path: PathBuf,
        /// Index in the file, from 0.
        document: u64,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// No conversation is left that could be a sample.
    #[error(
        "{path}: none of its {seen} conversations is a sample: {too_long} have more than max_length = {max_length} tokens, {unanswered} have no answer by the assistant"
    )]
    NoAnswers {
        /// File or folder.
        path: PathBuf,
        /// Number of conversations.
        seen: u64,
        /// Number of those that are too long.
        too_long: u64,
        /// The limit.
        max_length: usize,
        /// Number of those without an answer.
        unanswered: u64,
    },
}
