//! Everything a dataset or a tokenizer can be refused for, as a sentence with nouns in it.

use logitcask_core::SampleId;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dataset or a tokenizer cannot be had. Every sentence is whole: what lies below it is said in it, once, and not
/// handed on as a source that a caller would print again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing lies where the configuration points.
    #[error(
        "{path}: no such file or folder; check the dataset's `path` (in a recipe a relative one is taken from the recipe's folder, or else from the current one)"
    )]
    Missing {
        /// As configured.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Its words.
        cause: io::Error,
    },
    /// A clone without the large files.
    #[error("{path}: is a Git LFS pointer, not the file it stands for; `git lfs pull` in the cloned folder fetches it")]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A link in a folder of data that leads nowhere.
    #[error("{path}: is a link to {target}, which does not exist; download it again, or remove the link")]
    Link {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// A folder whose files cannot be told apart into splits, or are not all there.
    #[error("{path}: {problem}")]
    Folder {
        /// File or folder.
        path: PathBuf,
        /// What is wrong and what would do.
        problem: String,
    },
    /// The head of a `README.md` that says which files make up which split.
    #[error("{path}: its `configs` {problem}")]
    Card {
        /// The card.
        path: PathBuf,
        /// What is wrong and what would do.
        problem: String,
    },
    /// A file whose kind its name does not tell.
    #[error(
        "{path}: its name says nothing we can read; expected .parquet, .jsonl, .ndjson or .txt; unpack a compressed file first, and move what holds no texts elsewhere (in a folder, hidden and .md files are passed over)"
    )]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// No document, or only blank ones.
    #[error("{path}: {}; a dataset needs at least one document that holds text", match blank {
        0 => "holds no texts".to_owned(),
        blank => format!("each of its {blank} documents is blank"),
    })]
    Empty {
        /// File or folder.
        path: PathBuf,
        /// Documents without text.
        blank: u64,
    },
    /// A sample that a dataset does not have.
    #[error("split `{split}`, sample {}: the dataset does not have it, it has {samples} samples of this split", sample.0)]
    NoSample {
        /// The split, which may not exist either.
        split: String,
        /// The sample.
        sample: SampleId,
        /// How many there are.
        samples: u64,
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
    /// A text that is no Unicode.
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
    /// A text that spells out a special token, where nobody said what that means.
    #[error(
        "{path}: document {document} spells out the special token `{token}` ({id}) at character {character}; set `special_tokens` to \"parse\" if such texts mean the token (rendered chats), to \"plain\" if they are text like any other"
    )]
    SpelledOut {
        /// The file.
        path: PathBuf,
        /// Counted from 0 within that file.
        document: u64,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Counted from 0 within the document.
        character: usize,
    },
    /// A split name that cannot become part of a file name.
    #[error(
        "{path}: document {document} names the split `{got}`, expected 1 to 64 lower-case letters, digits, `-` and `_`"
    )]
    SplitName {
        /// The file.
        path: PathBuf,
        /// Counted from 0 within that file.
        document: u64,
        /// The name; empty where there is none.
        got: String,
    },
    /// Two names for the split of one document.
    #[error(
        "{path}: document {document} names the split `{column}`, its file's name `{file}`; rename the file, or leave `split_column` out"
    )]
    SplitContradicted {
        /// The file.
        path: PathBuf,
        /// Counted from 0 within that file.
        document: u64,
        /// As its column says.
        column: String,
        /// As the file's name, its folder or the card says.
        file: String,
    },
    /// A file that calls itself Parquet.
    #[error("{path}: cannot be read or written as Parquet: {cause}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Words of the Parquet or Arrow library.
        cause: String,
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
    #[error("{path}: not a tokenizer.json that can be read: {problem}")]
    TokenizerJson {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A model's folder without a tokenizer that can be read.
    #[error(
        "{folder}: no tokenizer.json; if it has vocab.json and merges.txt or a tokenizer.model, transformers converts it: python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A tokenizer whose file asks for what this build does not do, or contradicts what it was told.
    #[error("{path}: {problem}")]
    TokenizerPart {
        /// `tokenizer.json` or `tokenizer_config.json`.
        path: PathBuf,
        /// What is wrong and what would do.
        problem: String,
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
    #[error("the tokenizer failed: {problem}")]
    Tokenizer {
        /// Its words.
        problem: String,
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
        move |cause| Self::Io { path: path.to_owned(), cause }
    }

    /// For `map_err` on what the Parquet and Arrow libraries say.
    pub(crate) fn parquet<E: Display>(path: &Path) -> impl Fn(E) -> Self {
        move |cause| {
            let words = cause.to_string();
            // Each layer of the libraries puts its own name in front.
            let layers = ["Parquet argument error: ", "Parquet error: ", "External: "];
            let mut cause = words.as_str();
            while let Some(inner) = layers.iter().find_map(|layer| cause.strip_prefix(layer)) {
                cause = inner;
            }
            Self::Parquet { path: path.to_owned(), cause: cause.to_owned() }
        }
    }

    /// For `map_err` on what the tokenizer library says.
    pub(crate) fn tokenizer<E: Display>(cause: E) -> Self {
        Self::Tokenizer { problem: cause.to_string() }
    }
}
