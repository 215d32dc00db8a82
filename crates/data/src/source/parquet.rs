//! Parquet: one document per row.
//!
//! Columns are read value by value, not as arrays: an array of strings is limited to 2 GiB, however few rows those are,
//! and one text that is not valid UTF-8 would invalidate its whole batch.

use super::{Collector, DataFile, DatasetConfig, POINTER};
use crate::document::Content;
use crate::error::{Error, Result};
use arrow_schema::{DataType, Schema};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::SchemaDescriptor;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// Reads the texts of a file. A text that is null is a blank document.
pub(super) fn read(file: &DataFile, config: &DatasetConfig, found: &mut Collector<'_>) -> Result<()> {
    let path = &file.path;
    let opened = open(path)?;
    found.follow(&opened);
    let reader = SerializedFileReader::new(opened).map_err(Error::parquet(path))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    // Uses the Parquet types: strings that were large, views or dictionaries in the writer's memory are plain strings
    // here.
    let fields = parquet_to_arrow_schema(schema, None).map_err(Error::parquet(path))?;
    let text = string_column(path, schema, &fields, &config.text_column, "text_column")?;
    let split = match &config.split_column {
        Some(name) => Some(string_column(path, schema, &fields, name, "split_column")?),
        None => None,
    };
    let mut row = 0_u64;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(Error::parquet(path))?;
        let mut texts = Strings::open(path, group.as_ref(), text)?;
        let mut splits = split.map(|split| Strings::open(path, group.as_ref(), split)).transpose()?;
        while !found.is_full(file) {
            let Some(text) = texts.next(path)? else { break };
            let place = |byte: usize| format!("row {row} (counted from 0) from its byte {byte} on");
            let text = match text {
                Some(text) => found.text(path, text.data(), place)?,
                None => Some(String::new()),
            };
            let split = match &mut splits {
                Some(splits) => {
                    let split =
                        splits.next(path)?.ok_or_else(|| Error::parquet(path)("its columns differ in length"))?;
                    Some(split.map_or_else(String::new, |name| String::from_utf8_lossy(name.data()).into_owned()))
                }
                None => None,
            };
            found.push(file, text.map(Content::Text), split)?;
            row += 1;
        }
    }
    Ok(())
}

pub(super) fn open(path: &Path) -> Result<File> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut start = vec![];
    Read::by_ref(&mut file).take(POINTER.len() as u64).read_to_end(&mut start).map_err(Error::io(path))?;
    if start == POINTER {
        return Err(Error::Pointer { path: path.to_owned() });
    }
    file.rewind().map_err(Error::io(path))?;
    Ok(file)
}

/// Index of a column of strings among the leaves of the schema.
fn string_column(
    path: &Path,
    schema: &SchemaDescriptor,
    fields: &Schema,
    name: &str,
    option: &'static str,
) -> Result<usize> {
    let (path, column) = (path.to_owned(), name.to_owned());
    let Some((root, field)) = fields.column_with_name(name) else {
        let names: Vec<&str> = fields.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::Column { path, column, found: names.join(", "), option });
    };
    let leaf = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == root);
    match (field.data_type(), leaf) {
        (DataType::Utf8, Some(leaf)) => Ok(leaf),
        (other, _) => Err(Error::ColumnType { path, column, got: other.to_string(), option }),
    }
}

/// Iterates over the strings of one column of a row group.
struct Strings {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// Whether the column may contain nulls.
    is_optional: bool,
    levels: Vec<i16>,
    values: Vec<ByteArray>,
}

impl Strings {
    fn open(path: &Path, group: &dyn RowGroupReader, leaf: usize) -> Result<Self> {
        let is_optional = group.metadata().column(leaf).column_descr().max_def_level() > 0;
        match group.get_column_reader(leaf).map_err(Error::parquet(path))? {
            ColumnReader::ByteArrayColumnReader(reader) => {
                Ok(Self { reader, is_optional, levels: vec![], values: vec![] })
            }
            _ => Err(Error::parquet(path)("a column of strings holds no byte arrays")),
        }
    }

    /// Returns `None` at the end; a null is an inner `None`. Strings are read one at a time, because several may exceed
    /// the memory.
    fn next(&mut self, path: &Path) -> Result<Option<Option<ByteArray>>> {
        self.levels.clear();
        self.values.clear();
        let levels = self.is_optional.then_some(&mut self.levels);
        let (records, ..) =
            self.reader.read_records(1, levels, None, &mut self.values).map_err(Error::parquet(path))?;
        Ok((records == 1).then(|| self.values.pop()))
    }
}
