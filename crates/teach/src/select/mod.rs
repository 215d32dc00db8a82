//! Keeping of a row what the recipe asks for, next to the logits.

mod cpu;
mod exp;

pub(crate) use cpu::sum_exp;
pub use cpu::{NotFinite, RowSelector};
pub(crate) use exp::exp_nonpositive;

use logitcask_core::{Selection, SoftRows};
use rayon::prelude::*;

/// Selects from consecutive rows of logits (\[labels, vocabulary\], row-major), in parallel over rows.
///
/// `Err` names the first row that holds a NaN or an infinity.
pub fn select_rows(
    logits: &[f32],
    gold_ids: &[u32],
    selection: Selection,
    vocab_size: usize,
) -> Result<Vec<SoftRows>, usize> {
    assert_eq!(logits.len(), gold_ids.len() * vocab_size, "one row of logits for each label");
    let selected: Vec<Result<SoftRows, usize>> = logits
        .par_chunks(vocab_size)
        .zip(gold_ids)
        .enumerate()
        .map_init(RowSelector::default, |selector, (i, (row, &gold))| {
            let mut out = SoftRows::default();
            selector.select(row, gold, selection, &mut out).map(|()| out).map_err(|NotFinite| i)
        })
        .collect();
    selected.into_iter().collect()
}
