//! The split of each document: the one that is named, or one that a hash of its content chooses.

use crate::document::{Content, Document};
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, Source, SplitsFrom, Tally};

/// Decides the splits of a dataset's documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitRule {
    /// Share of the documents without a named split, or in `train`, that a hash puts into `test`.
    test: f64,
    /// The same for `validation`.
    validation: f64,
}

impl SplitRule {
    /// The rule for these files, before any of them is read. [`Self::holds`] says afterwards whether it was the right
    /// one.
    pub(crate) fn of(source: &Source<'_>, config: &DatasetConfig) -> Self {
        // If all files are called `train`, there is no `test` split, so the hash determines it.
        let by_hash = match source.splits() {
            SplitsFrom::Hash => true,
            SplitsFrom::Files => source.files().iter().all(|file| is_train(file.split.as_deref())),
            SplitsFrom::Column => false,
        };
        Self { test: if by_hash { config.held_out } else { 0.0 }, validation: config.held_out_validation }
    }

    /// The rule if only files of `train` hold documents, whatever the others are called.
    pub(crate) fn by_hash(config: &DatasetConfig) -> Self {
        Self { test: config.held_out, validation: config.held_out_validation }
    }

    /// Whether the documents that were found leave it the right rule: files that name another split than `train`, but
    /// hold no documents, do not count.
    pub(crate) fn holds(&self, source: &Source<'_>, config: &DatasetConfig, tally: &Tally) -> bool {
        let only_train = tally.of_split.keys().all(|split| is_train(split.as_deref()));
        self.test == config.held_out || source.splits() != SplitsFrom::Files || !only_train
    }

    /// Name of a document's split.
    pub(crate) fn name(&self, document: &Document) -> Result<String> {
        match document.split.as_deref() {
            None | Some("train") => Ok(split_by_hash(&document.content, self.test, self.validation).to_owned()),
            Some("validation") if self.validation > 0.0 => {
                let (option, got) = ("held_out_validation", self.validation.to_string());
                Err(Error::Option { option, got, expected: "none, for the data name a split `validation` themselves" })
            }
            Some(named) => Ok(named.to_owned()),
        }
    }
}

fn is_train(split: Option<&str>) -> bool {
    split.is_none_or(|name| name == "train")
}

/// Assigns a share of all documents to `test` and another to `validation` by their hash alone. The two shares are at
/// opposite ends of the hash's range, so neither changes when the other grows.
fn split_by_hash(content: &Content, test: f64, validation: f64) -> &'static str {
    let mut hasher = blake3::Hasher::new_derive_key("logitcask held-out share v1");
    let mut first = [0; 8];
    match content {
        Content::Text(text) => _ = hasher.update(text.as_bytes()),
        Content::Tokens(row) => row.ids.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes())),
        Content::Conversation(conversation) => _ = hasher.update(&conversation.hashed()),
    }
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let share = (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64;
    match share {
        share if share < test => "test",
        share if share >= 1.0 - validation => "validation",
        _ => "train",
    }
}
