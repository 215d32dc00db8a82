//! A unit of work, from its first batch to its last row.

use crate::extra_values::add_vectors;
use crate::select::{SelectProblem, select_logits};
use crate::teacher::Outputs;
use crate::{Error, Result};
use logitcask_cache::Claim;
use logitcask_core::{ExtraColumn, RowErrors, Sample, SoftRows, Truncation};
use logitcask_data::batches::TokenBatch;
use std::sync::{Mutex, PoisonError};

/// A unit whose rows are being computed. It is shared by its batches, whose rows may arrive in any order.
pub(crate) struct OpenUnit {
    /// Index of the unit in the plan.
    pub(crate) unit: usize,
    /// The rows so far and the number of positions still missing; `None` once the unit is complete.
    state: Mutex<Option<(FinishedUnit, usize)>>,
}

/// What is wanted of the teacher's outputs for samples of a split.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) split: &'a str,
    pub(crate) keep: &'a Truncation,
    /// The columns whose vectors the outputs have.
    pub(crate) extras: &'a [ExtraColumn],
}

/// A unit with all its rows.
pub(crate) struct FinishedUnit {
    pub(crate) unit: usize,
    /// In the order of the dataset.
    pub(crate) rows: Vec<(Sample, SoftRows)>,
    pub(crate) errors: RowErrors,
    /// Held until the unit is written.
    pub(crate) claim: Claim,
}

impl OpenUnit {
    /// A unit of these samples that has no rows yet.
    pub(crate) fn new(unit: usize, samples: Vec<Sample>, keep: &Truncation, claim: Claim) -> Self {
        let left = samples.iter().map(Sample::position_count).sum();
        let rows = samples.into_iter().map(|sample| (sample, SoftRows::new(keep))).collect();
        let finished = FinishedUnit { unit, rows, errors: RowErrors::new(keep), claim };
        Self { unit, state: Mutex::new(Some((finished, left))) }
    }

    /// Selects from the teacher's outputs for a part of a batch. Returns the unit if it is now complete.
    pub(crate) fn add(
        &self,
        wanted: Wanted<'_>,
        batch: &TokenBatch,
        outputs: &Outputs,
    ) -> Result<Option<FinishedUnit>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((unit, left)) = state.as_mut() else { return Ok(None) };
        *left -= add_rows(wanted, batch, outputs, &mut unit.rows, &mut unit.errors)?;
        let is_whole = *left == 0;
        Ok(state.take_if(|_| is_whole).map(|(unit, _)| unit))
    }
}

/// Selects from the logits of some positions of a batch and appends the rows to their samples in `rows`. Returns the
/// number of positions.
///
/// # Errors
/// [`Error::BadRow`] names the position whose row cannot be kept. [`Error::Device`] reports that the logits could not
/// be read back.
pub(crate) fn add_rows(
    Wanted { split, keep, extras }: Wanted<'_>,
    batch: &TokenBatch,
    outputs: &Outputs,
    rows: &mut [(Sample, SoftRows)],
    errors: &mut RowErrors,
) -> Result<usize> {
    let count = outputs.positions.len();
    let of_sample = |position: usize| {
        let (sample, position) = batch.positions[position];
        (batch.samples[sample].id, position)
    };
    let offset = |position: usize| {
        let (sample, position) = of_sample(position);
        keep.selection.sampling_offset(split, sample, position)
    };
    let sampling_offsets: Vec<f64> = outputs.positions.clone().map(offset).collect();
    let labels = &batch.labels[outputs.positions.clone()];
    let selected = select_logits(&outputs.logits, labels, &sampling_offsets, keep);
    let (selected, costs) = selected.map_err(|problem| match problem {
        SelectProblem::Device(problem) => Error::Device(problem),
        SelectProblem::Row(row, problem) => {
            let (sample, position) = of_sample(outputs.positions.start + row);
            Error::BadRow { split: split.to_owned(), sample, position, problem }
        }
    })?;
    for (position, row) in outputs.positions.clone().zip(selected.iter().flat_map(SoftRows::iter)) {
        let (sample, rows) = &mut rows[batch.indices[batch.positions[position].0]];
        rows.push(row);
        add_vectors(extras, &outputs.extras, position - outputs.positions.start, sample, rows);
    }
    errors.merge(&costs);
    Ok(count)
}
