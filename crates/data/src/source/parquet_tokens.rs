//! Parquet: one row of tokens per row, in columns of lists.

use super::columns::{root_of, token_rows};
use super::token_columns::TokenColumns;
use super::{Collector, DataFile, parquet};
use crate::error::{Error, Result};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Number of rows that are decoded together.
const ROWS: usize = 256;

/// Reads the rows of a file. A row whose tokens are null is a blank document.
pub(super) fn read(
    file: &DataFile,
    columns: &TokenColumns<'_>,
    split_column: Option<&str>,
    found: &mut Collector<'_>,
) -> Result<()> {
    let path = &file.path;
    let opened = parquet::open(path)?;
    found.follow(&opened);
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(Error::parquet(path))?;
    let split = split_column.map(|name| (name, "split_column"));
    let names = columns.names().into_iter().chain(split);
    let roots: Vec<usize> =
        names.map(|(name, option)| root_of(path, builder.schema(), name, option)).collect::<Result<_>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let batches = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(Error::parquet(path))?;
    let mut row = 0;
    for batch in batches {
        token_rows(file, &batch.map_err(Error::parquet(path))?, columns, split_column, &mut row, found)?;
        if found.is_full(file) {
            break;
        }
    }
    Ok(())
}
