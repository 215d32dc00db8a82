//! The selection of texts, and the treatment of invalid ones.

use super::GenerateConfig;
use crate::chat::ChatConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The texts, tokens or conversations to read. The format of a file is determined by its extension:
/// - `.parquet`: one document per row, from a column of strings or of lists of numbers;
/// - `.jsonl`, `.ndjson`: one object per line, from one of its fields;
/// - `.txt`: one document per block between blank lines; in a folder, one document per file.
///
/// A folder is read with its subfolders, in byte order of the relative paths. Hidden files and folders, `.md` files,
/// `LICENSE` and `dataset_infos.json` are skipped; any other file that cannot be read is an error that names it.
///
/// In a folder, files may name the split of all their documents: by the `configs` at the head of its `README.md`, or by
/// words in the names of files and folders, as hubs interpret them (`train-00000-of-00002.parquet`, `data/test.jsonl`,
/// `validation/a.txt`; also `training`, `valid`, `dev`, `val`, `testing`, `eval` and `evaluation`). If some files do,
/// all must. A single file that the configuration names is read whatever its name is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A file or a folder.
    pub path: PathBuf,
    /// Column or field that contains the text.
    #[serde(default = "default_text_column")]
    pub text_column: String,
    /// What the documents are, if the columns leave it open. By default, a file is read by its columns: as
    /// conversations if it has `messages`, `conversations`, `prompt` and `completion` or `instruction` and `output`,
    /// and otherwise as texts; a file that can be read in two ways is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Column or field that contains lists of messages, if it has another name than `messages` and `conversations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_column: Option<String>,
    /// Column or field that contains lists of token ids, in place of texts: rows that another program tokenised. They
    /// are taken as they are, without a start or end token; rows longer than a window are divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_column: Option<String>,
    /// Column or field with 1 (or true) for every token that a student is to learn to predict, and 0 for others, such
    /// as `completion_mask` or `assistant_masks`. The positions before the tokens with 1 are marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_column: Option<String>,
    /// The same as labels: the token itself if it is to be learned, otherwise -100. Not together with `mask_column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_column: Option<String>,
    /// Column or field that contains each document's split. It must not contradict the names of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// Share of the documents in the split `test` if nothing names splits, or files name only `train`. A hash of the
    /// text decides, so that the assignment does not change when documents are added, and two copies of a text are
    /// always in the same split.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Share of the documents in the split `validation`, by the same hash: of all documents if nothing names splits,
    /// otherwise of those in `train`. It takes none from `test`, and is rejected if a split `validation` is named.
    #[serde(default)]
    pub held_out_validation: f64,
    /// Maximum number of documents that are not blank; if file names determine splits, it applies to each split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<u64>,
    /// Meaning of a special token that occurs in a text.
    #[serde(default)]
    pub special_tokens: SpecialTokens,
    /// Treatment of a text that is not valid Unicode.
    #[serde(default)]
    pub on_bad_text: OnBadText,
    /// How conversations are rendered, and what is learned of them.
    #[serde(default, skip_serializing_if = "ChatConfig::is_default")]
    pub chat: ChatConfig,
    /// Has the teacher answer the prompts, and replaces the answers that the documents have themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateConfig>,
}

/// What the documents of a source are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Texts in `text_column`.
    Text,
    /// Conversations: a list of messages in the column `messages`.
    Messages,
    /// Columns `prompt` and `completion`, of which only the second is learned: two texts, which are joined as they are,
    /// or two lists of messages.
    PromptCompletion,
    /// Columns `instruction`, perhaps `input`, and `output`, of which only the last is learned, perhaps with `system`
    /// and
    /// `history`.
    Instruction,
}

impl Format {
    /// The name in recipes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt_completion",
            Self::Instruction => "instruction",
        }
    }
}

/// Meaning of a special token (`<|im_end|>`) that occurs in a text.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokens {
    /// Unknown: the first such text is an error.
    #[default]
    Refuse,
    /// Ordinary text, tokenised in pieces.
    Plain,
    /// The token itself, as in a chat that was rendered with a model's template; Hugging Face's `AutoTokenizer` does
    /// the same.
    Parse,
}

impl SpecialTokens {
    /// The name in recipes, and in the plans of caches.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Plain => "plain",
            Self::Parse => "parse",
        }
    }
}

