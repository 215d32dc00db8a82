//! Sources of documents: texts in Parquet, Arrow, JSON Lines or plain text, or rows of tokens or conversations in all
//! but the last; one file or a folder of them. Files are read one document or batch at a time.

mod arrow;
#[cfg(test)]
mod arrow_tests;
mod card;
mod collector;
mod columns;
#[cfg(test)]
mod compressed_tests;
mod config;
#[cfg(test)]
mod conversation_tests;
mod conversations;
mod data_file;
mod folder;
#[cfg(test)]
mod folder_tests;
mod generate_config;
mod glob;
mod jsonl;
mod lines;
mod names;
mod parquet;
mod parquet_tokens;
mod plain;
mod prompts;
mod saved;
mod shape;
mod tally;
#[cfg(test)]
mod tests;
mod token_columns;
mod write;
mod write_answers;

pub use config::{DatasetConfig, Format, OnBadText, SpecialTokens};
pub use generate_config::GenerateConfig;
pub use write::write_corpus;
pub use write_answers::{ANSWER_MASKS, ANSWER_SPLITS, ANSWER_TOKENS, AnsweredRow, answers_record, write_answers};

use crate::chat::{ChatError, Columns};
use crate::document::Document;
use crate::error::{Error, Result};
use collector::Collector;
pub(crate) use data_file::DataFile;
use folder::Layout;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
pub(crate) use tally::Tally;
use token_columns::TokenColumns;
use tracing::debug;

/// The contents of a source, in order.
#[derive(Debug, Default)]
pub struct Corpus {
    /// Documents that are not blank.
    pub documents: Vec<Document>,
    /// What determines the names of the documents' splits.
    pub splits: SplitsFrom,
    /// Notes in plain sentences about texts that were replaced or left out, and files that were not read.
    pub notes: Vec<String>,
    /// Every file that was read, with the index of its first document.
    files: Vec<(u64, PathBuf)>,
}

/// What determines the name of a document's split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitsFrom {
    /// The column or field that the configuration names.
    Column,
    /// Names of files or folders, or the dataset's card.
    Files,
    /// A hash of the text, because nothing names splits.
    #[default]
    Hash,
}

impl Corpus {
    /// The file that contains the document with this index, and its index there, from 0.
    pub fn place(&self, document: u64) -> Option<(&Path, u64)> {
        let after = self.files.partition_point(|(first, _)| *first <= document);
        let (first, path) = self.files.get(after.checked_sub(1)?)?;
        Some((path, document - first))
    }
}

/// Reads the documents of a file or folder, always in the same order, into memory.
///
/// # Errors
/// A path, file, column or option that cannot be used, with a remedy; no documents at all.
pub fn read_documents(config: &DatasetConfig) -> Result<Corpus> {
    let source = Source::open(config)?;
    let mut documents = vec![];
    let mut keep = |found: Found| {
        documents.push(found.document);
        Ok(())
    };
    let tally = source.read(0..source.files().len(), Tally::default(), &mut keep)?;
    let (splits, notes) = (source.splits(), source.notes(&tally)?);
    Ok(Corpus { documents, splits, notes, files: tally.files })
}

/// The files of a dataset, to be read one document at a time.
pub(crate) struct Source<'a> {
    config: &'a DatasetConfig,
    layout: Layout,
    /// Where its conversations are; `None` for texts and tokens.
    conversations: Option<Columns>,
}

/// A document, and where it is.
pub(crate) struct Found {
    pub(crate) document: Document,
    /// Index of its file among those of the source.
    pub(crate) file: usize,
    /// Its index in its file, from 0.
    pub(crate) row: u64,
    /// Number of the file's bytes that had been read about when it was found, which is known to some buffers' length.
    pub(crate) bytes_read: u64,
}

/// Receives the documents that are not blank, in order.
type Sink<'a> = &'a mut dyn FnMut(Found) -> Result<()>;

impl<'a> Source<'a> {
    /// Checks the configuration and lists the files.
    pub(crate) fn open(config: &'a DatasetConfig) -> Result<Self> {
        config.check()?;
        if config.generate.is_some() {
            return Err(ChatError::Unanswered { path: config.path.clone() }.into());
        }
        let layout = layout(config)?;
        let conversations = shape::conversations(config, &layout.files)?;
        if conversations.is_none() && !config.chat.is_default() {
            return Err(ChatError::NotConversations { path: config.path.clone() }.into());
        }
        Ok(Self { config, layout, conversations })
    }

    /// The files, in the order in which they are read.
    pub(crate) fn files(&self) -> &[DataFile] {
        &self.layout.files
    }

    /// Whether its documents are conversations.
    pub(crate) fn has_conversations(&self) -> bool {
        self.conversations.is_some()
    }

