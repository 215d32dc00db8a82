//! Conversations in columns of Arrow's record batches, and in Parquet files.

use super::columns::{Strings, root_of};
use super::{Collector, DataFile, parquet};
use crate::chat::{Columns, conversation};
use crate::document::Content;
use crate::error::{Error, Result};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use minijinja::Value;
use std::path::Path;

/// Number of rows that are decoded together: few, since a string array holds at most 2 GiB.
const ROWS: usize = 64;

/// Reads the rows of a Parquet file.
pub(super) fn read_parquet(
    file: &DataFile,
    columns: &Columns,
    split_column: Option<&str>,
    found: &mut Collector<'_>,
) -> Result<()> {
    let path = &file.path;
    let opened = parquet::open(path)?;
    found.follow(&opened);
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(Error::parquet(path))?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots(path, builder.schema(), columns, split_column)?);
    let batches = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(Error::parquet(path))?;
    let mut row = 0;
    for batch in batches {
        rows(file, &batch.map_err(Error::parquet(path))?, columns, split_column, &mut row, found)?;
        if found.is_full(file) {
            break;
        }
    }
    Ok(())
}

/// Indices of the columns that are read, in ascending order.
pub(super) fn roots(path: &Path, schema: &Schema, columns: &Columns, split_column: Option<&str>) -> Result<Vec<usize>> {
    let option = match columns {
        Columns::Messages { .. } => "messages_column",
        Columns::PromptCompletion | Columns::Instruction | Columns::Prompt | Columns::Task => "format",
    };
    let required = columns.required().into_iter().map(|name| (name, option));
    let split = split_column.map(|name| (name, "split_column"));
    let mut roots: Vec<usize> =
        required.chain(split).map(|(name, option)| root_of(path, schema, name, option)).collect::<Result<_>>()?;
    let optional = columns.optional().iter().filter_map(|name| Some(schema.column_with_name(name)?.0));
    roots.extend(optional);
    roots.sort_unstable();
    roots.dedup();
    Ok(roots)
}

/// Passes on the conversations of a batch. `row` is the number of rows before it.
pub(super) fn rows(
    file: &DataFile,
    batch: &RecordBatch,
    columns: &Columns,
    split_column: Option<&str>,
    row: &mut u64,
    found: &mut Collector<'_>,
) -> Result<()> {
    let path = &file.path;
    let splits = split_column.map(|name| Strings::of(path, batch, name, "split_column")).transpose()?;
    let schema = batch.schema();
    for index in 0..batch.num_rows() {
        if found.is_full(file) {
            break;
        }
        let refused =
            |problem| Error::TokenRow { path: path.clone(), place: format!("row {row} (counted from 0)"), problem };
        let mut fields = Vec::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let value = value(column, index).map_err(|problem| refused(format!("`{}` {problem}", field.name())))?;
            fields.push((field.name().clone(), value));
        }
        let content = conversation(&Value::from_pairs(fields), columns).map_err(refused)?;
        let split = splits.as_ref().map(|splits| splits.row(index).to_owned());
        found.push(file, Some(Content::Conversation(content)), split)?;
        *row += 1;
    }
    Ok(())
}

/// One item of an array. A struct has the fields of all rows, so that those that are null were not in this one.
fn value(array: &ArrayRef, index: usize) -> Result<Value, String> {
    if array.is_null(index) {
        return Ok(Value::from(()));
    }
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        return value(dictionary.values(), dictionary.normalized_keys()[index]);
    }
    let list = |items: ArrayRef| (0..items.len()).map(|item| value(&items, item)).collect::<Result<Value, String>>();
    macro_rules! primitive {
        ($($data_type:ident => $primitive:ty),*) => {
            match array.data_type() {
                $(DataType::$data_type => Value::from(array.as_primitive::<$primitive>().value(index)),)*
                DataType::Float16 => Value::from(array.as_primitive::<Float16Type>().value(index).to_f64()),
                DataType::Null => Value::from(()),
                DataType::Boolean => Value::from(array.as_boolean().value(index)),
                DataType::Utf8 => Value::from(array.as_string::<i32>().value(index)),
                DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(index)),
                DataType::Utf8View => Value::from(array.as_string_view().value(index)),
                DataType::List(_) => list(array.as_list::<i32>().value(index))?,
                DataType::LargeList(_) => list(array.as_list::<i64>().value(index))?,
                DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(index))?,
                DataType::Struct(fields) => {
                    let mut there = Vec::new();
                    for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                        if !column.is_null(index) {
                            there.push((field.name().clone(), value(column, index)?));
                        }
                    }
                    Value::from_pairs(there)
                }
                other => return Err(format!("holds {other}, which has no meaning in a conversation")),
            }
        };
    }
    Ok(primitive!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type,
        Float32 => Float32Type, Float64 => Float64Type
    ))
}
