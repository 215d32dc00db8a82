//! Writing a corpus as one Parquet file.

use super::check_split;
use crate::error::{Error, Result};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

/// Writes texts and the names of their splits as the columns `text` and `split` of a Parquet file, in the given order.
/// The same documents give the same bytes. The file is created atomically and replaces an existing one.
///
/// # Errors
/// A split name that [`read_documents`](super::read_documents) would reject, or a file that cannot be written.
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
        // The library would write its own version here, so that an upgrade would change every file.
        .set_created_by("logitcask".to_owned())
        .build();

    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(Error::parquet(path))?;
    writer.write(&batch).map_err(Error::parquet(path))?;
    writer.close().map_err(Error::parquet(path))?;
    logitcask_files::replace(path, |file| file.write_all(&bytes)).map_err(Error::io(path))
}
