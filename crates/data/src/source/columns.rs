//! Columns of Arrow's record batches: strings, and lists of numbers.

use super::token_columns::TokenColumns;
use super::{Collector, DataFile};
use crate::document::Content;
use crate::error::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use std::path::Path;

/// Index of a column.
pub(super) fn root_of(path: &Path, schema: &Schema, name: &str, option: &'static str) -> Result<usize> {
    schema.column_with_name(name).map(|(root, _)| root).ok_or_else(|| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::Column { path: path.to_owned(), column: name.to_owned(), found: names.join(", "), option }
    })
}

/// Passes on the rows of tokens of a batch. `row` is the number of rows before it.
pub(super) fn token_rows(
    file: &DataFile,
    batch: &RecordBatch,
    columns: &TokenColumns<'_>,
    split_column: Option<&str>,
    row: &mut u64,
    found: &mut Collector<'_>,
) -> Result<()> {
    let path = &file.path;
    let tokens = Lists::of(path, batch, columns.tokens, "tokens_column")?;
    let marks = columns.marks.map(|marks| Lists::of(path, batch, marks.column(), marks.option())).transpose()?;
    let splits = split_column.map(|name| Strings::of(path, batch, name, "split_column")).transpose()?;
    for index in 0..batch.num_rows() {
        if found.is_full(file) {
            break;
        }
        let (ids, marks) = (tokens.row(index), marks.as_ref().map(|marks| marks.row(index)));
        let content = columns.row(ids, marks).map_err(|problem| Error::TokenRow {
            path: path.clone(),
            place: format!("row {row} (counted from 0)"),
            problem,
        })?;
        let split = splits.as_ref().map(|splits| splits.row(index).to_owned());
        found.push(file, Some(Content::Tokens(content)), split)?;
        *row += 1;
    }
    Ok(())
}

/// A column of strings of any width, perhaps in a dictionary.
pub(super) struct Strings {
    values: ArrayRef,
    /// Index of each row in `values`; `None` if that is its own.
    keys: Option<Vec<Option<usize>>>,
}

impl Strings {
    pub(super) fn of(path: &Path, batch: &RecordBatch, name: &str, option: &'static str) -> Result<Self> {
        let column = batch.column(root_of(path, &batch.schema(), name, option)?);
        let this = match column.as_any_dictionary_opt() {
            Some(dictionary) => {
                let keys = match dictionary.values().is_empty() {
                    true => vec![0; dictionary.len()],
                    false => dictionary.normalized_keys(),
                };
                let key = |(row, at): (usize, usize)| dictionary.is_valid(row).then_some(at);
                let keys = keys.into_iter().enumerate().map(key).collect();
                Self { values: dictionary.values().clone(), keys: Some(keys) }
            }
            None => Self { values: column.clone(), keys: None },
        };
        match this.values.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(this),
            _ => {
                let (path, column, got) = (path.to_owned(), name.to_owned(), column.data_type().to_string());
                Err(Error::ColumnType { path, column, got, option })
            }
        }
    }

    /// The string of a row; empty if it is null.
    pub(super) fn row(&self, row: usize) -> &str {
        let at = match &self.keys {
            Some(keys) => keys[row],
            None => Some(row),
        };
        let Some(at) = at.filter(|&at| self.values.is_valid(at)) else { return "" };
        match self.values.data_type() {
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(at),
            DataType::Utf8View => self.values.as_string_view().value(at),
            _ => self.values.as_string::<i32>().value(at),
        }
    }
}

/// A column of lists of whole numbers or truth values, of any width.
struct Lists(Vec<Vec<i64>>);

impl Lists {
    fn of(path: &Path, batch: &RecordBatch, name: &str, option: &'static str) -> Result<Self> {
        let refused = |got: &DataType| Error::NumberColumn {
            path: path.to_owned(),
            column: name.to_owned(),
            got: got.to_string(),
            option,
        };
        let column = batch.column(root_of(path, &batch.schema(), name, option)?);
        let item = |index: usize| -> Option<ArrayRef> {
            match column.data_type() {
                DataType::List(_) => Some(column.as_list::<i32>().value(index)),
                DataType::LargeList(_) => Some(column.as_list::<i64>().value(index)),
                DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().value(index)),
                _ => None,
            }
        };
        let row = |index: usize| {
            if column.is_null(index) {
                return Ok(Vec::new());
            }
            item(index).and_then(|items| numbers(&items)).ok_or_else(|| refused(column.data_type()))
        };
        Ok(Self((0..column.len()).map(row).collect::<Result<_>>()?))
    }

    fn row(&self, index: usize) -> &[i64] {
        &self.0[index]
    }
}

/// The items of an array of whole numbers or truth values; `None` for other types, and for an array with nulls.
fn numbers(items: &ArrayRef) -> Option<Vec<i64>> {
    if items.null_count() > 0 {
        return None;
    }
    macro_rules! widened {
        ($($data_type:ident => $primitive:ty),*) => {
            match items.data_type() {
                $(DataType::$data_type => {
                    let values = items.as_primitive::<$primitive>().values();
                    values.iter().map(|&value| i64::try_from(value).ok()).collect()
                })*
                DataType::Boolean => Some(items.as_boolean().iter().map(|mark| i64::from(mark == Some(true))).collect()),
                _ => None,
            }
        };
    }
    widened!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type
    )
}
