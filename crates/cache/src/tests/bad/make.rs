//! From a whole cache to a bad one.

use super::Make;
use crate::tests::*;
use crate::{COMMITS_DIR, DATA_DIR, PLAN_NAME, card, codec, schema};
use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::WriterPropertiesBuilder;
use std::sync::Arc;

pub(super) type Batch = RecordBatch;

/// Two samples, and as few columns and temperatures as there can be.
fn base(selection: Selection) -> Plan {
    let mut plan = plan(selection, &[("train", 2)], 2);
    plan.keep.tail = plan.keep.tail.map(|tail| TailRule { atoms: 2, ..tail });
    plan
}

pub(in crate::tests) fn top_k() -> Plan {
    base(TOP_K)
}

pub(super) fn top_p() -> Plan {
    base(TOP_P)
}

pub(in crate::tests) fn sample() -> Plan {
    base(SAMPLE)
}

pub(super) fn log_probs() -> Plan {
    told(base(TOP_K), LOG_PROBS)
}

pub(super) fn always() -> Plan {
    let mut plan = base(TOP_K);
    plan.keep.always_keep = vec![7];
    plan
}

pub(super) fn quantised() -> Plan {
    let mut plan = base(TOP_K);
    plan.keep.values = LogProbPrecision::Quantised { step: 0.0625 };
    plan
}

/// Two of three positions are chosen of the second sample.
pub(super) fn chosen() -> Plan {
    Plan { positions: PositionChoice::Share { share: 0.6, seed: 0 }, ..base(TOP_K) }
}

pub(super) fn two_units() -> Plan {
    Plan { splits: Plan::splits_of(&[("train".into(), 4)]), ..base(TOP_K) }
}

/// Two samples of three and four tokens; the second has labels far from the kept classes.
pub(super) fn rows_of_base(plan: &Plan) -> Vec<(Sample, SoftRows)> {
    (0..2).map(|id| row_of(plan, id, 3 + id as usize, 3)).collect()
}

pub(in crate::tests) fn packed() -> Plan {
    Plan { layout: Layout::Packed, ..top_p() }
}

/// One batch of plain rows.
pub(super) fn to_batch(plan: &Plan, rows: &[(Sample, SoftRows)]) -> Batch {
    codec::to_batch(plan, rows, None, true).unwrap()
}

/// The columns of `good`, but `names` of `other`.
pub(super) fn batch(good: &Batch, other: &Batch, names: &[&str]) -> Batch {
    let column = |name: &String| if names.contains(&name.as_str()) { other } else { good }.column_by_name(name);
    let columns = good.schema().fields().iter().map(|field| column(field.name()).unwrap().clone()).collect();
    RecordBatch::try_new(good.schema(), columns).unwrap()
}

fn with_column(good: &Batch, name: &str, column: ArrayRef) -> Batch {
    let place = good.schema().index_of(name).unwrap();
    let mut columns = good.columns().to_vec();
    columns[place] = column;
    RecordBatch::try_new(good.schema(), columns).unwrap()
}

/// The second sample's packed classes, changed.
pub(super) fn change_packed(good: &Batch, change: impl Fn(&mut Vec<u8>)) -> Batch {
    let values = good.column_by_name(schema::PACKED).unwrap().as_binary::<i32>();
    let mut builder = BinaryBuilder::new();
    builder.append_value(values.value(0));
    let mut value = values.value(1).to_vec();
    change(&mut value);
    builder.append_value(value);
    with_column(good, schema::PACKED, Arc::new(builder.finish()))
}

pub(super) fn without_model(good: &Batch) -> Batch {
    let mut builder = BinaryBuilder::new();
    (0..2).for_each(|_| builder.append_value([]));
    with_column(good, schema::PACKED_MODEL, Arc::new(builder.finish()))
}

/// A whole shard's rows as one batch, in either layout.
fn good_batch(plan: &Plan) -> Batch {
    let bytes = Bytes::from(codec::encode(plan, plan.id(), 0, &rows_of_base(plan)).unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 2).unwrap();
    let batch = reader.map(Result::unwrap).next().unwrap();
    RecordBatch::try_new(schema::columns(plan), batch.columns().to_vec()).unwrap()
}

/// A shard of the whole rows, written with other properties.
pub(in crate::tests) fn shard_with(
    plan: &Plan,
    change: &dyn Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> Vec<u8> {
    let properties = change(schema::properties(plan, plan.id(), 0).unwrap().into()).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema::columns(plan), options).unwrap();
    writer.write(&good_batch(plan)).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn without_ranks(plan: &Plan) -> Vec<u8> {
    let good = good_batch(plan);
    let place = good.schema().index_of(schema::GOLD_RANKS).unwrap();
    let mut less = good.clone();
    less.remove_column(place);
    let options = ArrowWriterOptions::new().with_properties(schema::properties(plan, plan.id(), 0).unwrap());
    let options = options.with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), less.schema(), options).unwrap();
    writer.write(&less).unwrap();
    writer.into_inner().unwrap()
}

