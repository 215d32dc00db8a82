//! Everything a dataset or a tokenizer can be refused for, as a sentence with nouns in it.

use std::io;
use std::path::{Path, PathBuf};

/// What another crate said was wrong.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dataset or a tokenizer cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing lies where the configuration points.
    #[error("{path}: no such file or folder; check the dataset's `path` (a relative one starts at the current folder)")]
    Missing {
        /// As configured.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// A file whose kind its name does not tell.
    #[error(
        "{path}: its name says nothing we can read; expected .parquet, .jsonl, .ndjson or .txt (in a folder, hidden and .md files are passed over)"
    )]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// No document, or only blank ones.
    #[error("{path}: no documents, {blank} of them blank; a dataset needs at least one that holds text")]
    Empty {
        /// File or folder.
        path: PathBuf,
        /// Documents without text.
        blank: u64,
    },
    /// Documents, but not one window of two tokens.
    #[error(
        "{path}: its {documents} documents give no sample; a sample needs two tokens, use a tokenizer with a start token or longer texts"
    )]
    NoSamples {
        /// File or folder.
        path: PathBuf,
        /// Documents that hold text.
        documents: usize,
    },
    /// A column that the file does not have.
    #[error("{path}: no column `{column}`, it has: {found}; set `{option}` to one of them")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns there are.
        found: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// A column of something else than text.
    #[error("{path}: column `{column}` holds {got}, expected strings; set `{option}` to a column of strings")]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// What it holds.
        got: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// A line of a JSON Lines file that is no document.
    #[error("{path}: line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what would do.
        problem: String,
    },
    /// Text in another encoding.
    #[error(
        "{path}: byte {offset} is not UTF-8 (Latin-1, perhaps); convert the file first: iconv -f latin1 -t utf-8 FILE > NEW"
    )]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Bytes before it are valid.
        offset: usize,
    },
    /// A split name that cannot become part of a file name.
    #[error("{path}: document {document} names the split `{got}`, expected lower-case letters, digits, `-` and `_`")]
    SplitName {
        /// The file.
        path: PathBuf,
        /// Counted from 0 within that file.
        document: u64,
        /// The name; empty where there is none.
        got: String,
    },
    /// A file that calls itself Parquet.
    #[error("{path}: cannot be read or written as Parquet: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Words of the Parquet or Arrow library.
        source: Cause,
    },
    /// An option out of its range.
    #[error("`{option}` is {got}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// As configured.
        got: String,
        /// What would do.
        expected: &'static str,
    },
    /// A document whose tokens 32 bits cannot count.
    #[error(
        "document {document} has {tokens} tokens, at most 4294967295 can be addressed; cut it into several documents"
    )]
    TooLong {
        /// Its index in the source.
        document: u64,
        /// Its tokens.
        tokens: usize,
    },
    /// Bytes that are no `tokenizer.json`.
    #[error("{path}: not a tokenizer.json that can be read: {source}")]
    TokenizerJson {
        /// The file.
        path: PathBuf,
        /// Words of the tokenizer library.
        source: Cause,
    },
    /// Bytes that are no `tokenizer.bin` of llama2.c.
    #[error("{path}: not a llama2.c tokenizer of {vocab_size} pieces: {problem}")]
    Llama2c {
        /// The file.
        path: PathBuf,
        /// The pieces asked for.
        vocab_size: u32,
        /// What is wrong.
        problem: String,
    },
    /// A token the tokenizer does not have.
    #[error("token {id} is not one of the tokenizer's {vocab_size}; this id comes from another tokenizer")]
    Token {
        /// The id.
        id: u32,
        /// Highest id of the tokenizer + 1.
        vocab_size: u32,
    },
    /// The tokenizer library gave up on a text, on ids or on training.
    #[error("the tokenizer failed: {source}")]
    Tokenizer {
        /// Its words.
        source: Cause,
    },
    /// The training texts have too few different pairs.
    #[error("the texts give {got} pieces, not {expected}; train on more text or ask for a smaller vocabulary")]
    TooFewPieces {
        /// Pieces asked for.
        expected: u32,
        /// Pieces there are.
        got: u32,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// For `map_err` on what the Parquet and Arrow libraries say.
    pub(crate) fn parquet<E: Into<Cause>>(path: &Path) -> impl Fn(E) -> Self {
        move |source| Self::Parquet { path: path.to_owned(), source: source.into() }
    }

    /// For `map_err` on what the tokenizer library says.
    pub(crate) fn tokenizer(source: Cause) -> Self {
        Self::Tokenizer { source }
    }
}
