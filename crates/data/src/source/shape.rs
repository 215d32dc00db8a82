//! What the documents of a source are, decided by its options or by the columns of its first file.

use super::config::Format;
use super::lines::Lines;
use super::{DataFile, DatasetConfig, Kind, arrow, kind, parquet};
use crate::chat::{ChatError, Columns};
use crate::error::Result;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use std::fs;

/// Usual names of the column of messages.
const MESSAGES: &str = "messages";
const CONVERSATIONS: &str = "conversations";

/// The columns of a source's conversations; `None` for texts and tokens.
///
/// # Errors
/// A file that can be read in two ways, if no option decides.
pub(super) fn conversations(config: &DatasetConfig, files: &[DataFile]) -> Result<Option<Columns>> {
    let messages = |column: &str| Some(Columns::Messages { column: column.to_owned() });
    match (&config.messages_column, config.format) {
        (Some(column), _) => return Ok(messages(column)),
        (None, Some(Format::Text)) => return Ok(None),
        (None, Some(Format::Messages)) => return Ok(messages(MESSAGES)),
        (None, Some(Format::PromptCompletion)) => return Ok(Some(Columns::PromptCompletion)),
        (None, Some(Format::Instruction)) => return Ok(Some(Columns::Instruction)),
        (None, None) if config.tokens_column.is_some() || config.has_own_text_column() => return Ok(None),
        (None, None) => {}
    }
    let Some(file) = files.first() else { return Ok(None) };
    // A file without readable columns is refused when it is read, with the place of the damage.
    let columns = columns(file).unwrap_or_default();
    let others = [
        (has(&columns, &["text"]), "`text`", "format = \"text\"", None),
        (has(&columns, &["input_ids"]), "`input_ids`", "tokens_column = \"input_ids\"", None),
    ];
    only(file, others.into_iter().chain(ways(&columns)))
}

/// The columns of the prompts of a dataset that is to be answered.
///
/// # Errors
/// A file without prompts, or one that can be read in two ways, if no option decides.
pub(super) fn prompts(config: &DatasetConfig, files: &[DataFile]) -> Result<Columns> {
    let messages = |column: &str| Ok(Columns::Messages { column: column.to_owned() });
    let nothing = || ChatError::NotPrompts { path: config.path.clone() }.into();
    match (&config.messages_column, config.format) {
        (Some(column), _) => return messages(column),
        (None, Some(Format::Messages)) => return messages(MESSAGES),
        (None, Some(Format::PromptCompletion)) => return Ok(Columns::Prompt),
        (None, Some(Format::Instruction)) => return Ok(Columns::Task),
        (None, Some(Format::Text)) => return Err(nothing()),
        (None, None) => {}
    }
    let file = files.first().ok_or_else(nothing)?;
    // A file without readable columns is refused when it is read, with the place of the damage.
    let Some(columns) = columns(file) else { return messages(MESSAGES) };
    match only(file, ways(&columns).into_iter())? {
        Some(Columns::PromptCompletion) => Ok(Columns::Prompt),
        Some(Columns::Instruction) => Ok(Columns::Task),
        Some(columns) => Ok(columns),
        None if has(&columns, &["prompt"]) => Ok(Columns::Prompt),
        None if has(&columns, &["instruction"]) => Ok(Columns::Task),
        None => Err(nothing()),
    }
}

/// Whether the first file has a column.
pub(super) fn first_has(files: &[DataFile], column: &str) -> bool {
    files.first().and_then(columns).is_some_and(|columns| has(&columns, &[column]))
}

/// One way to read a file: whether its columns are there, their names, the option that chooses it, and what it is.
type Way = (bool, &'static str, &'static str, Option<Columns>);

/// The ways to read a file with these columns as conversations.
fn ways(columns: &[String]) -> [Way; 4] {
    let messages = |column: &str| Some(Columns::Messages { column: column.to_owned() });
    let has = |names: &[&str]| has(columns, names);
    [
        (has(&[MESSAGES]), "`messages`", "format = \"messages\"", messages(MESSAGES)),
        (has(&[CONVERSATIONS]), "`conversations`", "messages_column = \"conversations\"", messages(CONVERSATIONS)),
        (
            has(&["prompt", "completion"]),
            "`prompt` and `completion`",
            "format = \"prompt_completion\"",
            Some(Columns::PromptCompletion),
        ),
        (
            has(&["instruction", "output"]),
            "`instruction` and `output`",
            "format = \"instruction\"",
            Some(Columns::Instruction),
        ),
    ]
}

/// The only way to read a file that is there; `None` if there is none, or if it is not as conversations.
fn only(file: &DataFile, ways: impl Iterator<Item = Way>) -> Result<Option<Columns>> {
    let mut found = ways.filter(|(is_there, ..)| *is_there);
    let first = found.next();
    match (first, found.next()) {
        (Some((_, first, choose_first, _)), Some((_, second, choose_second, _))) => {
            let path = file.path.clone();
            Err(ChatError::TwoFormats { path, first, second, choose_first, choose_second }.into())
        }
        (first, _) => Ok(first.and_then(|(.., columns)| columns)),
    }
}

fn has(columns: &[String], names: &[&str]) -> bool {
    names.iter().all(|name| columns.iter().any(|column| column == name))
}

/// The columns or fields of a file's first row; `None` if they cannot be read, and for a text file.
fn columns(file: &DataFile) -> Option<Vec<String>> {
    let path = &file.path;
    // What is read from a pipe is gone.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let names = |schema: &arrow_schema::Schema| schema.fields().iter().map(|field| field.name().clone()).collect();
    match kind(path)? {
        Kind::Text => None,
        Kind::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(parquet::open(path).ok()?).ok()?;
            Some(names(reader.schema()))
        }
        Kind::Arrow => Some(names(&*arrow::schema(path).ok()?)),
        Kind::Lines => {
            let mut lines = Lines::open(path).ok()?;
            while let Some((_, line)) = lines.next().ok()? {
                if !line.trim_ascii().is_empty() {
                    let object: Map<String, Value> = serde_json::from_str(&String::from_utf8_lossy(line)).ok()?;
                    return Some(object.keys().cloned().collect());
                }
            }
            None
        }
    }
}
