//! The `plain` layout of the kept classes: typed lists.

use super::Entries;
use super::arrow::{Lists, Row, lists};
use crate::plan::Plan;
use crate::schema;
use arrow_array::types::{Float32Type, UInt16Type, UInt32Type};
use arrow_array::{ArrayRef, RecordBatch};

/// The kept classes of `rows` as columns.
pub(crate) fn columns_of(plan: &Plan, rows: &[Row]) -> Vec<ArrayRef> {
    let mut columns = Vec::new();
    if !plan.keep.is_fixed() {
        columns.push(lists::<UInt16Type, _>(rows, |(_, r)| r.counts.iter().copied()));
    }
    if plan.keep.is_sampled() {
        columns.push(lists::<UInt16Type, _>(rows, |(_, r)| r.drawn.iter().copied()));
    }
    if !plan.keep.is_dense() {
        columns.push(lists::<UInt32Type, _>(rows, |(_, r)| r.class_ids.iter().copied()));
    }
    columns.push(lists::<Float32Type, _>(rows, |(_, r)| r.log_probs.iter().copied()));
    columns
}

/// The kept classes of a batch under their types.
pub(crate) struct Columns<'a> {
    counts: Option<Lists<'a, UInt16Type>>,
    drawn: Option<Lists<'a, UInt16Type>>,
    ids: Option<Lists<'a, UInt32Type>>,
    log_probs: Lists<'a, Float32Type>,
}

impl<'a> Columns<'a> {
    /// `Err` says which column is missing or of another type.
    pub(crate) fn of(plan: &Plan, batch: &'a RecordBatch) -> Result<Self, String> {
        let keep = &plan.keep;
        Ok(Self {
            counts: (!keep.is_fixed()).then(|| Lists::of(batch, schema::TOPK_COUNTS)).transpose()?,
            drawn: keep.is_sampled().then(|| Lists::of(batch, schema::DRAWN_COUNTS)).transpose()?,
            ids: (!keep.is_dense()).then(|| Lists::of(batch, schema::TOPK_IDS)).transpose()?,
            log_probs: Lists::of(batch, schema::TOPK_LOG_PROBS)?,
        })
    }

    /// Row `i`, which has so many `positions`; nothing is checked yet.
    pub(crate) fn row(&self, plan: &Plan, i: usize, positions: usize) -> Result<Entries, String> {
        let cap = plan.cap();
        let log_probs = self.log_probs.row(i)?.to_vec();
        let class_ids = match &self.ids {
            Some(ids) => ids.row(i)?.to_vec(),
            None => (0..cap).cycle().take(log_probs.len()).collect(),
        };
        let counts = match &self.counts {
            Some(counts) => counts.row(i)?.to_vec(),
            None => vec![cap as u16; positions],
        };
        let drawn = match &self.drawn {
            Some(drawn) => drawn.row(i)?.to_vec(),
            None => vec![0; positions],
        };
        Ok(Entries { counts, drawn, class_ids, log_probs })
    }
}
