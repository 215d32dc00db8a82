//! Selection beside the logits, on a GPU: a few hundred numbers of each row leave it instead of the whole row.
//!
//! 1. [`kernel`] finds of each row the [`largest`] classes, exactly, and the [`sums`] over all others,
//! 2. [`launch`] makes an operation of burn of it,
//! 3. [`digest`] finishes a row in f64 where that settles it; rows that it does not settle are fetched whole and
//!    selected from in memory.

mod digest;
mod kernel;
mod largest;
mod launch;
mod sums;
#[cfg(test)]
mod tests;

use super::cpu::RowSelector;
use super::problem::SelectProblem;
use super::row_builder::RowProblem;
use super::tail::FEW;
use super::{read, select_read};
use burn::tensor::{Int, Tensor, TensorData};
use digest::Settler;
use launch::{Ask, digests};
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};
use rayon::prelude::*;

/// A row and its errors. `None` where its digest does not settle it.
type Kept = Option<(SoftRows, RowErrors)>;

/// As [`select_rows`](super::select_rows), of logits on a device of CubeCL: \[labels, vocabulary + padding\].
///
/// Ids and ranks are those of [`select_rows`](super::select_rows), log_z differs by less than 1e-5, and atoms as far as that moves them.
///
/// # Errors
/// [`SelectProblem`] names the first row that cannot be kept, or says why nothing could be read back.
///
/// # Panics
/// On a device that is not CubeCL's, such as burn's CPU backend, whose rows are in memory anyway.
pub fn select_on_device(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
) -> Result<(Vec<SoftRows>, RowErrors), SelectProblem> {
    let ([labels, vocab_size], padding) = (logits.dims(), keep.padding as usize);
    assert_eq!(labels, gold_ids.len(), "one row of logits for each label");
    assert!(gold_ids.iter().all(|&id| id as usize + padding < vocab_size), "a label outside the row");
    let Some(ask) = ask(keep, vocab_size).filter(|_| labels > 0) else {
        return select_read(logits, gold_ids, sampling_offsets, keep);
    };
    let mut kept = settle(&logits, gold_ids, keep, ask)?;
    select_open(logits, gold_ids, sampling_offsets, keep, &mut kept)?;
    let (mut parts, mut errors) = (Vec::with_capacity(labels), RowErrors::new(keep));
    for (i, row) in kept.into_iter().enumerate() {
        let row = row.map_err(|problem| SelectProblem::Row(i, problem))?;
        let (rows, theirs) = row.unwrap_or_else(|| unreachable!("what was open was selected from in memory"));
        errors.merge(&theirs);
        parts.push(rows);
    }
    Ok((parts, errors))
}

/// The first part of [`select_on_device`] alone, for measurements: a digest of every row, still on the device. `None` where no
/// digest would settle such rows.
pub fn digest_on_device(logits: Tensor<2>, gold_ids: &[u32], keep: &Truncation) -> Option<Tensor<2, Int>> {
    let ask = ask(keep, logits.dims()[1])?;
    let ids = indices(gold_ids.iter().chain(&keep.always_keep).map(|&id| id as usize), &logits.device());
    Some(digests(logits, ids, ask))
}

/// What to ask of rows; `None` where no digest settles them, or where one is as long as the row.
fn ask(keep: &Truncation, vocab_size: usize) -> Option<Ask> {
    let (Selection::TopK { k } | Selection::TopP { k, .. }) = keep.selection else { return None };
    let rule = keep.tail?;
    let (fixed, padding) = (keep.always_keep.len(), keep.padding as usize);
    let count = k as usize + fixed + 1;
    let (low, distance) = rule.knots();
    let ask = Ask { count, fixed, padding, points: rule.grid().len(), grid: (low, distance / 2.0) };
    let are_there = count + padding <= vocab_size && vocab_size <= largest::MOST_CLASSES;
    (are_there && ask.width() < vocab_size && vocab_size - count >= FEW).then_some(ask)
}

/// Each row as far as its digest settles it.
fn settle(
    logits: &Tensor<2>,
    gold_ids: &[u32],
    keep: &Truncation,
    ask: Ask,
) -> Result<Vec<Result<Kept, RowProblem>>, SelectProblem> {
    let ids = indices(gold_ids.iter().chain(&keep.always_keep).map(|&id| id as usize), &logits.device());
    let words = digests(logits.clone(), ids, ask).try_into_vec_as::<u32>();
    let words = words.map_err(|e| SelectProblem::Device(e.to_string()))?;
    let settle_row = |settler: &mut Settler, (words, &gold_id): (&[u32], &u32)| {
        let (mut out, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        let is_settled = settler.settle(words, gold_id, &mut out, &mut errors)?;
        Ok(is_settled.then_some((out, errors)))
    };
    let rows = words.par_chunks_exact(ask.width()).zip(gold_ids);
    Ok(rows.map_init(|| Settler::new(keep, ask), settle_row).collect())
}

/// Fetches the rows that nothing has settled and selects from them in memory.
fn select_open(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
    kept: &mut [Result<Kept, RowProblem>],
) -> Result<(), SelectProblem> {
    let open: Vec<usize> = (0..kept.len()).filter(|&i| kept[i] == Ok(None)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let vocab_size = logits.dims()[1];
    let ids = indices(open.iter().copied(), &logits.device());
    let rows = read(logits.select(0, ids))?;
    let select_row = |selector: &mut RowSelector, (row, &i): (&[f32], &usize)| {
        let (mut out, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        selector.select(row, gold_ids[i], sampling_offsets[i], &mut out, &mut errors)?;
        Ok(Some((out, errors)))
    };
    let selected = rows.par_chunks_exact(vocab_size).zip(&open).map_init(|| RowSelector::new(keep), select_row);
    let selected: Vec<Result<Kept, RowProblem>> = selected.collect();
    for (i, row) in open.into_iter().zip(selected) {
        kept[i] = row;
    }
    Ok(())
}

fn indices(ids: impl Iterator<Item = usize>, device: &burn::tensor::Device) -> Tensor<1, Int> {
    let ids: Vec<i64> = ids.map(|id| id as i64).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}
