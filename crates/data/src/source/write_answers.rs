//! Writing prompts with their answers as one Parquet file.

use super::check_split;
use crate::error::{Error, Result};
use arrow_array::builder::{BooleanBuilder, Int8Builder, Int32Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use logitcask_files::{AtomicFile, sync_folder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use std::path::Path;
use std::sync::Arc;

/// The column of tokens in a file of answers.
pub const ANSWER_TOKENS: &str = "input_ids";
/// The column that marks the tokens of the answers.
pub const ANSWER_MASKS: &str = "assistant_masks";
/// The column that names splits.
pub const ANSWER_SPLITS: &str = "split";

/// The key of the record in the footer.
const RECORD: &str = "logitcask.answers";
/// Number of rows of a row group.
const ROWS: usize = 1024;

/// A prompt with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredRow {
    /// The tokens of both.
    pub tokens: Vec<u32>,
    /// Number of tokens of the prompt.
    pub prompt: usize,
    /// Role and text of all messages, the answer's among them.
    pub messages: Vec<(String, String)>,
    /// Whether the answer ends with an end token.
    pub is_finished: bool,
    /// The name of the split, if rows have one.
    pub split: Option<String>,
}

/// Writes answers as the columns `input_ids`, `assistant_masks` (1 for the tokens of the answer, otherwise 0),
/// `messages`, `finished` and, if `has_splits`, `split`, and what they were made from as `record` in the footer. The
/// same rows give the same bytes. The file is created atomically and replaces an existing one.
///
/// # Errors
/// A split name that a dataset would reject, a file that cannot be written, and any error of `rows`.
pub fn write_answers<E: From<Error>>(
    path: &Path,
    record: &str,
    has_splits: bool,
    rows: impl Iterator<Item = Result<AnsweredRow, E>>,
) -> Result<(), E> {
    let level = ZstdLevel::try_new(9).map_err(Error::parquet(path))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // The library would write its own version here, so that an upgrade would change every file.
        .set_created_by("logitcask".to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new(RECORD.to_owned(), record.to_owned())]))
        .build();
    let mut file = AtomicFile::create(path, ".new-").map_err(Error::io(path))?;
    let schema = Columns::new(has_splits).finish(path)?.schema();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).map_err(Error::parquet(path))?;
    let mut columns = Columns::new(has_splits);
    for (row, at) in rows.zip(0u64..) {
        let row = row?;
        if let Some(split) = row.split.as_ref().filter(|_| has_splits) {
            check_split(path, at, split)?;
        }
        columns.push(&row);
        if columns.rows == ROWS {
            let full = std::mem::replace(&mut columns, Columns::new(has_splits));
            writer.write(&full.finish(path)?).and_then(|()| writer.flush()).map_err(Error::parquet(path))?;
        }
    }
    writer.write(&columns.finish(path)?).map_err(Error::parquet(path))?;
    writer.close().map_err(Error::parquet(path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.sync().and_then(|()| file.persist_over()).and_then(|()| sync_folder(folder)).map_err(Error::io(path))?;
    Ok(())
}

/// The record that [`write_answers`] put into a file; `None` if the file has none.
///
/// # Errors
/// A file that cannot be read as Parquet.
pub fn answers_record(path: &Path) -> Result<Option<String>> {
    let reader = SerializedFileReader::new(super::parquet::open(path)?).map_err(Error::parquet(path))?;
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    Ok(pairs.into_iter().flatten().find(|pair| pair.key == RECORD).and_then(|pair| pair.value.clone()))
}

/// Columns that are filled row by row.
struct Columns {
    tokens: ListBuilder<Int32Builder>,
    masks: ListBuilder<Int8Builder>,
    messages: ListBuilder<StructBuilder>,
    finished: BooleanBuilder,
    splits: Option<StringBuilder>,
    rows: usize,
}

impl Columns {
    fn new(has_splits: bool) -> Self {
        let fields = ["role", "content"].map(|name| Field::new(name, DataType::Utf8, true));
        Self {
            tokens: ListBuilder::new(Int32Builder::new()),
            masks: ListBuilder::new(Int8Builder::new()),
            messages: ListBuilder::new(StructBuilder::from_fields(fields.to_vec(), ROWS)),
            finished: BooleanBuilder::new(),
            splits: has_splits.then(StringBuilder::new),
            rows: 0,
        }
    }

    fn push(&mut self, row: &AnsweredRow) {
        // The ids of a tokenizer are far below the limit of 32 bits with a sign.
        self.tokens.append_value(row.tokens.iter().map(|&id| Some(id as i32)));
        self.masks.append_value((0..row.tokens.len()).map(|at| Some(i8::from(at >= row.prompt))));
        for (role, content) in &row.messages {
            let message = self.messages.values();
            for (index, text) in [role, content].into_iter().enumerate() {
                if let Some(field) = message.field_builder::<StringBuilder>(index) {
                    field.append_value(text);
                }
            }
            message.append(true);
        }
        self.messages.append(true);
        self.finished.append_value(row.is_finished);
        if let Some(splits) = &mut self.splits {
            splits.append_option(row.split.as_ref());
        }
        self.rows += 1;
    }

    fn finish(mut self, path: &Path) -> Result<RecordBatch> {
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (ANSWER_TOKENS, Arc::new(self.tokens.finish())),
            (ANSWER_MASKS, Arc::new(self.masks.finish())),
            ("messages", Arc::new(self.messages.finish())),
            ("finished", Arc::new(self.finished.finish())),
        ];
        if let Some(splits) = &mut self.splits {
            columns.push((ANSWER_SPLITS, Arc::new(splits.finish())));
        }
        // The same columns may be without nulls in one batch and not in another.
        let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(nullable).map_err(Error::parquet(path))
    }
}
