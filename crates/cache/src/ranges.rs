//! The byte ranges of a shard that are hashed one by one: a range for each row group, and one for the rest.

use crate::error::{Error, Result};
use crate::store::Store;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Length and hash of a range of a shard. Ranges are consecutive and cover the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRange {
    /// Its length in bytes.
    pub bytes: u64,
    /// Hash of its bytes.
    pub blake3: Fingerprint,
}

/// Hashes the ranges of the shard `bytes`. A row group's range ends with its last column's pages.
pub(crate) fn of(bytes: &Bytes) -> Result<Vec<ShardRange>, ParquetError> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(bytes)?;
    let mut ranges = Vec::with_capacity(footer.num_row_groups() + 1);
    let mut start = 0;
    for end in ends(&footer).into_iter().chain([Some(bytes.len() as u64)]) {
        let range = end.and_then(|end| Some((end, bytes.get(start as usize..end as usize)?)));
        let disorder = || ParquetError::General("row groups are not in the order of the file".into());
        let (end, range) = range.ok_or_else(disorder)?;
        ranges.push(ShardRange { bytes: end - start, blake3: Fingerprint::of(range) });
        start = end;
    }
    Ok(ranges)
}

/// Where the pages of each row group end.
fn ends(footer: &ParquetMetaData) -> Vec<Option<u64>> {
    let end = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        u64::try_from(start.checked_add(column.compressed_size())?).ok()
    };
    let end_of_group = |group: &RowGroupMetaData| group.columns().iter().map(end).max().flatten();
    footer.row_groups().iter().map(end_of_group).collect()
}

/// Places of the ranges in their shard.
pub(crate) fn places(ranges: &[ShardRange]) -> Vec<Range<u64>> {
    let mut end = 0u64;
    let place = |range: &ShardRange| {
        let start = end;
        end = end.saturating_add(range.bytes);
        start..end
    };
    ranges.iter().map(place).collect()
}

/// The ranges of `bytes` whose hashes differ from the recorded ones: their numbers and hashes. The lengths must add up.
pub(crate) fn damaged(ranges: &[ShardRange], bytes: &[u8]) -> Vec<(usize, Fingerprint)> {
    let hashes =
        places(ranges).into_iter().map(|place| Fingerprint::of(&bytes[place.start as usize..place.end as usize]));
    hashes.enumerate().zip(ranges).filter(|((_, got), range)| *got != range.blake3).map(|(found, _)| found).collect()
}

/// The id of the plan from which a shard was made, if its footer can be read.
pub(crate) fn footer_constant(store: &dyn Store, name: &str, key: &str) -> Option<String> {
    const END: u64 = 8;
    let length = store.meta(name).ok()??.bytes;
    let end = store.get_range(name, length.checked_sub(END)?..length).ok()?;
    let metadata = u64::from(u32::from_le_bytes(end[..4].try_into().ok()?));
    let footer = store.get_range(name, length.checked_sub(END)?.checked_sub(metadata)?..length).ok()?;
    let path = store.path(name);
    let metadata = catch_panics(&path, || ParquetMetaDataReader::new().parse_and_finish(&footer)).ok()?;
    let constants = metadata.file_metadata().key_value_metadata()?;
    constants.iter().find(|pair| pair.key == key)?.value.clone()
}

/// Runs the parser of Parquet footers. It may panic on a damaged footer, which only a shard with a forged manifest can
/// have; nothing it was working on is used afterwards.
pub(crate) fn catch_panics<T>(path: &Path, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the reader gave up on a damaged footer".into())))
        .map_err(|reason| Error::Parquet { path: path.to_owned(), reason })
}
