//! Samples and soft rows to the bytes of a shard and back, and what must hold of every row on either way.

pub(crate) mod arrow;
pub(crate) mod packed;
mod plain;

pub(crate) use arrow::Row;
pub(crate) use packed::Model;

use crate::plan::{Layout, Plan};
use crate::schema;
use arrow::{Lists, column, lists, numbers, typed};
use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};
use logitcask_core::{InputHash, Keep, Origin, Sample, SampleId, SoftRows, TailAtom};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use std::sync::Arc;

/// The kept classes of one sample, whatever their layout.
pub(crate) struct Entries {
    pub(crate) counts: Vec<u16>,
    pub(crate) drawn: Vec<u16>,
    pub(crate) class_ids: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
}

/// The bytes of `unit`'s shard: the same rows always give the same bytes.
pub(crate) fn encode(plan: &Plan, unit: usize, rows: &[Row]) -> Result<Vec<u8>, ParquetError> {
    let model = (plan.layout == Layout::Packed).then(|| packed::train(plan, rows));
    let per_block = plan.rows_per_block() as usize;
    let blocks = rows.chunks(per_block).enumerate();
    write(plan, unit, blocks.map(|(number, block)| to_batch(plan, block, model.as_ref(), number == 0)))
}

/// One row group for each batch.
pub(crate) fn write(
    plan: &Plan,
    unit: usize,
    blocks: impl Iterator<Item = Result<RecordBatch, ParquetError>>,
) -> Result<Vec<u8>, ParquetError> {
    // Without the Arrow schema in the footer: plain Parquet types say all there is.
    let options =
        ArrowWriterOptions::new().with_properties(schema::properties(plan, unit)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema::columns(plan), options)?;
    for block in blocks {
        writer.write(&block?)?;
        writer.flush()?;
    }
    writer.into_inner()
}

/// The rows as columns of [`schema::columns`]. A packed shard's first block carries the model.
pub(crate) fn to_batch(
    plan: &Plan,
    rows: &[Row],
    model: Option<&Model>,
    is_first: bool,
) -> Result<RecordBatch, ParquetError> {
    let mut hashes = FixedSizeBinaryBuilder::new(size_of::<InputHash>() as i32);
    for (sample, _) in rows {
        hashes.append_value(sample.input_hash().0)?;
    }
    let mut columns: Vec<ArrayRef> = vec![
        numbers::<UInt64Type>(rows, |(s, _)| s.id.0),
        numbers::<UInt64Type>(rows, |(s, _)| s.origin.document),
        numbers::<UInt32Type>(rows, |(s, _)| s.origin.offset),
        Arc::new(hashes.finish()),
        lists::<UInt32Type, _>(rows, |(s, _)| s.input_ids.iter().copied()),
        lists::<Float32Type, _>(rows, |(_, r)| r.log_z.iter().copied()),
        lists::<Float32Type, _>(rows, |(_, r)| r.gold_log_probs.iter().copied()),
        lists::<UInt32Type, _>(rows, |(_, r)| r.gold_ranks.iter().copied()),
    ];
    if plan.keep.tail.is_some() {
        columns.push(lists::<Int16Type, _>(rows, |(_, r)| r.tail.iter().map(|atom| atom.log_prob)));
        columns.push(lists::<Int16Type, _>(rows, |(_, r)| r.tail.iter().map(|atom| atom.log_weight)));
    }
    columns.extend(match model {
        None => plain::columns_of(plan, rows),
        Some(model) => packed::columns_of(plan, rows, model, is_first),
    });
    Ok(RecordBatch::try_new(schema::columns(plan), columns)?)
}

/// The model that decodes a packed shard, from the batch that has its first row.
pub(crate) fn model_of(plan: &Plan, batch: &RecordBatch) -> Result<Model, String> {
    packed::model_of(plan, packed::model_bytes(batch)?)
}

/// The columns of a batch under their types.
pub(crate) struct Columns<'a> {
    plan: &'a Plan,
    sample_ids: &'a [u64],
    documents: &'a [u64],
    document_offsets: &'a [u32],
    input_hashes: &'a FixedSizeBinaryArray,
    input_ids: Lists<'a, UInt32Type>,
    log_z: Lists<'a, Float32Type>,
    gold_log_probs: Lists<'a, Float32Type>,
    gold_ranks: Lists<'a, UInt32Type>,
    tail: Option<[Lists<'a, Int16Type>; 2]>,
    kept: Kept<'a>,
}

