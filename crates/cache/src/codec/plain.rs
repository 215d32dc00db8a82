//! The `plain` layout of the kept classes: typed lists.

use super::KeptClasses;
use super::arrow::{self, Row};
use super::kept::{Find, KeptColumns, narrow, unsigned};
use crate::column_chunk::{ColumnError, ColumnRows};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use crate::schema;
use arrow_array::ArrayRef;
use arrow_array::types::{Float32Type, UInt16Type, UInt32Type};
use parquet::data_type::{FloatType, Int32Type};

/// Encodes the kept classes of `rows` as columns.
pub(crate) fn columns_of(plan: &Plan, rows: &[Row]) -> Vec<ArrayRef> {
    let mut columns = Vec::new();
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

/// Reads the kept classes of rows in order.
pub(crate) struct PlainColumns {
    counts: Option<ColumnRows<Int32Type>>,
    drawn: Option<ColumnRows<Int32Type>>,
    ids: Option<ColumnRows<Int32Type>>,
    log_probs: ColumnRows<FloatType>,
}

impl PlainColumns {
    /// Opens the columns through `find`, by name.
    pub(crate) fn of(plan: &Plan, find: &Find<'_, '_>) -> Result<Self, ColumnError> {
        let (keep, list) = (&plan.keep, |name: &str| find(name)?.open());
        Ok(Self {
            counts: (!keep.is_fixed()).then(|| list(schema::TOPK_COUNTS)).transpose()?,
            drawn: keep.is_sampled().then(|| list(schema::DRAWN_COUNTS)).transpose()?,
            ids: (!keep.is_dense()).then(|| list(schema::TOPK_IDS)).transpose()?,
            log_probs: find(schema::TOPK_LOG_PROBS)?.open()?,
        })
    }
}

impl KeptColumns for PlainColumns {
    fn next(&mut self, plan: &Plan, tokens: &[u32]) -> Result<KeptClasses, RowProblem> {
        let (cap, positions) = (plan.max_kept(), tokens.len());
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
        Ok(KeptClasses { counts, drawn, class_ids, log_probs })
    }
}
