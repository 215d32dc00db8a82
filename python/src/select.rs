//! Selection of a sample's rows, from all logits or from summaries.

use logitcask_core::{RowErrors, Sample, SoftRows, Truncation};
use logitcask_select::{RowProblem, RowSelector, RowSummary, SummarySelector};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

/// Fewer rows than this are selected by one thread.
const ROWS_PER_THREAD: usize = 8;

/// The rows of a sample, selected from `logits` (\[positions, width\], row-major).
///
/// # Errors
/// The index of the first row that cannot be kept, and why.
pub(crate) fn select_logits(
    logits: &[f32],
    width: usize,
    sample: &Sample,
    split: &str,
    keep: &Truncation,
    threads: usize,
) -> Result<(SoftRows, RowErrors), (usize, RowProblem)> {
    let labels = sample.labels();
    let positions: Vec<usize> = sample.position_indices().collect();
    let per_thread = labels.len().div_ceil(threads).max(ROWS_PER_THREAD);
    let select = |start: usize| {
        let mut selector = RowSelector::new(keep);
        let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        for i in start..labels.len().min(start + per_thread) {
            let offset = keep.selection.sampling_offset(split, sample.id, positions[i]);
            let row = &logits[i * width..(i + 1) * width];
            selector.select(row, labels[i], offset, &mut rows, &mut errors).map_err(|problem| (i, problem))?;
        }
        Ok((rows, errors))
    };
    let select = &select;
    let parts: Vec<Result<(SoftRows, RowErrors), (usize, RowProblem)>> = std::thread::scope(|scope| {
        let starts = (0..labels.len()).step_by(per_thread);
        let started: Vec<_> = starts.skip(1).map(|start| scope.spawn(move || select(start))).collect();
        let first = select(0);
        let joined = started.into_iter().map(|thread| match thread.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(first).chain(joined).collect()
    });
    let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    for part in parts {
        let (theirs, costs) = part?;
        theirs.iter().for_each(|row| rows.push(row));
        errors.merge(&costs);
    }
    Ok((rows, errors))
}

/// Summaries of P rows of logits, as `logitcask.torch.summaries` computes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Summaries<'py> {
    /// \[P, count\]: the largest classes.
    ids: PyReadonlyArray2<'py, i64>,
    /// \[P, count\]: their logits.
    logits: PyReadonlyArray2<'py, f32>,
    /// \[P, classes that are always kept\]: logits.
    always_kept: PyReadonlyArray2<'py, f32>,
    /// \[P\]: logits of the labels.
    gold: PyReadonlyArray1<'py, f32>,
    /// \[P\]: ranks of the labels.
    ranks: PyReadonlyArray1<'py, i64>,
    /// \[P\]: upper bounds of the logits in the sums.
    bounds: PyReadonlyArray1<'py, f32>,
    /// \[P, sums\].
    sums: PyReadonlyArray2<'py, f64>,
}

impl Summaries<'_> {
    pub(crate) fn len(&self) -> usize {
        self.gold.as_array().len()
    }
}

/// The rows of a sample, selected from summaries. `whole_row` gives the logits of a row whose summary does not determine
/// what is kept; `refused` makes the exception for a row that cannot be kept.
pub(crate) fn select_summaries(
    summaries: &Summaries<'_>,
    width: usize,
    sample: &Sample,
    split: &str,
    keep: &Truncation,
    whole_row: impl Fn(usize) -> PyResult<Vec<f32>>,
    refused: impl Fn(usize, RowProblem) -> PyErr,
) -> PyResult<(SoftRows, RowErrors)> {
    let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    let (mut selector, mut whole) = (SummarySelector::new(keep), RowSelector::new(keep));
    let (labels, positions) = (sample.labels(), sample.position_indices());
    for ((i, &label), position) in labels.iter().enumerate().zip(positions) {
        let row = |of: &PyReadonlyArray2<'_, f32>| of.as_array().row(i).to_vec();
        let ids: Vec<u32> = summaries.ids.as_array().row(i).iter().map(|&id| id as u32).collect();
        let (logits, always_kept) = (row(&summaries.logits), row(&summaries.always_kept));
        let sums = summaries.sums.as_array().row(i).to_vec();
        let gold = summaries.gold.as_array()[i];
        let summary = RowSummary {
            ids: &ids,
            logits: &logits,
            always_kept: &always_kept,
            gold,
            rank: summaries.ranks.as_array()[i] as u32,
            bound: summaries.bounds.as_array()[i],
            sums: &sums,
        };
        let is_finite =
            logits.iter().chain([&gold]).all(|logit| logit.is_finite()) && sums.iter().all(|s| s.is_finite());
        let is_decided =
            is_finite && selector.select(summary, label, &mut rows, &mut errors).map_err(|e| refused(i, e))?;
        if !is_decided {
            let offset = keep.selection.sampling_offset(split, sample.id, position);
            let logits = whole_row(i)?;
            if logits.len() != width {
                return Err(crate::error::invalid(format!("a row of {} logits, not {width}, was given", logits.len())));
            }
            whole.select(&logits, label, offset, &mut rows, &mut errors).map_err(|e| refused(i, e))?;
        }
    }
    Ok((rows, errors))
}
