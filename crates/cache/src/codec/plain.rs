//! The `plain` layout of the teacher's output: typed lists.

use super::arrow::{self, Row};
use super::kept::{Find, KeptColumns, narrow, unsigned};
use crate::column_chunk::{ColumnError, ColumnRows};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use crate::schema;
use arrow_array::ArrayRef;
use arrow_array::types::{Float32Type, Int16Type, UInt16Type, UInt32Type};
use logitcask_core::{GoldSource, Sample, SoftRows, TailAtom};
use parquet::data_type::{FloatType, Int32Type};

/// Encodes the teacher's output for `rows` as columns.
pub(crate) fn columns_of(plan: &Plan, rows: &[Row]) -> Vec<ArrayRef> {
    let (mut columns, source) = (Vec::new(), plan.keep.source);
    if source.log_z {
        columns.push(arrow::lists::<Float32Type, _>(rows, |(_, r)| r.log_z.iter().copied()));
    }
    if source.gold == GoldSource::Always {
        columns.push(arrow::lists::<Float32Type, _>(rows, |(_, r)| r.gold_log_probs.iter().copied()));
    }
    if source.gold != GoldSource::None {
        columns.push(arrow::lists::<UInt32Type, _>(rows, |(_, r)| r.gold_ranks.iter().copied()));
    }
    if plan.keep.tail.is_some() {
        columns.push(arrow::lists::<Int16Type, _>(rows, |(_, r)| r.tail.iter().map(|atom| atom.log_prob)));
        columns.push(arrow::lists::<Int16Type, _>(rows, |(_, r)| r.tail.iter().map(|atom| atom.log_weight)));
    }
    if !plan.keep.is_fixed() {
        columns.push(arrow::lists::<UInt16Type, _>(rows, |(_, r)| r.counts.iter().copied()));
    }
    if plan.keep.is_sampled() {
        columns.push(arrow::lists::<UInt16Type, _>(rows, |(_, r)| r.drawn.iter().copied()));
    }
    if !plan.keep.is_dense() {
        columns.push(arrow::lists::<UInt32Type, _>(rows, |(_, r)| r.class_ids.iter().copied()));
    }
    columns.push(arrow::lists::<Float32Type, _>(rows, |(_, r)| r.log_probs.iter().copied()));
    columns
}

/// Reads the teacher's output of rows in order.
pub(crate) struct PlainColumns {
    log_z: Option<ColumnRows<FloatType>>,
    gold_log_probs: Option<ColumnRows<FloatType>>,
    gold_ranks: Option<ColumnRows<Int32Type>>,
    tail: Option<[ColumnRows<Int32Type>; 2]>,
    counts: Option<ColumnRows<Int32Type>>,
    drawn: Option<ColumnRows<Int32Type>>,
    ids: Option<ColumnRows<Int32Type>>,
    log_probs: ColumnRows<FloatType>,
}

impl PlainColumns {
    /// Opens the columns through `find`, by name.
    pub(crate) fn of(plan: &Plan, find: &Find<'_, '_>) -> Result<Self, ColumnError> {
        let (keep, list) = (&plan.keep, |name: &str| find(name)?.open());
        let source = keep.source;
        let atoms = || Ok::<_, ColumnError>([list(schema::TAIL_LOGITS)?, list(schema::TAIL_LOG_WEIGHTS)?]);
        Ok(Self {
            log_z: source.log_z.then(|| find(schema::LOG_Z)?.open()).transpose()?,
            gold_log_probs: match source.gold {
                GoldSource::Always => Some(find(schema::GOLD_LOG_PROBS)?.open()?),
                GoldSource::Kept | GoldSource::None => None,
            },
            gold_ranks: match source.gold {
                GoldSource::Always | GoldSource::Kept => Some(list(schema::GOLD_RANKS)?),
                GoldSource::None => None,
            },
            tail: keep.tail.map(|_| atoms()).transpose()?,
            counts: (!keep.is_fixed()).then(|| list(schema::TOPK_COUNTS)).transpose()?,
            drawn: keep.is_sampled().then(|| list(schema::DRAWN_COUNTS)).transpose()?,
            ids: (!keep.is_dense()).then(|| list(schema::TOPK_IDS)).transpose()?,
            log_probs: find(schema::TOPK_LOG_PROBS)?.open()?,
        })
    }
}

impl KeptColumns for PlainColumns {
    fn next(&mut self, plan: &Plan, sample: &Sample) -> Result<SoftRows, RowProblem> {
        let (cap, positions) = (plan.max_kept(), sample.position_indices().count());
        let log_probs = self.log_probs.next()?.to_vec();
        let class_ids = match &mut self.ids {
            Some(ids) => unsigned(ids.next()?),
            None => (0..cap).cycle().take(log_probs.len()).collect(),
        };
        let counts = match &mut self.counts {
            Some(counts) => narrow(schema::TOPK_COUNTS, counts.next()?)?,
            None => vec![cap as u16; positions],
        };
        let drawn = match &mut self.drawn {
            Some(drawn) => narrow(schema::DRAWN_COUNTS, drawn.next()?)?,
            None => vec![0; positions],
        };
        let tail = match &mut self.tail {
            None => Vec::new(),
            Some([logits, weights]) => atoms(
                &narrow(schema::TAIL_LOGITS, logits.next()?)?,
                &narrow(schema::TAIL_LOG_WEIGHTS, weights.next()?)?,
            )?,
        };
        Ok(SoftRows {
            counts,
            drawn,
            class_ids,
            log_probs,
            log_z: floats(&mut self.log_z)?,
            gold_log_probs: floats(&mut self.gold_log_probs)?,
            gold_ranks: match &mut self.gold_ranks {
                Some(ranks) => unsigned(ranks.next()?),
                None => Vec::new(),
            },
            tail,
            ..SoftRows::new(&plan.keep)
        })
    }
}

/// The next row of a column, which is empty where the column is not there.
fn floats(column: &mut Option<ColumnRows<FloatType>>) -> Result<Vec<f32>, ColumnError> {
    match column {
        Some(column) => Ok(column.next()?.to_vec()),
        None => Ok(Vec::new()),
    }
}

fn atoms(logits: &[i16], weights: &[i16]) -> Result<Vec<TailAtom>, RowProblem> {
    if logits.len() != weights.len() {
        return Err(RowProblem::TailLengths { logits: logits.len(), weights: weights.len() });
    }
    let pairs = logits.iter().zip(weights);
    Ok(pairs.map(|(&log_prob, &log_weight)| TailAtom { log_prob, log_weight }).collect())
}