enum Kept<'a> {
    Plain(plain::Columns<'a>),
    Packed(packed::Columns<'a>),
}

impl<'a> Columns<'a> {
    /// `Err` says which column is missing or of another type. `model` is the shard's, where it is packed.
    pub(crate) fn of(plan: &'a Plan, batch: &'a RecordBatch, model: Option<&'a Model>) -> Result<Self, String> {
        let atoms = || Ok([Lists::of(batch, schema::TAIL_LOGITS)?, Lists::of(batch, schema::TAIL_LOG_WEIGHTS)?]);
        Ok(Self {
            plan,
            sample_ids: typed::<UInt64Type>(batch, schema::SAMPLE_ID)?,
            documents: typed::<UInt64Type>(batch, schema::DOCUMENT)?,
            document_offsets: typed::<UInt32Type>(batch, schema::DOCUMENT_OFFSET)?,
            input_hashes: column(batch, schema::INPUT_HASH, |c| c.as_fixed_size_binary_opt())?,
            input_ids: Lists::of(batch, schema::INPUT_IDS)?,
            log_z: Lists::of(batch, schema::LOG_Z)?,
            gold_log_probs: Lists::of(batch, schema::GOLD_LOG_PROBS)?,
            gold_ranks: Lists::of(batch, schema::GOLD_RANKS)?,
            tail: plan.keep.tail.map(|_| atoms()).transpose().map_err(|e: String| e)?,
            kept: match model {
                None => Kept::Plain(plain::Columns::of(plan, batch)?),
                Some(model) => Kept::Packed(packed::Columns::of(batch, model)?),
            },
        })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.sample_ids.len()
    }

    /// Row `i` (below [`Self::len`]) with the input hash that is stored for it; nothing is checked but the length, which
    /// bounds everything else.
    pub(crate) fn row(&self, i: usize) -> Result<(Sample, SoftRows, InputHash), String> {
        let sample = Sample {
            id: SampleId(self.sample_ids[i]),
            origin: Origin { document: self.documents[i], offset: self.document_offsets[i] },
            input_ids: self.input_ids.row(i)?.to_vec(),
        };
        check_tokens(self.plan, &sample)?;
        let mut hash = InputHash([0; 16]);
        let stored = self.input_hashes.value(i);
        if stored.len() != hash.0.len() {
            return Err(format!("an input hash of {} bytes", stored.len()));
        }
        hash.0.copy_from_slice(stored);
        let entries = match &self.kept {
            Kept::Plain(columns) => columns.row(self.plan, i, sample.positions())?,
            Kept::Packed(columns) => columns.row(self.plan, i, &sample.input_ids)?,
        };
        let tail = match &self.tail {
            None => Vec::new(),
            Some([logits, weights]) => atoms(logits.row(i)?, weights.row(i)?)?,
        };
        let rows = SoftRows {
            counts: entries.counts,
            drawn: entries.drawn,
            class_ids: entries.class_ids,
            log_probs: entries.log_probs,
            log_z: self.log_z.row(i)?.to_vec(),
            gold_log_probs: self.gold_log_probs.row(i)?.to_vec(),
            gold_ranks: self.gold_ranks.row(i)?.to_vec(),
            tail,
            ..SoftRows::new(&self.plan.keep)
        };
        Ok((sample, rows, hash))
    }
}

fn atoms(logits: &[i16], weights: &[i16]) -> Result<Vec<TailAtom>, String> {
    if logits.len() != weights.len() {
        return Err(format!("{} tail logits with {} weights", logits.len(), weights.len()));
    }
    let pairs = logits.iter().zip(weights);
    Ok(pairs.map(|(&log_prob, &log_weight)| TailAtom { log_prob, log_weight }).collect())
}

fn check_tokens(plan: &Plan, sample: &Sample) -> Result<(), String> {
    let length = sample.input_ids.len();
    if !(2..=plan.max_length as usize).contains(&length) {
        return Err(format!("{length} tokens, 2 to {} belong in a sample", plan.max_length));
    }
    match sample.input_ids.iter().find(|&&id| id >= plan.vocab_size) {
        Some(id) => Err(format!("token {id} is outside the vocabulary of {}", plan.vocab_size)),
        None => Ok(()),
    }
}

/// Everything the format demands of one row, whichever side it comes from.
pub(crate) fn check_row(plan: &Plan, sample: &Sample, rows: &SoftRows) -> Result<(), String> {
    check_tokens(plan, sample)?;
    rows.check(&plan.keep, sample.gold_ids(), plan.vocab_size).map_err(|e| e.to_string())?;
    check_values(&plan.keep, rows)
}

/// Only numbers that the format can write: what is read is then what was written, in either layout.
fn check_values(keep: &Keep, rows: &SoftRows) -> Result<(), String> {
    let find = |log_probs| keep.values.find_foreign(log_probs);
    match find(&rows.log_probs).or_else(|| find(&rows.gold_log_probs)) {
        Some(lp) => Err(format!("log-probability {lp} is none that {:?} writes", keep.values)),
        None => Ok(()),
    }
}
