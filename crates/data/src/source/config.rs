//! Which texts, and what is made of the doubtful ones.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which texts to read. A file is read by its extension:
/// - `.parquet`: one document per row, from a column of strings;
/// - `.jsonl`, `.ndjson`: one object per line, from a field of it;
/// - `.txt`: one document per block between blank lines; in a folder, one document per file.
///
/// A folder is read with the folders in it, in byte order of the paths below it. Hidden files and folders, `.md` files,
/// `LICENSE` and `dataset_infos.json` are passed over; any other file that cannot be read is an error that names it.
///
/// In a folder, files may name the split of all their documents: by the `configs` at the head of its `README.md`, or by the
/// words that a hub goes by in the names of files and folders (`train-00000-of-00002.parquet`, `data/test.jsonl`,
/// `validation/a.txt`; `training`, `valid`, `dev`, `val`, `testing`, `eval` and `evaluation` too). Where some do, all must.
/// A single file that the configuration names is read whatever it is called.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A file or a folder.
    pub path: PathBuf,
    /// Column or field that holds the text.
    #[serde(default = "default_text_column")]
    pub text_column: String,
    /// Column or field that names each document's split. It may not contradict the names of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// Share of the documents that make up the split `test` where nothing names splits, or files name no other than
    /// `train`. A hash of the text decides, so that the choice survives added documents and never parts two copies of one
    /// text.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Share of the documents that make up the split `validation`, by the same hash: of all documents where nothing names
    /// splits, else of those of `train`. It takes none from `test`, and is refused where a split `validation` is named.
    #[serde(default)]
    pub held_out_validation: f64,
    /// Stop after so many documents that are not blank; where file names tell splits, so many of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<u64>,
    /// What a special token means that a text spells out.
    #[serde(default)]
    pub special_tokens: SpecialTokens,
    /// What becomes of a text that is no Unicode.
    #[serde(default)]
    pub on_bad_text: OnBadText,
}

/// What a special token (`<|im_end|>`) means that a text spells out.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokens {
    /// Nobody knows: the first such text is an error.
    #[default]
    Refuse,
    /// Text like any other, in pieces.
    Plain,
    /// That token, as in a chat that was rendered with a model's template; Hugging Face's `AutoTokenizer` reads texts so.
    Parse,
}

impl SpecialTokens {
    /// Its name in recipes, and in the plans of caches.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Plain => "plain",
            Self::Parse => "parse",
        }
    }
}

/// What becomes of a text that is no Unicode: bytes that are not UTF-8, or half of a surrogate pair in JSON.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnBadText {
    /// The first one is an error.
    #[default]
    Refuse,
    /// What is wrong in it becomes U+FFFD.
    Replace,
    /// It is left out, and keeps its number.
    Skip,
}

impl DatasetConfig {
    /// All of `path`, column `text`, with every other setting at its default.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            text_column: default_text_column(),
            split_column: None,
            held_out: default_held_out(),
            held_out_validation: 0.0,
            max_documents: None,
            special_tokens: SpecialTokens::default(),
            on_bad_text: OnBadText::default(),
        }
    }

    /// Refuses options out of their range.
    pub(super) fn check(&self) -> Result<()> {
        let shares = [("held_out", self.held_out), ("held_out_validation", self.held_out_validation)];
        if let Some((option, share)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(Error::Option { option, got: share.to_string(), expected: "a share within 0..=1" });
        }
        if self.held_out + self.held_out_validation > 1.0 {
            let (option, got) = ("held_out_validation", self.held_out_validation.to_string());
            return Err(Error::Option { option, got, expected: "at most what held_out leaves of 1" });
        }
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

fn default_text_column() -> String {
    "text".to_owned()
}

fn default_held_out() -> f64 {
    0.05
}
