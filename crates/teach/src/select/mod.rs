//! Keeping of a row what the recipe asks for, next to the logits.

mod cpu;
mod exp;
#[cfg(feature = "wgpu")]
mod gpu;
mod lanes;
mod moments;
mod problem;
mod row_builder;
mod rule;
mod sample;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod top;

pub use cpu::RowSelector;
#[cfg(feature = "wgpu")]
pub use gpu::{digest_on_device, select_on_device};
pub(crate) use lanes::sum_exp;
pub use problem::SelectProblem;
pub use row_builder::RowProblem;

use crate::teacher::Logits;
use burn::tensor::{DType, Tensor};
use logitcask_core::{RowErrors, SoftRows, Truncation};
use rayon::prelude::*;

/// Version of how logits become rows, for [`logitcask_cache::Versions`]. A test holds the hash of some rows and says when to
/// count it up.
pub const SELECTION_VERSION: u32 = 1;

/// Pieces of work for each thread, so that none waits long for the last one.
const CHUNKS_PER_THREAD: usize = 4;

/// [`select_rows`], wherever the logits are: beside them on a device, with the feature `wgpu`.
///
/// # Errors
/// [`SelectProblem`] names the first row that cannot be kept, or says why nothing could be read back.
pub fn select_logits(
    logits: &Logits,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
) -> Result<(Vec<SoftRows>, RowErrors), SelectProblem> {
    match logits {
        #[cfg(feature = "wgpu")]
        Logits::Device(logits) => select_on_device(Tensor::clone(logits), gold_ids, sampling_offsets, keep),
        #[cfg(not(feature = "wgpu"))]
        Logits::Device(logits) => select_read(Tensor::clone(logits), gold_ids, sampling_offsets, keep),
        Logits::Host(logits) => {
            let width = logits.len() / gold_ids.len().max(1);
            select_rows(logits, gold_ids, sampling_offsets, keep, width).map_err(|(i, e)| SelectProblem::Row(i, e))
        }
    }
}

/// [`select_rows`] of logits that are read back whole.
fn select_read(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
) -> Result<(Vec<SoftRows>, RowErrors), SelectProblem> {
    let width = logits.dims()[1];
    select_rows(&read(logits)?, gold_ids, sampling_offsets, keep, width).map_err(|(i, e)| SelectProblem::Row(i, e))
}

fn read(logits: Tensor<2>) -> Result<Vec<f32>, SelectProblem> {
    let rows = logits.cast(DType::F32).try_into_vec_as::<f32>();
    rows.map_err(|e| SelectProblem::Device(e.to_string()))
}

/// Selects from consecutive rows of `width` logits (\[labels, vocabulary + padding\], row-major), in parallel; `sampling_offsets` holds
/// [`logitcask_core::Selection::sampling_offset`] of each.
///
/// Each `SoftRows` holds some consecutive rows, one after the other: how many depends on the threads, what is in them
/// does not.
///
/// # Errors
/// The first row that cannot be kept, and why.
pub fn select_rows(
    logits: &[f32],
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
    width: usize,
) -> Result<(Vec<SoftRows>, RowErrors), (usize, RowProblem)> {
    assert_eq!(logits.len(), gold_ids.len() * width, "one row of logits for each label");
    assert_eq!(sampling_offsets.len(), gold_ids.len(), "one sampling_offset for each label");
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
