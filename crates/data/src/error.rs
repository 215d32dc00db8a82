//! The errors of datasets and tokenizers.

mod convert;

use logitcask_core::SampleId;
use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a dataset or a tokenizer. Every message is complete: it includes the underlying cause once, which is not
/// returned as a source that a caller would print again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing exists at the configured path.
    #[error(
        "{path}: no such file or folder; check the dataset's `path` (in a recipe a relative one is taken from the recipe's folder, or else from the current one)"
    )]
    Missing {
        /// The configured path.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A compressed file cannot be unpacked.
    #[error(
        "{path}: cannot be unpacked after line {lines}: {cause}; it is not whole or not in the format that its name says, fetch it again or test it with gzip -t or zstd -t"
    )]
    Decompress {
        /// The file.
        path: PathBuf,
        /// Number of lines that were read before.
        lines: usize,
        /// The library's or the operating system's error.
        cause: io::Error,
    },
    /// A Git LFS pointer instead of the file, from a clone without the large files.
    #[error("{path}: is a Git LFS pointer, not the file it stands for; `git lfs pull` in the cloned folder fetches it")]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A broken link in a folder of data.
    #[error("{path}: is a link to {target}, which does not exist; download it again, or remove the link")]
    Link {
        /// The link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
    /// A folder whose files do not determine the splits, or are incomplete.
    #[error("{path}: {problem}")]
    Folder {
        /// File or folder.
        path: PathBuf,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// The head of a `README.md`, which assigns files to splits, is invalid.
    #[error("{path}: its `configs` {problem}")]
    Card {
        /// The card.
        path: PathBuf,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// The name of a file does not determine its format.
    #[error(
        "{path}: its name says nothing we can read; expected .parquet, .arrow, .jsonl, .ndjson or .txt, the last three perhaps with .gz or .zst (and .json.gz, with one object on each line); unpack files of other formats first, and move what holds no texts elsewhere (in a folder, hidden and .md files are passed over)"
    )]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// There are no documents, or only blank ones.
    #[error("{path}: {}; a dataset needs at least one document that holds text", match blank {
        0 => "holds no texts".to_owned(),
        blank => format!("each of its {blank} documents is blank"),
    })]
    Empty {
        /// File or folder.
        path: PathBuf,
        /// Number of documents without text.
        blank: u64,
    },
    /// The dataset has no such sample.
    #[error("split `{split}`, sample {}: the dataset does not have it, it has {samples} samples of this split", sample.0)]
    NoSample {
        /// The split, which may not exist either.
        split: String,
        /// The sample.
        sample: SampleId,
        /// Number of samples in the split.
        samples: u64,
    },
    /// There are documents, but no window of two tokens.
    #[error(
        "{path}: its {documents} documents give no sample; a sample needs two tokens, use a tokenizer with a start token or longer texts"
    )]
    NoSamples {
        /// File or folder.
        path: PathBuf,
        /// Number of documents with text.
        documents: u64,
    },
    /// The file has no such column.
    #[error("{path}: no column `{column}`, it has: {found}; set `{option}` to one of them")]
    Column {
        /// The file.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The existing columns.
        found: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// The column does not contain text.
    #[error("{path}: column `{column}` holds {got}, expected strings; set `{option}` to a column of strings")]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The column's type.
        got: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// The column does not contain lists of numbers.
    #[error(
        "{path}: column `{column}` holds {got}, expected lists of whole numbers or truth values without nulls; set `{option}` to such a column"
    )]
    NumberColumn {
        /// The file.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The column's type.
        got: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// A row of tokens that means nothing.
    #[error("{path}: {place}: {problem}")]
    TokenRow {
        /// The file.
        path: PathBuf,
        /// The row.
        place: String,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// A dataset of conversations, or one that could be.
    #[error(transparent)]
    Chat(#[from] crate::chat::ChatError),
    /// No token is marked, so there is nothing to learn.
    #[error(
        "{path}: `{option}` marks no token with one before it in any of its {documents} rows, so there is nothing to learn"
    )]
    NoMarks {
        /// File or folder.
        path: PathBuf,
        /// The option that names the column of marks.
        option: &'static str,
        /// Number of rows.
        documents: u64,
    },
    /// A line of a JSON Lines file is not a document.
    #[error("{path}: line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, counted from 1.
        line: usize,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// A text is not valid Unicode.
    #[error(
        "{path}: {place}: {problem}; mend the file, or set `on_bad_text` to \"replace\" (by U+FFFD) or \"skip\" to go on"
    )]
    BadText {
        /// The file.
        path: PathBuf,
        /// The line, row or text.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A text contains a special token, and the configuration does not say what that means.
    #[error(
        "{path}: document {document} (counted from 0) spells out the special token `{token}` ({id}) at character {character}; set `special_tokens` to \"parse\" if such texts mean the token (rendered chats), to \"plain\" if they are text like any other"
    )]
    SpelledOut {
        /// The file.
        path: PathBuf,
        /// Index in the file, from 0.
        document: u64,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Index of the character in the document, from 0.
        character: usize,
    },
    /// The name of a split is not valid in a file name.
    #[error(
        "{path}: document {document} (counted from 0) names the split `{got}`, expected 1 to 64 lower-case letters, digits, `-` and `_`"
    )]
    SplitName {
        /// The file.
        path: PathBuf,
        /// Index in the file, from 0.
        document: u64,
        /// The name; empty if there is none.
        got: String,
    },
    /// A document has two different split names.
    #[error(
        "{path}: document {document} (counted from 0) names the split `{column}`, its file's name `{file}`; rename the file, or leave `split_column` out"
    )]
    SplitContradicted {
        /// The file.
        path: PathBuf,
        /// Index in the file, from 0.
        document: u64,
        /// The name in its column.
        column: String,
        /// The name from the file's name, its folder or the card.
        file: String,
    },
    /// A file with a Parquet or Arrow extension is invalid.
    #[error("{path}: cannot be read or written as {format}: {cause}")]
    Table {
        /// The file.
        path: PathBuf,
        /// Parquet or Arrow.
        format: &'static str,
        /// Message of the Parquet or Arrow library.
        cause: String,
    },
    /// Another thread failed, and its error is the one to report.
    #[error("reading stopped because another thread failed")]
    Stopped,
    /// A dataset that was prepared on disk, or should be.
    #[error(transparent)]
    Prepared(#[from] crate::prepared::error::PreparedError),
    /// The value of an option is out of range.
    #[error("`{option}` is {got}, expected {expected}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The configured value.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A document has more tokens than 32 bits can count.
    #[error(
        "document {document} (counted from 0) has {tokens} tokens, at most 4294967295 can be addressed; cut it into several documents"
    )]
    TooLong {
        /// Its index in the source.
        document: u64,
        /// Number of its tokens.
        tokens: usize,
    },
    /// A file is not a valid `tokenizer.json`.
    #[error("{path}: not a tokenizer.json that can be read: {problem}")]
    TokenizerJson {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A model's folder has no supported tokenizer.
    #[error(
        "{folder}: no tokenizer.json; if it has vocab.json and merges.txt or a tokenizer.model, transformers converts it: python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A tokenizer's file needs a feature that this build does not support, or contradicts the given options.
    #[error("{path}: {problem}")]
    TokenizerPart {
        /// `tokenizer.json` or `tokenizer_config.json`.
        path: PathBuf,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// A file is not a valid `tokenizer.bin` of llama2.c.
    #[error("{path}: not a llama2.c tokenizer of {vocab_size} pieces: {problem}")]
    Llama2c {
        /// The file.
        path: PathBuf,
        /// The requested number of pieces.
        vocab_size: u32,
        /// What is wrong.
        problem: String,
    },
    /// A GGUF file cannot be read, or its metadata lack what a tokenizer needs.
    #[error("{problem}")]
    Gguf {
        /// The file, what was found, and what was expected.
        problem: String,
    },
    /// The tokenizer has no such token.
    #[error("token {id} is not one of the tokenizer's {vocab_size}; this id comes from another tokenizer")]
    Token {
        /// The id.
        id: u32,
        /// Highest id of the tokenizer + 1.
        vocab_size: u32,
    },
    /// The tokenizer library reported an error for a text, for ids or in training.
    #[error("the tokenizer failed: {problem}")]
    Tokenizer {
        /// The library's message.
        problem: String,
    },
    /// The training texts have too few different pairs.
    #[error("the texts give {got} pieces, not {expected}; train on more text or ask for a smaller vocabulary")]
    TooFewPieces {
        /// Number of requested pieces.
        expected: u32,
        /// Number of available pieces.
        got: u32,
    },
}
