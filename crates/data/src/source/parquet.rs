//! Parquet: one document per row.

use super::{Collector, DatasetConfig, check_split};
use crate::error::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Few rows at a time: long texts must not pass what the 32-bit offsets of one batch can address.
const BATCH_ROWS: usize = 64;

/// A text that is null is a blank one.
pub(super) fn read(path: &Path, config: &DatasetConfig, found: &mut Collector) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    // By their Parquet types, whatever strings were in the writer's memory (large, views, dictionaries) are plain ones here.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(Error::parquet(path))?;
    let text_column = string_column(path, builder.schema(), &config.text_column, "text_column")?;
    let split_column = match &config.split_column {
        Some(name) => Some(string_column(path, builder.schema(), name, "split_column")?),
        None => None,
    };
    let roots = [text_column].into_iter().chain(split_column);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(Error::parquet(path))?;
    let mut row = 0;
    for batch in reader {
        let batch = batch.map_err(Error::parquet(path))?;
        let texts = strings(path, &batch, &config.text_column)?;
        let splits = config.split_column.as_ref().map(|name| strings(path, &batch, name)).transpose()?;
        for i in 0..batch.num_rows() {
            if found.is_full() {
                return Ok(());
            }
            let split = splits.map(|splits| value(splits, i));
            if let Some(split) = split {
                check_split(path, row, split)?;
            }
            found.push(value(texts, i).to_owned(), split.map(str::to_owned));
            row += 1;
        }
    }
    Ok(())
}

/// Index of a column of strings.
fn string_column(path: &Path, schema: &Schema, name: &str, option: &'static str) -> Result<usize> {
    let (path, column) = (path.to_owned(), name.to_owned());
    let Some((index, field)) = schema.column_with_name(name) else {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::Column { path, column, found: names.join(", "), option });
    };
    match field.data_type() {
        DataType::Utf8 => Ok(index),
        other => Err(Error::ColumnType { path, column, got: other.to_string(), option }),
    }
}

fn strings<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let strings = batch.column_by_name(name).and_then(|column| column.as_string_opt());
    strings.ok_or_else(|| Error::parquet(path)(format!("column `{name}` changed between its schema and its rows")))
}

/// Empty for null.
fn value(strings: &StringArray, i: usize) -> &str {
    if strings.is_null(i) { "" } else { strings.value(i) }
}

/// Writes texts and the names of their splits as the columns `text` and `split` of a Parquet file, in the order given.
/// The same documents give the same bytes; the file appears under its name once it is whole, replacing an older one.
///
/// # Errors
/// A split name that [`read_documents`](super::read_documents) would refuse, or a file that cannot be written.
pub fn write_corpus(path: &Path, documents: &[(String, &str)]) -> Result<()> {
    for ((_, split), document) in documents.iter().zip(0..) {
        check_split(path, document, split)?;
    }
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(documents.iter().map(|(text, _)| text)));
    let splits: ArrayRef = Arc::new(StringArray::from_iter_values(documents.iter().map(|(_, split)| split)));
    let batch = RecordBatch::try_from_iter([("text", texts), ("split", splits)]).map_err(Error::parquet(path))?;
    let level = ZstdLevel::try_new(19).map_err(Error::parquet(path))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // The library would put its own version here, and an upgrade would change every file.
        .set_created_by("logitcask".to_owned())
        .build();

    let mut file = new_beside(path)?;
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).map_err(Error::parquet(path))?;
    writer.write(&batch).map_err(Error::parquet(path))?;
    writer.close().map_err(Error::parquet(path))?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    file.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(())
}

/// A temporary file in the folder of `path`, so that a rename can publish it.
fn new_beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are their owner's alone by default, a corpus is to be shared.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(Error::io(folder))
}
