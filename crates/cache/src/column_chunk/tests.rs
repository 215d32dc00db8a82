//! Columns from other writers, and columns that are refused before they are decoded.

use super::page_header::{self, PageHeader};
use super::{ColumnChunk, ColumnRows, ColumnToRead, Limits};
use arrow_array::builder::{BinaryBuilder, ListBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

const LIMITS: Limits = Limits { values: 1 << 20, bytes: 1 << 24 };

/// Settings of a written column.
#[derive(Clone, Debug)]
struct Written {
    version: WriterVersion,
    compression: Compression,
    /// `None` for a dictionary.
    encoding: Option<Encoding>,
    rows_per_page: usize,
    rows_per_group: usize,
    has_page_index: bool,
}

fn written(encodings: &[Encoding]) -> impl Strategy<Value = Written> {
    let encodings: Vec<_> = encodings.iter().copied().map(Some).chain([None]).collect();
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    (
        prop::sample::select(vec![WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]),
        prop::sample::select(compressions.to_vec()),
        prop::sample::select(encodings),
        1..40usize,
        prop_oneof![1..30usize, 1000..1001usize],
        any::<bool>(),
    )
        .prop_map(|(version, compression, encoding, rows_per_page, rows_per_group, has_page_index)| Written {
            version,
            compression,
            encoding,
            rows_per_page,
            rows_per_group,
            has_page_index,
        })
}

/// Writes a file with one column.
fn file(column: ArrayRef, how: &Written) -> (Bytes, ParquetMetaData) {
    let batch = RecordBatch::try_from_iter([("column", column)]).unwrap();
    let properties = WriterProperties::builder()
        .set_writer_version(how.version)
        .set_compression(how.compression)
        .set_dictionary_enabled(how.encoding.is_none())
        .set_encoding(how.encoding.unwrap_or(Encoding::PLAIN))
        .set_data_page_row_count_limit(how.rows_per_page)
        .set_write_batch_size(how.rows_per_page)
        .set_max_row_group_row_count(Some(how.rows_per_group))
        .set_offset_index_disabled(!how.has_page_index)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    (bytes, metadata)
}

/// The values of all rows from `from` on, of all row groups.
fn rows<T: DataType>((bytes, metadata): &(Bytes, ParquetMetaData), from: usize) -> Vec<Vec<T::T>> {
    let (mut start, mut all) = (0, Vec::new());
    for (row_group, group) in metadata.row_groups().iter().enumerate() {
        let end = start + group.num_rows() as u64;
        let rows = start.max(from as u64)..end;
        if !rows.is_empty() {
            let mut column = open::<T>(bytes, metadata, row_group, rows.start - start..rows.end - start).unwrap();
            all.extend(rows.map(|_| column.next().unwrap().to_vec()));
            let error = column.next().unwrap_err().to_string();
            assert_eq!(error, format!("row group {row_group}: column column has 0 rows where 1 are wanted"));
        }
        start = end;
    }
    all
}

fn open<T: DataType>(
    bytes: &Bytes,
    metadata: &ParquetMetaData,
    row_group: usize,
    rows: std::ops::Range<u64>,
) -> Result<ColumnRows<T>, String> {
    let group = metadata.row_group(row_group);
    let all = 0..bytes.len();
    let column = ColumnToRead {
        bytes,
        rest: bytes,
        descriptor: group.column(0).column_descr_ptr(),
        chunk: &ColumnChunk::of(group.column(0), all.clone(), all).map_err(|error| error.to_string())?,
        limits: LIMITS,
        row_group,
        group_rows: group.num_rows() as u64,
        rows,
    };
    column.open().map_err(|error| error.to_string())
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

/// Lists with no, a few or many numbers, drawn from a given number of different ones.
fn lists() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let list = |classes: u32| {
        let length = prop_oneof![0..1usize, 0..9usize, 60..300usize];
        length.prop_flat_map(move |length| vec(any::<u32>().prop_map(move |n| n % classes * 77_777), length))
    };
    prop_oneof![1..4u32, 1..300u32, 1..50_000u32].prop_flat_map(move |classes| vec(list(classes), 1..80))
}

proptest! {
    #[test]
    fn lists_come_back_from_any_row_on(
        lists in lists(),
        how in written(&[Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT, Encoding::DELTA_BINARY_PACKED]),
        from in any::<prop::sample::Index>(),
    ) {
        let file = file(lists_of(&lists), &how);
        let from = from.index(lists.len());
        let read = rows::<Int32Type>(&file, from);
        let expected: Vec<Vec<i32>> = lists[from..].iter().map(|list| list.iter().map(|n| *n as i32).collect()).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn binary_values_come_back_from_any_row_on(
        values in vec(vec(any::<u8>(), 0..50), 1..80),
        how in written(&[Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]),
        from in any::<prop::sample::Index>(),
    ) {
        let from = from.index(values.len());
        let mut binary = BinaryBuilder::new();
        values.iter().for_each(|value| binary.append_value(value));
        let file = file(Arc::new(binary.finish()), &how);
        let read = rows::<ByteArrayType>(&file, from);
        prop_assert!(read.iter().all(|row| row.len() == 1));
        prop_assert!(read.iter().map(|row| row[0].data()).eq(values[from..].iter().map(Vec::as_slice)));
    }

    #[test]
    fn numbers_come_back_from_any_row_on(
        numbers in vec(any::<u64>(), 1..80),
        how in written(&[Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT, Encoding::DELTA_BINARY_PACKED]),
        from in any::<prop::sample::Index>(),
    ) {
        let from = from.index(numbers.len());
        let file = file(Arc::new(UInt64Array::from(numbers.clone())), &how);
        let read = rows::<Int64Type>(&file, from);
        prop_assert!(read.iter().map(|row| row[0] as u64).eq(numbers[from..].iter().copied()));
    }

    #[test]
    fn no_byte_of_a_column_makes_reading_it_fail_otherwise_than_by_an_error(
        lists in vec(vec(0..9u32, 0..20), 1..20),
        how in written(&[Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED]),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (bytes, metadata) = file(lists_of(&lists), &how);
        let mut damaged = bytes.to_vec();
        damage.iter().for_each(|(at, byte)| *at.get_mut(&mut damaged) = *byte);
        let damaged = Bytes::from(damaged);
        let rows = metadata.row_group(0).num_rows() as u64;
        for from in [0, rows - 1] {
            if let Ok(mut column) = open::<Int32Type>(&damaged, &metadata, 0, from..rows) {
                (from..rows).take_while(|_| column.next().is_ok()).for_each(drop);
            }
        }
    }
}

fn plain(compression: Compression) -> Written {
    Written {
        version: WriterVersion::PARQUET_1_0,
        compression,
        encoding: Some(Encoding::PLAIN),
        rows_per_page: 10,
        rows_per_group: 1000,
        has_page_index: true,
    }
}

#[test]
fn compressions_whose_decoders_cannot_be_bounded_are_refused() {
    for compression in [Compression::BROTLI(BrotliLevel::default()), Compression::LZ4] {
        let (bytes, metadata) = file(lists_of(&[vec![1, 2]]), &plain(compression));
        let refused = open::<Int32Type>(&bytes, &metadata, 0, 0..1).err().unwrap();
        assert!(refused.contains("use zstd, snappy, gzip, LZ4_RAW or no compression"), "{refused}");
    }
}

#[test]
fn a_page_that_decompresses_to_more_than_its_limit_or_claim_is_refused() {
    let zeros = vec![0; 5 << 20];
    for compression in [Compression::SNAPPY, Compression::GZIP(GzipLevel::default())] {
        // A page of a few KiB that decompresses to 20 MiB: more values and more bytes than are possible.
        let (bytes, metadata) = file(lists_of(std::slice::from_ref(&zeros)), &plain(compression));
        let mut column = open::<Int32Type>(&bytes, &metadata, 0, 0..1).unwrap();
        let error = column.next().unwrap_err().to_string();
        assert!(error.contains("bytes, 16777216 are possible"), "{error}");
    }
    let lists = vec![vec![7; 5000]; 10];
    let (bytes, metadata) = file(lists_of(&lists), &plain(Compression::GZIP(GzipLevel::default())));
    let page = metadata.row_group(0).column(0).data_page_offset() as usize;
    let header = page_header::read(&bytes[page..]).unwrap();
    assert!(header.decompressed > 200_000 && header.stored < 2_000, "{header:?}");
    // The header claims less than the page has. Kind and sizes are three fields, of one byte and a number each.
    let mut damaged = bytes.to_vec();
    damaged[page + 3] -= 2;
    let (damaged, claimed) = (Bytes::from(damaged), header.decompressed);
    assert!(page_header::read(&damaged[page..]).unwrap().decompressed < claimed);
    let error = open::<Int32Type>(&damaged, &metadata, 0, 0..1).unwrap().next().unwrap_err().to_string();
    assert!(error.contains("longer than it claims"), "{error}");
}

#[test]
fn headers_are_read_as_the_specification_says_and_nothing_else_is() {
    let one = |version| Written { version, ..plain(Compression::SNAPPY) };
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let (bytes, metadata) = file(lists_of(&[vec![1, 2], vec![3]]), &one(version));
        let column = metadata.row_group(0).column(0);
        let (start, page) = (column.data_page_offset() as usize, &bytes[column.data_page_offset() as usize..]);
        let header = page_header::read(page).unwrap();
        let end = start + header.length + header.stored;
        assert_eq!(end as i64, column.data_page_offset() + column.compressed_size());
        assert_eq!(header.level_bytes > 0, version == WriterVersion::PARQUET_2_0);
        for length in 0..header.length {
            assert_eq!(page_header::read(&page[..length]), None, "cut to {length}");
        }
    }
    let number = |value: u8| [0x15, value << 1];
    let head = [number(0), number(12), number(12)].concat();
    let counts = [number(3), number(0), number(3), number(3)].concat();
    let whole = [&head[..], &[0x2c], &counts, &[0, 0]].concat();
    let expected = PageHeader { length: 17, stored: 12, decompressed: 12, level_bytes: 0, is_compressed: true };
    assert_eq!(page_header::read(&whole), Some(expected));
    // A count of another type, which this parser would skip and the Parquet crate would read; a repeated field; a list.
    for (at, byte) in [(7, 0x11), (7, 0x18), (2, 0x05), (6, 0x29)] {
        let mut other = whole.clone();
        other[at] = byte;
        assert_eq!(page_header::read(&other), None, "{at}: {byte:#x}");
    }
}

#[test]
fn runs_of_lengths_are_measured_before_memory_is_taken_for_them() {
    // Blocks of 128 in four parts, with three numbers: 5, 6 and 7.
    let run = [&[0x80, 0x01, 4, 3, 10, 2][..], &[0, 0, 0, 0], b"rest"].concat();
    assert_eq!(page_header::delta_packed_length(&run, 3), Some(10));
    assert_eq!(page_header::delta_packed_length(&run, 2), None);
    assert_eq!(page_header::delta_packed_length(&run[..9], 3), None);
    let huge = [&[0x80, 0x01, 4][..], &[0xff; 8], &[0x01, 10]].concat();
    assert_eq!(page_header::delta_packed_length(&huge, 1 << 20), None);
}
