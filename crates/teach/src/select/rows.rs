//! Parallel selection from many rows in memory.

use super::cpu::RowSelector;
use super::problem::SelectProblem;
use super::row::RowProblem;
use burn::tensor::{DType, Tensor};
use logitcask_core::{RowErrors, SoftRows, Truncation};
use rayon::prelude::*;

/// Chunks of rows for each thread. With several, no thread waits long for the last chunk to finish.
const CHUNKS_PER_THREAD: usize = 4;

/// Reads all logits back from their device and selects from them in memory.
pub(super) fn select_read(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
) -> Result<(Vec<SoftRows>, RowErrors), SelectProblem> {
    let width = logits.dims()[1];
    select_rows(&read(logits)?, gold_ids, sampling_offsets, keep, width).map_err(|(i, e)| SelectProblem::Row(i, e))
}

pub(super) fn read(logits: Tensor<2>) -> Result<Vec<f32>, SelectProblem> {
    let rows = logits.cast(DType::F32).try_into_vec_as::<f32>();
    rows.map_err(|e| SelectProblem::Device(e.to_string()))
}

/// Selects from consecutive rows of `width` logits (\[labels, vocabulary + padding\], row-major) in parallel.
/// `sampling_offsets` holds the [`logitcask_core::Selection::sampling_offset`] of each row.
///
/// Each returned `SoftRows` holds a run of consecutive rows, in order. How many rows a run has depends on the number of
/// threads; the rows themselves do not.
///
/// # Errors
/// The index of the first row that cannot be kept, and the reason.
pub fn select_rows(
    logits: &[f32],
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
    width: usize,
) -> Result<(Vec<SoftRows>, RowErrors), (usize, RowProblem)> {
    assert_eq!(logits.len(), gold_ids.len() * width, "there must be one row of logits for each label");
    assert_eq!(sampling_offsets.len(), gold_ids.len(), "there must be one sampling offset for each label");
    let labels = gold_ids.len();
    let rows = labels.div_ceil(CHUNKS_PER_THREAD * rayon::current_num_threads()).max(1);
    let select_chunk = |selector: &mut RowSelector, chunk: usize| {
        let (mut out, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        for i in chunk * rows..labels.min((chunk + 1) * rows) {
            let row = &logits[i * width..(i + 1) * width];
            selector
                .select(row, gold_ids[i], sampling_offsets[i], &mut out, &mut errors)
                .map_err(|problem| (i, problem))?;
        }
        Ok((out, errors))
    };
    let chunks = (0..labels.div_ceil(rows)).into_par_iter();
    let selected: Vec<Result<_, _>> = chunks.map_init(|| RowSelector::new(keep), select_chunk).collect();
    let mut errors = RowErrors::new(keep);
    let mut parts = Vec::with_capacity(selected.len());
    for part in selected {
        let (rows, theirs) = part?;
        errors.merge(&theirs);
        parts.push(rows);
    }
    Ok((parts, errors))
}
