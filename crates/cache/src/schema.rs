//! The columns of a shard: their names, types and encodings, and the constants in its footer.

use crate::plan::{FORMAT_VERSION, Layout, Plan};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use logitcask_core::Selection;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// u64: the sample's place in its split.
pub const SAMPLE_ID: &str = "sample_id";
/// u64: index of the document it was cut from.
pub const DOCUMENT: &str = "document";
/// u32: index of its first own token in that document.
pub const DOCUMENT_OFFSET: &str = "document_offset";
/// 16 bytes: hash of `input_ids`, see [`logitcask_core::InputHash`].
pub const INPUT_HASH: &str = "input_hash";
/// list of u32, L: the tokens.
pub const INPUT_IDS: &str = "input_ids";
/// list of f32, L - 1: log-partition at each position.
pub const LOG_Z: &str = "log_z";
/// list of f16, L - 1: log p of the observed next token.
pub const GOLD_LOG_PROBS: &str = "gold_log_probs";
/// list of u32, L - 1: its rank.
pub const GOLD_RANKS: &str = "gold_ranks";
/// list of u16, L - 1: kept classes at each position; only where the selection lets them vary.
pub const TOPK_COUNTS: &str = "topk_counts";
/// list of u32: the kept classes of all positions.
pub const TOPK_IDS: &str = "topk_ids";
/// list of f16: their log-probabilities at T = 1.
pub const TOPK_LOG_PROBS: &str = "topk_log_probs";

/// Name of a list's items, as the Parquet specification has it.
const ITEM: &str = "element";
const INPUT_HASH_BYTES: i32 = 16;
const ZSTD_LEVEL: i32 = 3;

/// The item field of a list column.
pub(crate) fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(ITEM, data_type, false))
}

/// The columns of a plain shard, in order; none of them holds nulls.
pub(crate) fn plain(selection: Selection) -> SchemaRef {
    let list = |name, of| (name, DataType::List(item(of)));
    let mut columns = vec![
        (SAMPLE_ID, DataType::UInt64),
        (DOCUMENT, DataType::UInt64),
        (DOCUMENT_OFFSET, DataType::UInt32),
        (INPUT_HASH, DataType::FixedSizeBinary(INPUT_HASH_BYTES)),
        list(INPUT_IDS, DataType::UInt32),
        list(LOG_Z, DataType::Float32),
        list(GOLD_LOG_PROBS, DataType::Float16),
        list(GOLD_RANKS, DataType::UInt32),
    ];
    if !selection.is_fixed() {
        columns.push(list(TOPK_COUNTS, DataType::UInt16));
    }
    columns.extend([list(TOPK_IDS, DataType::UInt32), list(TOPK_LOG_PROBS, DataType::Float16)]);
    Arc::new(Schema::new(columns.into_iter().map(|(name, of)| Field::new(name, of, false)).collect::<Vec<_>>()))
}

/// The footer's key-values: what a shard found without its cache still says of itself.
pub(crate) fn constants(plan: &Plan, unit: usize) -> Vec<(String, String)> {
    let layout = match plan.layout {
        Layout::Plain => "plain",
    };
    let (kind, p) = match plan.selection {
        Selection::TopK { .. } => ("top_k", None),
        Selection::TopP { p, .. } => ("top_p", Some(p)),
    };
    let all = [
        ("format_version", Some(FORMAT_VERSION.to_string())),
        ("plan_id", Some(plan.id().to_string())),
        ("unit", Some(unit.to_string())),
        ("layout", Some(layout.to_owned())),
        ("vocab_size", Some(plan.vocab_size.to_string())),
        ("selection", Some(kind.to_owned())),
        ("k", Some(plan.selection.cap().to_string())),
        ("p", p.map(|p| p.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((format!("logitcask.{key}"), value?))).collect()
}

/// How a shard is written. Dictionaries never pay on numbers like these, and minima and maxima of a list's items help
/// nobody: only `sample_id` keeps its statistics, by which other readers find a row without decoding the others.
pub(crate) fn properties(plan: &Plan, unit: usize) -> Result<WriterProperties, ParquetError> {
    let constants = constants(plan, unit).into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("logitcask version {FORMAT_VERSION}"))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from(SAMPLE_ID), EnabledStatistics::Page)
        .set_key_value_metadata(Some(constants));
    for field in plain(plan.selection).fields() {
        if let DataType::List(item) = field.data_type() {
            // The high bytes of neighbours are alike; zstd sees them side by side.
            let path = ColumnPath::new([field.name(), "list", item.name()].map(|s| s.to_string()).to_vec());
            builder = builder.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
        }
    }
    Ok(builder.build())
}