/// Treatment of a text that is not valid Unicode: bytes that are not UTF-8, or half of a surrogate pair in JSON.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnBadText {
    /// The first one is an error.
    #[default]
    Refuse,
    /// Invalid parts are replaced by U+FFFD.
    Replace,
    /// The text is left out, but its index stays taken.
    Skip,
}

impl DatasetConfig {
    /// All of `path`, column `text`, with all other settings at their defaults.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            text_column: default_text_column(),
            format: None,
            messages_column: None,
            tokens_column: None,
            mask_column: None,
            labels_column: None,
            split_column: None,
            held_out: default_held_out(),
            held_out_validation: 0.0,
            max_documents: None,
            special_tokens: SpecialTokens::default(),
            on_bad_text: OnBadText::default(),
            chat: ChatConfig::default(),
            generate: None,
        }
    }

    /// Rejects options that are out of range or contradict each other.
    ///
    /// # Errors
    /// [`Error::Option`] names the option, its value and what is accepted.
    pub fn check(&self) -> Result<()> {
        let shares = [("held_out", self.held_out), ("held_out_validation", self.held_out_validation)];
        if let Some((option, share)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(Error::Option { option, got: share.to_string(), expected: "a share from 0 to 1" });
        }
        if self.held_out + self.held_out_validation > 1.0 {
            let (option, got) = ("held_out_validation", self.held_out_validation.to_string());
            return Err(Error::Option { option, got, expected: "at most what held_out leaves of 1" });
        }
        self.check_columns()?;
        self.check_messages()?;
        self.chat.check()?;
        if self.max_documents == Some(0) {
            return Err(Error::Option {
                option: "max_documents",
                got: "0".into(),
                expected: "at least 1, or no limit",
            });
        }
        Ok(())
    }
}

impl DatasetConfig {
    /// The option that names a column of marks, if one does.
    pub(crate) fn marks_column(&self) -> Option<&'static str> {
        let labels = self.labels_column.is_some().then_some("labels_column");
        self.mask_column.is_some().then_some("mask_column").or(labels)
    }

    /// Rejects options that contradict each other: those of texts have no meaning for rows of tokens, and the reverse.
    fn check_columns(&self) -> Result<()> {
        let marks = [("mask_column", &self.mask_column), ("labels_column", &self.labels_column)];
        let marks: Vec<_> =
            marks.iter().filter_map(|(option, column)| Some((*option, Option::clone(column)?))).collect();
        let refused = |option, got: String, expected| Err(Error::Option { option, got, expected });
        match (&self.tokens_column, marks.as_slice()) {
            (None, [(option, got), ..]) => refused(option, got.clone(), "set only together with tokens_column"),
            (Some(_), [_, (option, got)]) => refused(option, got.clone(), "left out, because mask_column marks tokens"),
            (Some(_), _) if self.has_own_text_column() => {
                refused("text_column", self.text_column.clone(), "left out, because tokens_column names tokens")
            }
            (Some(_), _) if self.special_tokens != SpecialTokens::default() => {
                let expected = "left out, because tokens_column names tokens and not texts";
                refused("special_tokens", self.special_tokens.name().to_owned(), expected)
            }
            _ => Ok(()),
        }
    }
}

impl DatasetConfig {
    /// Rejects options of conversations that contradict others.
    fn check_messages(&self) -> Result<()> {
        let refused = |option, got: &str, expected| Err(Error::Option { option, got: got.to_owned(), expected });
        match (&self.messages_column, self.format) {
            (Some(column), _) if self.tokens_column.is_some() => {
                refused("messages_column", column, "left out, because tokens_column names tokens")
            }
            (Some(_), Some(other)) if other != Format::Messages => {
                refused("format", other.name(), "\"messages\", because messages_column names them")
            }
            (_, Some(format)) if self.tokens_column.is_some() => {
                refused("format", format.name(), "left out, because tokens_column names tokens")
            }
            (_, Some(format)) if format != Format::Text && self.has_own_text_column() => {
                refused("text_column", &self.text_column, "left out, because format names conversations")
            }
            (Some(_), _) if self.has_own_text_column() => {
                refused("text_column", &self.text_column, "left out, because messages_column names conversations")
            }
            _ => Ok(()),
        }
    }

    /// Whether the column of texts has another name than the usual one, so that texts are meant.
    pub(super) fn has_own_text_column(&self) -> bool {
        self.text_column != default_text_column()
    }
}

fn default_text_column() -> String {
    "text".to_owned()
}

fn default_held_out() -> f64 {
    0.05
}
