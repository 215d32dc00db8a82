//! Pages as the Parquet crate writes them, and numbers as a slow packer packs them.

use super::runs::Runs;
use super::{Chunk, Limits, Lists, Pages, Plain};
use arrow_array::builder::{BinaryBuilder, ListBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

const ANY: Limits = Limits { values: 1 << 30, bytes: 1 << 30 };

/// How a column is written.
#[derive(Clone, Debug)]
struct Written {
    encoding: Option<Encoding>,
    is_compressed: bool,
    rows_per_page: usize,
}

fn written() -> impl Strategy<Value = Written> {
    let encodings = [None, Some(Encoding::PLAIN), Some(Encoding::BYTE_STREAM_SPLIT)];
    (prop::sample::select(encodings.to_vec()), any::<bool>(), 1..40usize)
        .prop_map(|(encoding, is_compressed, rows_per_page)| Written { encoding, is_compressed, rows_per_page })
}

/// A file with one column, in a dictionary where there is no encoding.
fn file(column: ArrayRef, how: &Written) -> (Bytes, ParquetMetaData) {
    let batch = RecordBatch::try_from_iter([("column", column)]).unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(if how.is_compressed { zstd } else { Compression::UNCOMPRESSED })
        .set_dictionary_enabled(how.encoding.is_none())
        .set_encoding(how.encoding.unwrap_or(Encoding::PLAIN))
        .set_data_page_row_count_limit(how.rows_per_page)
        .set_write_batch_size(how.rows_per_page)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    (bytes, metadata)
}

fn pages<'a>(bytes: &'a [u8], metadata: &ParquetMetaData, row: usize) -> Pages<'a> {
    let group = metadata.row_group(0);
    let chunk = Chunk::of(group.column(0), bytes.len()).unwrap();
    Pages::of("it".into(), bytes, &chunk, ANY, group.num_rows() as u64, row as u64).unwrap()
}

fn lists_of(lists: &[Vec<u32>]) -> ArrayRef {
    let mut builder =
        ListBuilder::new(UInt32Builder::new()).with_field(crate::schema::item(arrow_schema::DataType::UInt32));
    for list in lists {
        builder.values().append_slice(list);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Lists of none, a few or many of so many different numbers.
fn lists() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let list = |classes: u32| {
        let length = prop_oneof![0..1usize, 0..9usize, 60..300usize];
        length.prop_flat_map(move |length| vec(any::<u32>().prop_map(move |n| n % classes * 77_777), length))
    };
    prop_oneof![1..4u32, 1..300u32, 1..50_000u32].prop_flat_map(move |classes| vec(list(classes), 1..80))
}

proptest! {
    #[test]
    fn lists_come_back_from_any_row_on(lists in lists(), how in written(), from in any::<prop::sample::Index>()) {
        let (bytes, metadata) = file(lists_of(&lists), &how);
        let from = from.index(lists.len());
        let mut column = Lists::of(pages(&bytes, &metadata, from)).unwrap();
        for list in &lists[from..] {
            prop_assert_eq!(&column.next().unwrap(), list);
        }
        prop_assert_eq!(column.next().unwrap_err(), "it has no more pages");
    }

    #[test]
    fn values_come_back_from_any_row_on(
        values in vec(vec(any::<u8>(), 0..50), 1..80),
        mut how in written(),
        from in any::<prop::sample::Index>(),
    ) {
        how.encoding = Some(Encoding::PLAIN);
        let from = from.index(values.len());
        let mut binary = BinaryBuilder::new();
        values.iter().for_each(|value| binary.append_value(value));
        let (bytes, metadata) = file(Arc::new(binary.finish()), &how);
        let mut column = Plain::of(pages(&bytes, &metadata, from), None).unwrap();
        for value in &values[from..] {
            prop_assert_eq!(column.next().unwrap(), value);
        }
        prop_assert_eq!(column.next().unwrap_err(), "it has no more pages");

        let numbers: Vec<u64> = values.iter().map(|value| value.iter().map(|byte| u64::from(*byte) << 31).sum()).collect();
        let (bytes, metadata) = file(Arc::new(UInt64Array::from(numbers.clone())), &how);
        let mut column = Plain::of(pages(&bytes, &metadata, from), Some(8)).unwrap();
        for number in &numbers[from..] {
            prop_assert_eq!(column.next().unwrap(), number.to_le_bytes());
        }
    }

    #[test]
    fn numbers_of_any_width_are_unpacked(width in 0..=32usize, numbers in vec(any::<u32>(), 1..70), taken in vec(1..20usize, 70)) {
        let numbers: Vec<u32> = numbers.iter().map(|n| (u64::from(*n) & ((1 << width) - 1)) as u32).collect();
        // A run of packed numbers, one of the same number, and another of packed ones; bit by bit.
        let packed = |numbers: &[u32]| {
            let eights = numbers.len().div_ceil(8);
            let mut bytes = vec![0u8; eights * width];
            let bits = numbers.iter().flat_map(|n| (0..width).map(move |bit| n >> bit & 1 == 1));
            bits.enumerate().filter(|(_, is_set)| *is_set).for_each(|(at, _)| bytes[at / 8] |= 1 << (at % 8));
            [vec![(eights << 1 | 1) as u8], bytes].concat()
        };
        let same = [vec![13 << 1], numbers[0].to_le_bytes()[..width.div_ceil(8)].to_vec()].concat();
        let whole = numbers.len() / 8 * 8;
        let page = [packed(&numbers[..whole]), same, packed(&numbers[whole..])].concat();
        let expected = [&numbers[..whole], &[numbers[0]; 13], &numbers[whole..]].concat();
        let mut runs = Runs::new(width, 0).unwrap();
        let mut skipping = Runs::new(width, 0).unwrap();
        let mut at = 0;
        for take in taken {
            let take = take.min(expected.len() - at);
            let mut out = vec![7; take];
            prop_assert!(runs.take(&page, &mut out).is_some());
            prop_assert_eq!(&out, &expected[at..at + take]);
            // Whoever passes over them ends in the same place.
            prop_assert!(skipping.skip(&page, take).is_some());
            at += take;
            if let Some(next) = expected.get(at) {
                let mut out = [7];
                let mut ahead = skipping.clone();
                prop_assert!(ahead.take(&page, &mut out).is_some());
                prop_assert_eq!(out[0], *next);
            }
        }
        prop_assert!(runs.take(&page, &mut [0; 200]).is_none());
    }
}

#[test]
fn compressions_that_no_shard_has_are_refused() {
    let batch = RecordBatch::try_from_iter([("column", lists_of(&[vec![1, 2]]))]).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let refused = Chunk::of(metadata.row_group(0).column(0), bytes.len()).err();
    assert_eq!(refused.unwrap(), "is compressed with SNAPPY, shards with zstd");
}
