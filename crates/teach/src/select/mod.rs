//! Selection: reduces each row of logits to the part that the recipe keeps.

#[cfg(feature = "wgpu")]
mod gpu;
mod problem;
mod rows;

#[cfg(feature = "wgpu")]
pub use gpu::{select_on_device, summarise_on_device};
pub use problem::SelectProblem;
pub use rows::select_rows;

use crate::teacher::Logits;
use burn::tensor::Tensor;
use logitcask_core::{RowErrors, SoftRows, Truncation};

/// Selects rows from logits wherever they are: in memory with [`select_rows`], or on their device if the feature `wgpu`
/// is built in. Rows that are selected already stay as they are.
///
/// `gold_ids` and `sampling_offsets` hold one value for each row.
///
/// # Errors
/// [`SelectProblem::Row`] names the first row that cannot be kept. [`SelectProblem::Device`] reports that the logits
/// could not be read back.
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
        Logits::Device(logits) => rows::select_read(Tensor::clone(logits), gold_ids, sampling_offsets, keep),
        Logits::Host(logits) => {
            let width = logits.len() / gold_ids.len().max(1);
            select_rows(logits, gold_ids, sampling_offsets, keep, width).map_err(|(i, e)| SelectProblem::Row(i, e))
        }
        Logits::Selected(selected) => Ok((vec![selected.0.clone()], selected.1.clone())),
    }
}
