//! Selection: reduces each row of logits to the part that the recipe keeps.

mod cpu;
mod exp;
mod gauss;
#[cfg(feature = "wgpu")]
mod gpu;
mod lanes;
mod moments;
mod problem;
mod row;
mod row_builder;
mod rows;
mod sample;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod top;

pub use cpu::RowSelector;
#[cfg(feature = "wgpu")]
pub use gpu::{select_on_device, summarise_on_device};
pub(crate) use lanes::sum_exp;
pub use problem::SelectProblem;
pub use row::RowProblem;
pub use rows::select_rows;

use crate::teacher::Logits;
use burn::tensor::Tensor;
use logitcask_core::{RowErrors, SoftRows, Truncation};

/// Version of the rule that turns logits into rows, recorded in [`logitcask_cache::Versions`]. A test holds the hash of
/// some selected rows and says when to increase this number.
pub const SELECTION_VERSION: u32 = 2;

/// Selects rows from logits wherever they are: in memory with [`select_rows`], or on their device if the feature `wgpu`
/// is built in.
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
    }
}
