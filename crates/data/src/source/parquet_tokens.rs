//! Parquet: one row of tokens per row, in columns of lists.

use super::token_columns::TokenColumns;
use super::{Collector, DataFile, parquet};
use crate::document::Content;
use crate::error::{Error, Result};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use std::path::Path;

/// Number of rows that are decoded together.
const ROWS: usize = 256;

/// Reads the rows of a file. A row whose tokens are null is a blank document.
pub(super) fn read(
    file: &DataFile,
    columns: &TokenColumns<'_>,
    split_column: Option<&str>,
    found: &mut Collector,
) -> Result<()> {
    let path = &file.path;
    let builder = ParquetRecordBatchReaderBuilder::try_new(parquet::open(path)?).map_err(Error::parquet(path))?;
    let marks = columns.marks.map(|marks| (marks.column(), marks.option()));
    let wanted = [Some((columns.tokens, "tokens_column")), marks, split_column.map(|name| (name, "split_column"))];
    let mut roots = Vec::new();
    for (name, option) in wanted.into_iter().flatten() {
        let schema = builder.schema();
        let Some((root, _)) = schema.column_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let (path, column, found) = (path.clone(), name.to_owned(), names.join(", "));
            return Err(Error::Column { path, column, found, option });
        };
        roots.push(root);
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let batches = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(Error::parquet(path))?;
    let mut row = 0u64;
    for batch in batches {
        let batch = batch.map_err(Error::parquet(path))?;
        let tokens = Lists::of(path, &batch, columns.tokens, "tokens_column")?;
        let marks = marks.map(|(name, option)| Lists::of(path, &batch, name, option)).transpose()?;
        let splits = split_column.map(|name| strings(path, &batch, name)).transpose()?;
        for index in 0..batch.num_rows() {
            if found.is_full(file) {
                return Ok(());
            }
            let (ids, marks) = (tokens.row(index), marks.as_ref().map(|marks| marks.row(index)));
            let content = columns.row(&ids, marks.as_deref()).map_err(|problem| Error::TokenRow {
                path: path.clone(),
                place: format!("row {row}"),
                problem,
            })?;
            found.push(file, Some(Content::Tokens(content)), splits.as_ref().map(|splits| splits[index].clone()))?;
            row += 1;
        }
    }
    Ok(())
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
        let column =
            batch.column_by_name(name).ok_or_else(|| Error::parquet(path)("a column is missing in a batch"))?;
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

    fn row(&self, index: usize) -> Vec<i64> {
        self.0[index].clone()
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

fn strings(path: &Path, batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let column = batch.column_by_name(name).ok_or_else(|| Error::parquet(path)("a column is missing in a batch"))?;
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    match column.data_type() {
        DataType::Utf8 => Ok(column.as_string::<i32>().iter().map(text).collect()),
        DataType::LargeUtf8 => Ok(column.as_string::<i64>().iter().map(text).collect()),
        DataType::Utf8View => Ok(column.as_string_view().iter().map(text).collect()),
        other => {
            let (path, column, got) = (path.to_owned(), name.to_owned(), other.to_string());
            Err(Error::ColumnType { path, column, got, option: "split_column" })
        }
    }
}
