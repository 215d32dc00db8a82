//! The `plain` layout: one typed column for each thing a row knows.

use crate::plan::Plan;
use crate::schema::{self, item};
use arrow_array::builder::{FixedSizeBinaryBuilder, ListBuilder, PrimitiveBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch};
use half::f16;
use logitcask_core::{InputHash, Origin, Sample, SampleId, SoftRows};
use parquet::errors::ParquetError;
use std::sync::Arc;

type Row = (Sample, SoftRows);

/// The rows as columns of [`schema::plain`].
pub(crate) fn to_batch(plan: &Plan, rows: &[Row]) -> Result<RecordBatch, ParquetError> {
    let mut hashes = FixedSizeBinaryBuilder::new(size_of::<InputHash>() as i32);
    for (sample, _) in rows {
        hashes.append_value(sample.input_hash().0)?;
    }
    let to_f16 = |x: &f32| f16::from_f32(*x);
    let mut columns: Vec<ArrayRef> = vec![
        numbers::<UInt64Type>(rows, |(s, _)| s.id.0),
        numbers::<UInt64Type>(rows, |(s, _)| s.origin.document),
        numbers::<UInt32Type>(rows, |(s, _)| s.origin.offset),
        Arc::new(hashes.finish()),
        lists::<UInt32Type, _>(rows, |(s, _)| s.input_ids.iter().copied()),
        lists::<Float32Type, _>(rows, |(_, r)| r.log_z.iter().copied()),
        lists::<Float16Type, _>(rows, |(_, r)| r.gold_log_probs.iter().map(to_f16)),
        lists::<UInt32Type, _>(rows, |(_, r)| r.gold_ranks.iter().copied()),
    ];
    if !plan.selection.is_fixed() {
        columns.push(lists::<UInt16Type, _>(rows, |(_, r)| r.counts.iter().copied()));
    }
    columns.push(lists::<UInt32Type, _>(rows, |(_, r)| r.class_ids.iter().copied()));
    columns.push(lists::<Float16Type, _>(rows, |(_, r)| r.log_probs.iter().map(to_f16)));
    Ok(RecordBatch::try_new(schema::plain(plan.selection), columns)?)
}

fn numbers<T: ArrowPrimitiveType>(rows: &[Row], of: impl Fn(&Row) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.iter().map(of)))
}

fn lists<'a, T, I>(rows: &'a [Row], of: impl Fn(&'a Row) -> I) -> ArrayRef
where
    T: ArrowPrimitiveType,
    I: Iterator<Item = T::Native>,
{
    let mut builder = ListBuilder::new(PrimitiveBuilder::<T>::new()).with_field(item(T::DATA_TYPE));
    for row in rows {
        of(row).for_each(|value| builder.values().append_value(value));
        builder.append(true);
    }
    Arc::new(builder.finish())
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
    gold_log_probs: Lists<'a, Float16Type>,
    gold_ranks: Lists<'a, UInt32Type>,
    topk_counts: Option<Lists<'a, UInt16Type>>,
    topk_ids: Lists<'a, UInt32Type>,
    topk_log_probs: Lists<'a, Float16Type>,
}

impl<'a> Columns<'a> {
    /// `Err` names the column that is missing or of another type.
    pub(crate) fn of(plan: &'a Plan, batch: &'a RecordBatch) -> Result<Self, String> {
        let counts = || Lists::of(batch, schema::TOPK_COUNTS);
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
            topk_counts: (!plan.selection.is_fixed()).then(counts).transpose()?,
            topk_ids: Lists::of(batch, schema::TOPK_IDS)?,
            topk_log_probs: Lists::of(batch, schema::TOPK_LOG_PROBS)?,
        })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.sample_ids.len()
    }

    /// Row `i` (below [`Self::len`]) with the input hash that is stored for it; nothing is checked yet.
    pub(crate) fn row(&self, i: usize) -> Result<(Sample, SoftRows, InputHash), String> {
        let sample = Sample {
            id: SampleId(self.sample_ids[i]),
            origin: Origin { document: self.documents[i], offset: self.document_offsets[i] },
            input_ids: self.input_ids.row(i)?.to_vec(),
        };
        let mut hash = InputHash([0; 16]);
        let stored = self.input_hashes.value(i);
        if stored.len() != hash.0.len() {
            return Err(format!("an input hash of {} bytes", stored.len()));
        }
        hash.0.copy_from_slice(stored);
        let to_f32 = |values: &[f16]| values.iter().map(|x| x.to_f32()).collect();
        let counts = match &self.topk_counts {
            Some(counts) => counts.row(i)?.to_vec(),
            None => vec![self.plan.selection.cap() as u16; sample.positions()],
        };
        let rows = SoftRows {
            counts,
            class_ids: self.topk_ids.row(i)?.to_vec(),
            log_probs: to_f32(self.topk_log_probs.row(i)?),
            log_z: self.log_z.row(i)?.to_vec(),
            gold_log_probs: to_f32(self.gold_log_probs.row(i)?),
            gold_ranks: self.gold_ranks.row(i)?.to_vec(),
        };
        Ok((sample, rows, hash))
    }
}

/// A list column: row `i` owns `values[offsets[i]..offsets[i + 1]]`.
struct Lists<'a, T: ArrowPrimitiveType> {
    name: &'static str,
    offsets: &'a [i32],
    values: &'a [T::Native],
}

impl<'a, T: ArrowPrimitiveType> Lists<'a, T> {
    fn of(batch: &'a RecordBatch, name: &'static str) -> Result<Self, String> {
        let lists = column(batch, name, |c| c.as_list_opt::<i32>())?;
        let values = lists.values().as_primitive_opt::<T>();
        let values = values.ok_or_else(|| format!("column `{name}` holds items of {}", lists.value_type()))?;
        Ok(Self { name, offsets: lists.value_offsets(), values: values.values() })
    }

    fn row(&self, i: usize) -> Result<&'a [T::Native], String> {
        let (start, end) = (self.offsets[i] as usize, self.offsets[i + 1] as usize);
        self.values.get(start..end).ok_or_else(|| format!("column `{}`: items {start}..{end} are not there", self.name))
    }
}

fn typed<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a [T::Native], String> {
    Ok(column(batch, name, |c| c.as_primitive_opt::<T>())?.values())
}

fn column<'a, A>(
    batch: &'a RecordBatch,
    name: &'static str,
    cast: impl Fn(&'a ArrayRef) -> Option<&'a A>,
) -> Result<&'a A, String> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
    cast(column).ok_or_else(|| format!("column `{name}` has type {}", column.data_type()))
}
