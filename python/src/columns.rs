//! A split as columns that other libraries take over: the Arrow C stream interface
//! (<https://arrow.apache.org/docs/format/CStreamInterface/PyCapsule.html>).

use crate::error::exception;
use arrow_array::RecordBatchIterator;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_schema::ArrowError;
use logitcask_cache::CacheReader;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// A capsule with a stream of the samples by ascending id, `rows` in each batch. It is freed by its consumer, or with
/// the capsule.
pub(crate) fn stream<'py>(
    py: Python<'py>,
    reader: &CacheReader,
    split: &str,
    rows: u64,
) -> PyResult<Bound<'py, PyCapsule>> {
    let (len, rows) = (reader.len(split).map_err(exception)?, rows.max(1));
    let (reader, split) = (reader.clone(), split.to_owned());
    let schema = reader.plain_schema();
    let batches = (0..len).step_by(rows as usize).map(move |start| {
        let samples = reader.range(&split, start..len.min(start + rows));
        samples.and_then(|samples| reader.plain_batch(samples)).map_err(|e| ArrowError::ExternalError(Box::new(e)))
    });
    let stream = FFI_ArrowArrayStream::new(Box::new(RecordBatchIterator::new(batches, schema)));
    PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
}