/// A whole shard whose column of this name is not compressed, and that column's metadata.
fn shard_and_column(plan: &Plan, name: &str) -> (Vec<u8>, ColumnChunkMetaData, usize) {
    let path = ["list", "element"].map(str::to_owned);
    let path = || [vec![name.to_owned()], path.to_vec()].concat().into();
    let shard = shard_with(plan, &|p| p.set_column_compression(path(), Compression::UNCOMPRESSED));
    let reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(&Bytes::copy_from_slice(&shard)).unwrap();
    let group = metadata.row_group(0);
    let (number, column) =
        group.columns().iter().enumerate().find(|(_, column)| column.column_path().parts()[0] == name).unwrap();
    let index = metadata.page_index_for_row_group(0);
    let page = index.page_locations(number).unwrap()[0].offset as usize;
    (shard, column.clone(), page)
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A shard whose log_z column has a page that claims so many values and bytes.
pub(super) fn claim_values(plan: &Plan, values: i32, unfolded: i32) -> Vec<u8> {
    let (mut shard, _, page) = shard_and_column(plan, schema::LOG_Z);
    let number = |value: i32| [vec![0x15], varint((value as u32) << 1)].concat();
    // Thrift: kind 0, sizes, then the data page's header with plain values and run-length levels.
    let sizes = [number(0), number(unfolded), number(20)].concat();
    let counts = [number(values), number(0), number(3), number(3)].concat();
    let header = [sizes, vec![0x2c], counts, vec![0, 0]].concat();
    shard[page..page + header.len()].copy_from_slice(&header);
    shard
}

/// A shard whose log_z column has an index that claims two billion pages.
pub(super) fn claim_pages(plan: &Plan) -> Vec<u8> {
    let (mut shard, column, _) = shard_and_column(plan, schema::LOG_Z);
    let index = column.offset_index_offset().unwrap() as usize;
    assert_eq!(shard[index..index + 2], [0x19, 0x1c], "a list of one struct");
    shard[index + 1] = 0xfc;
    shard[index + 2..index + 7].copy_from_slice(&varint(i32::MAX as u32));
    shard
}

/// Writes a whole cache into `folder` and spoils it.
pub(super) fn write(folder: &Path, make: &Make) {
    let plan = match make {
        Make::Rows(plan, _) | Make::Columns(plan, _) | Make::Shard(plan, _) => plan(),
        _ => top_k(),
    };
    let writer = CacheWriter::open(folder, plan.clone(), TOKENIZER).unwrap();
    for unit in writer.pending().unwrap() {
        let mut rows = rows_of_base(&plan);
        rows.iter_mut().for_each(|(sample, _)| sample.id.0 += plan.unit(unit).start);
        writer.write_unit(unit, &rows, &RowErrors::new(&plan.keep)).unwrap();
    }
    writer.finish().unwrap();
    // A reader needs neither.
    fs::remove_file(folder.join(card::CARD_NAME)).unwrap();
    fs::remove_dir_all(folder.join(COMMITS_DIR)).unwrap();
    let forge_batch =
        |batch| forge(folder, &plan, 0, &codec::write(&plan, plan.id(), 0, std::iter::once(Ok(batch))).unwrap());
    match make {
        Make::Rows(_, change) => {
            let mut rows = rows_of_base(&plan);
            change(&mut rows);
            forge_batch(to_batch(&plan, &rows));
        }
        Make::Columns(_, change) => forge_batch(change(&plan, good_batch(&plan))),
        Make::Shard(_, make) => forge(folder, &plan, 0, &make(&plan)),
        Make::Files(change) => change(folder, &plan),
        Make::Text(file, from, to) => {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            fs::write(folder.join(file), text.replace(from, to)).unwrap();
        }
        Make::Commit(change) => {
            let mut commits = commits(folder, &plan);
            change(&mut commits[0]);
            vouch(folder, &plan, &commits);
        }
        Make::Plan(change) => {
            let mut plan = plan.clone();
            change(&mut plan);
            fs::write(folder.join(PLAN_NAME), json::to_bytes(&plan)).unwrap();
        }
    }
    // What is refused on opening needs no shards.
    if CacheReader::open(folder).is_err() {
        fs::remove_dir_all(folder.join(DATA_DIR)).unwrap();
    }
}
