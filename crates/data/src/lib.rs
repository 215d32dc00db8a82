//! Datasets: deterministic, ordered, addressable samples.
//!
//! A source ([`read_documents`]) provides documents in a fixed order, a [`TextTokenizer`] turns them into tokens, and a
//! [`TextDataset`] divides those into windows (a conversation is one) whose [`logitcask_core::SampleId`] never depends
//! on threads or batches.
//!
//! # Seams
//! A dataset that does not fit into memory is prepared on disk ([`Preparation`]). The stages only use the trait
//! [`Dataset`], so another kind of data needs one new implementation; another file format needs one new file under
//! `source`.
//!
//! # Examples
//! ```
//! use logitcask_core::SampleId;
//! use logitcask_data::{Dataset, DatasetConfig, TextDataset, train_byte_level_bpe};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("stories.txt");
//! std::fs::write(&path, "The cat sat.\n\nThe dog ran home, and the cat saw it.\n")?;
//!
//! let text = std::fs::read_to_string(&path)?;
//! let tokenizer = train_byte_level_bpe([text].into_iter(), 260)?;
//! let config = DatasetConfig { held_out: 0.0, ..DatasetConfig::at(&path) };
//! let max_length = 8;
//! let dataset = TextDataset::load(&config, &tokenizer, max_length)?;
//!
//! assert_eq!(dataset.documents("train"), 2);
//! let first = dataset.sample("train", SampleId(0))?;
//! assert_eq!(first.input_ids[0], 0, "every window begins with the start token");
//! assert!("The cat sat.".starts_with(&tokenizer.decode(&first.input_ids)?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod batches;
pub mod chat;
pub mod dataset;
pub mod document;
pub mod duplicates;
mod encode;
pub mod error;
pub mod prepared;
pub mod source;
mod split_rule;
mod split_windows;
pub mod text_dataset;
#[cfg(test)]
mod token_row_tests;
pub mod tokenizer;
mod windows;

/// Version of the conversion from texts to windows of tokens, including the tokenizer library. A test pins the hash of
/// some windows and fails if the version must be incremented.
pub const TOKENISATION_VERSION: u32 = 1;

pub use batches::{TokenBatch, batch_by_length};
pub use chat::{Answers, ChatConfig, ChatFiles, Conversation, Prompt, Prompts, TooLong, Turns};
pub use dataset::Dataset;
pub use document::{Content, Document, TokenRow};
pub use duplicates::{DiversityReport, diversity};
pub use error::{Error, Result};
pub use prepared::{PartMade, Preparation, PreparedDataset, PreparedError};
pub use source::{
    ANSWER_MASKS, ANSWER_SPLITS, ANSWER_TOKENS, AnsweredRow, Corpus, DatasetConfig, Format, GenerateConfig, OnBadText,
    SpecialTokens, SplitsFrom, answers_record, read_documents, source_files, write_answers, write_corpus,
};
pub use text_dataset::TextDataset;
pub use tokenizer::{SpecialIds, TextTokenizer, train_byte_level_bpe};
