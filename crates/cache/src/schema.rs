//! The columns of a shard with their names, types and encodings, and the constants in its footer.

use crate::plan::{Layout, Plan};
use crate::version::FORMAT_VERSION;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{Fingerprint, GoldSource, LogProbPrecision, Selection, TailSource};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// u64: the sample's index in its split.
pub const SAMPLE_ID: &str = "sample_id";
/// u64: index of the document it was cut from.
pub const DOCUMENT: &str = "document";
/// u32: index of its first new token in that document.
pub const DOCUMENT_OFFSET: &str = "document_offset";
/// u64: first eight bytes of the hash of `input_ids`, little-endian; see [`logitcask_core::InputHash`]. Binary columns of
/// fixed size lose trailing zeros in NumPy, and text takes more bytes.
pub const INPUT_HASH_LOW: &str = "input_hash_low";
/// u64: the last eight bytes of that hash, little-endian.
pub const INPUT_HASH_HIGH: &str = "input_hash_high";
/// list of u32, L: the tokens.
pub const INPUT_IDS: &str = "input_ids";
/// list of u32, P: the positions, ascending indices into `input_ids`; only if the plan chooses positions. Otherwise all
/// P = L - 1 that have a next token are meant.
pub const POSITIONS: &str = "positions";
/// list of f32, P: log-partition at each position; only if the rows' source told it.
pub const LOG_Z: &str = "log_z";
/// list of f32, P: log p of the observed next token, rounded like the plan's values; only if the source told it of every
/// label.
pub const GOLD_LOG_PROBS: &str = "gold_log_probs";
/// list of u32, P: rank of the observed next token; of a source that tells only of labels among the kept classes its place
/// there, and 2^32 - 1 elsewhere. Absent if the source tells of no label.
pub const GOLD_RANKS: &str = "gold_ranks";
/// list of i16, several atoms per position: their logits relative to log_z, in units of [`ATOM_STEP`].
pub const TAIL_LOGITS: &str = "tail_logits";
/// list of i16, of the same length: log of the atoms' weights at the reference inverse temperature.
pub const TAIL_LOG_WEIGHTS: &str = "tail_log_weights";
/// list of u16, P: number of kept classes at each position; only if the selection lets it vary.
pub const TOPK_COUNTS: &str = "topk_counts";
/// list of u16, P: how many of them were sampled; only if the selection samples.
pub const DRAWN_COUNTS: &str = "drawn_counts";
/// list of u32: the kept classes of all positions; absent if all classes are kept.
pub const TOPK_IDS: &str = "topk_ids";
/// list of f32: their log-probabilities at T = 1, rounded like the plan's values. The low bits of an f16 value are zero
/// and take no space once split by bytes.
pub const TOPK_LOG_PROBS: &str = "topk_log_probs";
/// binary: what the teacher says about the sample, entropy-coded.
pub const PACKED: &str = "packed";
/// binary: the model that decodes the shard's `packed` values, in its first row; empty in all others.
pub const PACKED_MODEL: &str = "packed_model";

/// The names of all these columns, which no extra column has.
pub(crate) const NAMES: [&str; 18] = [
    SAMPLE_ID,
    DOCUMENT,
    DOCUMENT_OFFSET,
    INPUT_HASH_LOW,
    INPUT_HASH_HIGH,
    INPUT_IDS,
    POSITIONS,
    LOG_Z,
    GOLD_LOG_PROBS,
    GOLD_RANKS,
    TAIL_LOGITS,
    TAIL_LOG_WEIGHTS,
    TOPK_COUNTS,
    DRAWN_COUNTS,
    TOPK_IDS,
    TOPK_LOG_PROBS,
    PACKED,
    PACKED_MODEL,
];

/// Number of rows in a page, which must be decoded to read one of them.
pub const ROWS_PER_PAGE: usize = 32;

/// Prefix of all footer keys.
pub(crate) const PREFIX: &str = "logitcask.";
/// Footer key of the plan's id.
pub(crate) const PLAN_ID: &str = "plan_id";

/// Name of a list's items, as the Parquet specification requires.
const ITEM: &str = "element";
const ZSTD_LEVEL: i32 = 9;

/// The item field of a list column.
pub(crate) fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(ITEM, data_type, false))
}

/// The columns of a shard, in order; none of them contains nulls.
pub(crate) fn columns(plan: &Plan) -> SchemaRef {
    fn list(name: &str, of: DataType) -> (&str, DataType) {
        (name, DataType::List(item(of)))
    }
    let mut columns = vec![
        (SAMPLE_ID, DataType::UInt64),
        (DOCUMENT, DataType::UInt64),
        (DOCUMENT_OFFSET, DataType::UInt32),
        (INPUT_HASH_LOW, DataType::UInt64),
        (INPUT_HASH_HIGH, DataType::UInt64),
        list(INPUT_IDS, DataType::UInt32),
    ];
    if !plan.positions.is_all() {
        columns.push(list(POSITIONS, DataType::UInt32));
    }
    match plan.layout {
        Layout::Plain => {
            let source = plan.keep.source;
            if source.log_z {
                columns.push(list(LOG_Z, DataType::Float32));
            }
            if source.gold == GoldSource::Always {
                columns.push(list(GOLD_LOG_PROBS, DataType::Float32));
            }
            if source.gold != GoldSource::None {
                columns.push(list(GOLD_RANKS, DataType::UInt32));
            }
            if plan.keep.tail.is_some() {
                columns.extend([list(TAIL_LOGITS, DataType::Int16), list(TAIL_LOG_WEIGHTS, DataType::Int16)]);
            }
            if !plan.keep.is_fixed() {
                columns.push(list(TOPK_COUNTS, DataType::UInt16));
            }
            if plan.keep.is_sampled() {
                columns.push(list(DRAWN_COUNTS, DataType::UInt16));
            }
            if !plan.keep.is_dense() {
                columns.push(list(TOPK_IDS, DataType::UInt32));
            }
            columns.push(list(TOPK_LOG_PROBS, DataType::Float32));
        }
        Layout::Packed => columns.extend([(PACKED, DataType::Binary), (PACKED_MODEL, DataType::Binary)]),
    }
    columns.extend(plan.extras.iter().map(|extra| list(extra.name.as_str(), DataType::Float32)));
    Arc::new(Schema::new(columns.into_iter().map(|(name, of)| Field::new(name, of, false)).collect::<Vec<_>>()))
}