    /// What determines the names of the splits.
    pub(crate) fn splits(&self) -> SplitsFrom {
        match (&self.config.split_column, self.layout.files.iter().any(|file| file.split.is_some())) {
            (Some(_), _) => SplitsFrom::Column,
            (None, true) => SplitsFrom::Files,
            (None, false) => SplitsFrom::Hash,
        }
    }

    /// Reads the documents of some consecutive files. `before` counts those of earlier files.
    pub(crate) fn read(&self, files: Range<usize>, before: Tally, sink: Sink<'_>) -> Result<Tally> {
        let config = self.config;
        let limit = config.max_documents.unwrap_or(u64::MAX);
        let mut found =
            Collector { limit, on_bad_text: config.on_bad_text, tally: before, number: 0, reader: None, sink };
        for number in files {
            let file = &self.layout.files[number];
            if found.is_full(file) {
                continue;
            }
            debug!(path = %file.path.display(), split = file.split, documents_before = found.tally.seen, "reading a file");
            found.number = number;
            found.tally.files.push((found.tally.seen, file.path.clone()));
            let (conversations, split) = (self.conversations.as_ref(), config.split_column.as_deref());
            match kind(&file.path) {
                Some(Kind::Parquet) => match (conversations, TokenColumns::of(config)) {
                    (Some(columns), _) => conversations::read_parquet(file, columns, split, &mut found)?,
                    (None, Some(columns)) => parquet_tokens::read(file, &columns, split, &mut found)?,
                    (None, None) => parquet::read(file, config, &mut found)?,
                },
                Some(Kind::Arrow) => arrow::read(file, config, conversations, &mut found)?,
                Some(Kind::Lines) => jsonl::read(file, config, conversations, &mut found)?,
                Some(Kind::Text) if conversations.is_some() => {
                    return Err(ChatError::TextOfConversations { path: file.path.clone() }.into());
                }
                Some(Kind::Text) => plain::read(file, config, self.layout.is_folder, &mut found)?,
                None => return Err(Error::Extension { path: file.path.clone() }),
            }
        }
        Ok(found.tally)
    }

    /// Notes about files that were not read, and texts that were replaced or left out. No document at all is an error.
    pub(crate) fn notes(&self, tally: &Tally) -> Result<Vec<String>> {
        let path = &self.config.path;
        match tally.kept() {
            0 => Err(Error::Empty { path: path.clone(), blank: tally.blank }),
            _ => Ok(self.layout.notes.iter().cloned().chain(tally.notes(path)).collect()),
        }
    }
}

/// Every file whose contents affect the result of [`read_documents`], in the order in which they are read, with the
/// card last.
///
/// # Errors
/// The errors of [`read_documents`] for a path or a folder, before any file of texts is opened.
pub fn source_files(config: &DatasetConfig) -> Result<Vec<PathBuf>> {
    let layout = layout(config)?;
    Ok(layout.files.into_iter().map(|file| file.path).chain(layout.card).collect())
}

fn layout(config: &DatasetConfig) -> Result<Layout> {
    let path = &config.path;
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Err(Error::Link { path: path.clone(), target }),
            Err(_) => Err(Error::Missing { path: path.clone() }),
        },
        Err(e) => Err(Error::io(path)(e)),
        Ok(metadata) if metadata.is_dir() => folder::layout(path, config.split_column.is_some()),
        // A file that is named explicitly is read whatever its name is.
        Ok(_) => Ok(Layout { files: vec![DataFile { path: path.clone(), split: None }], ..Layout::default() }),
    }
}

/// The format of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Arrow,
    Lines,
    Text,
}

/// Determines the format from the extension. Only formats that are read line by line may be compressed as a whole.
fn kind(path: &Path) -> Option<Kind> {
    let (packing, inner) = lines::packing(path);
    match (inner.extension()?.to_str()?, packing) {
        ("parquet", None) => Some(Kind::Parquet),
        ("arrow", None) => Some(Kind::Arrow),
        ("jsonl" | "ndjson", _) | ("json", Some(_)) => Some(Kind::Lines),
        ("txt", _) => Some(Kind::Text),
        _ => None,
    }
}

/// Maximum length of a split's name in bytes, which the cache's format limits.
const MAX_SPLIT: usize = 64;

/// Whether a name is valid for a split: it becomes part of file names and of a table's headings.
fn is_split_name(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=MAX_SPLIT).contains(&name.len()) && name.bytes().all(is_plain)
}

fn check_split(path: &Path, document: u64, name: &str) -> Result<()> {
    match is_split_name(name) {
        true => Ok(()),
        false => Err(Error::SplitName { path: path.to_owned(), document, got: name.to_owned() }),
    }
}

/// Reads a whole file; a Git LFS pointer in its place is an error.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    match bytes.starts_with(POINTER) {
        true => Err(Error::Pointer { path: path.to_owned() }),
        false => Ok(bytes),
    }
}

/// The first bytes of a Git LFS pointer.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
