//! Shards from other writers: the same rows in other pages, encodings and compression.

use super::*;
use crate::shard::Shard;
use crate::{Layout, schema};
use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};

/// A shard of two blocks from our writer.
const ROWS: u64 = 150;

fn cache(layout: Layout, selection: Selection) -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { layout, ..plan(selection, &[("train", ROWS)], ROWS) };
    write(folder.path(), &plan);
    (folder, plan)
}

/// Reads the shard of a cache's only unit as a table, and writes it again.
fn rewritten(folder: &Path, plan: &Plan, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let bytes = Bytes::from(fs::read(folder.join(plan.shard_name(0))).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(1000).build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let constants = schema::constants(plan, plan.id(), 0);
    let constants = constants.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let properties = properties.set_key_value_metadata(Some(constants)).build();
    // With the Arrow schema in the footer, as other writers store it.
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

/// Settings in which writers differ: pages, compression, dictionaries, the page index and row groups.
fn ways() -> Vec<(String, WriterPropertiesBuilder)> {
    let mut ways = Vec::new();
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for (i, compression) in compressions.into_iter().enumerate() {
        for (j, version) in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0].into_iter().enumerate() {
            for has_dictionary in [false, true] {
                let (rows_per_page, rows_per_group) = ([7, 32, 1000][i % 3], [1000, 40, 1][(i + j) % 3]);
                let has_page_index = (i + j) % 2 == 0;
                let builder = WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_dictionary_enabled(has_dictionary)
                    .set_data_page_row_count_limit(rows_per_page)
                    .set_write_batch_size(rows_per_page)
                    .set_max_row_group_row_count(Some(rows_per_group))
                    .set_statistics_enabled(EnabledStatistics::Chunk)
                    .set_offset_index_disabled(!has_page_index);
                let what = format!(
                    "{compression:?} {version:?}, dictionary {has_dictionary}, pages of {rows_per_page}, row groups of \
                     {rows_per_group}, page index {has_page_index}"
                );
                ways.push((what, builder));
            }
        }
    }
    ways
}

#[test]
fn shards_in_any_pages_encodings_and_compression_have_the_same_rows() {
    for (layout, selection) in
        [(Layout::Plain, SAMPLE), (Layout::Plain, TOP_P), (Layout::Plain, Selection::Dense {}), (Layout::Packed, TOP_P)]
    {
        let (folder, plan) = cache(layout, selection);
        let expected = rows_of(&plan, 0, 0);
        for (what, properties) in ways() {
            let bytes = rewritten(folder.path(), &plan, properties);
            let shard = Shard::of_bytes("other".into(), bytes.into(), (&plan, plan.id()), 0).unwrap();
            for (block, rows) in [(0, 0..128), (1, 0..22), (0, 127..128), (1, 21..22), (0, 33..41), (0, 5..90)] {
                let read = shard.read(&plan, block, rows.clone()).unwrap_or_else(|e| panic!("{layout:?} {what}: {e}"));
                let wanted = expected.iter().skip(block * 128 + rows.start as usize).take(rows.clone().count());
                let read = read.into_iter().map(|row| (row.sample, row.rows));
                assert!(read.eq(wanted.cloned()), "{layout:?} {what}, rows {rows:?} of {block}");
            }
        }
    }
}

#[test]
fn a_cache_of_rewritten_shards_streams_as_before_if_the_manifest_names_them() {
    let (folder, plan) = cache(Layout::Plain, TOP_K);
    let order = || {
        let reader = CacheReader::open(folder.path()).unwrap();
        reader.shuffled("train", 7, 1, 0).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let before = order();
    let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY).set_offset_index_disabled(true);
    let bytes = rewritten(folder.path(), &plan, snappy);
    forge(folder.path(), &plan, 0, &bytes);
    assert_eq!(order(), before);
}

#[test]
fn row_groups_that_do_not_make_the_unit_are_refused() {
    let (folder, plan) = cache(Layout::Plain, TOP_K);
    let bytes = rewritten(folder.path(), &plan, WriterProperties::builder());
    let longer =
        Plan { splits: Plan::splits_of(&[("train".into(), ROWS + 1)]), samples_per_unit: ROWS + 1, ..plan.clone() };
    let error = Shard::of_bytes("other".into(), bytes.into(), (&longer, plan.id()), 0).err().unwrap().to_string();
    assert!(error.contains("row groups of [150] rows, 151 rows belong in the shard"), "{error}");
}