/// The footer's key-value pairs, which describe a shard that is found without its cache. `id` is the plan's.
pub(crate) fn constants(plan: &Plan, id: Fingerprint, unit: usize) -> Vec<(String, String)> {
    let keep = &plan.keep;
    let (kind, k, p) = match keep.selection {
        Selection::TopK { k } => ("top_k", k, None),
        Selection::TopP { p, k } => ("top_p", k, Some(p)),
        Selection::Sample { n, .. } => ("sample", n, None),
        Selection::Dense {} => ("dense", plan.vocab_size, None),
    };
    let step = match keep.values {
        LogProbPrecision::F16 {} => None,
        LogProbPrecision::Quantised { step } => Some(step.to_string()),
    };
    let names: Vec<&str> = plan.extras.iter().map(|extra| extra.name.as_str()).collect();
    let extras = (!names.is_empty()).then(|| names.join(","));
    let all = [
        ("format_version", Some(FORMAT_VERSION.to_string())),
        (PLAN_ID, Some(id.to_string())),
        ("unit", Some(unit.to_string())),
        ("layout", Some(plan.layout.name().to_owned())),
        ("positions", (!plan.positions.is_all()).then(|| plan.positions.name().to_owned())),
        ("vocab_size", Some(plan.vocab_size.to_string())),
        ("selection", Some(kind.to_owned())),
        ("k", Some(k.to_string())),
        ("p", p.map(|p| p.to_string())),
        ("value_step", step),
        ("tail_atoms", keep.tail.map(|tail| tail.atoms.to_string())),
        ("tail_reference", keep.tail.map(|tail| tail.reference().to_string())),
        ("tail_step", keep.tail.map(|_| ATOM_STEP.to_string())),
        ("log_z", (!keep.source.log_z).then(|| "false".to_owned())),
        ("gold", (keep.source.gold != GoldSource::Always).then(|| keep.source.gold.name().to_owned())),
        ("tail", (keep.source.tail != TailSource::Atoms).then(|| keep.source.tail.name().to_owned())),
        ("extras", extras),
    ];
    all.into_iter().filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value?))).collect()
}

/// Whether the constant `got` from a footer agrees with the plan's. Numbers that may have a fraction are compared as
/// numbers, because languages print them differently.
pub(crate) fn agrees(key: &str, got: &str, wanted: &str) -> bool {
    let has_fraction = key.strip_prefix(PREFIX).is_some_and(|key| FRACTIONS.contains(&key));
    got == wanted || (has_fraction && matches!((got.parse::<f64>(), wanted.parse::<f64>()), (Ok(a), Ok(b)) if a == b))
}

/// Constants that may have a fraction.
const FRACTIONS: [&str; 4] = ["p", "value_step", "tail_reference", "tail_step"];

/// Options for writing a shard; `benches/README.md` has the measurements. Class ids repeat within a block, so a
/// dictionary is worthwhile for them only. Minima and maxima of a list's items are not useful: only `sample_id` has
/// statistics, which let other readers find a row without decoding the others.
pub(crate) fn properties(plan: &Plan, id: Fingerprint, unit: usize) -> Result<WriterProperties, ParquetError> {
    let constants = constants(plan, id, unit).into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("logitcask version {FORMAT_VERSION}"))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_data_page_row_count_limit(ROWS_PER_PAGE)
        // The page limit is checked once per batch, so a batch must not have more rows than a page.
        .set_write_batch_size(ROWS_PER_PAGE)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from(SAMPLE_ID), EnabledStatistics::Page)
        .set_key_value_metadata(Some(constants));
    for field in columns(plan).fields() {
        let name = field.name().as_str();
        if let DataType::List(item) = field.data_type() {
            let path = ColumnPath::new([name, "list", item.name()].map(str::to_owned).to_vec());
            // The high bytes of neighbouring values are similar; splitting by bytes places them next to each other for
            // zstd.
            builder = builder
                .set_column_dictionary_enabled(path.clone(), name == TOPK_IDS)
                .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
        } else if *field.data_type() == DataType::Binary {
            // Entropy-coded data cannot be compressed further.
            builder = builder.set_column_compression(ColumnPath::from(name), Compression::UNCOMPRESSED);
        }
    }
    Ok(builder.build())
}
