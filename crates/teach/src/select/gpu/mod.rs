//! Selection on a GPU: instead of the whole row, a summary of a few hundred numbers leaves the device.
//!
//! 1. [`kernel`] computes the summary of each row: the [`largest`] classes, exactly, and the [`sums`] over all others.
//!    Its words are listed in [`layout`].
//! 2. [`launch`] makes the kernel an operation of burn.
//! 3. [`decode`] turns a summary into a selected row in f64. Rows that their summary does not determine are read back
//!    whole and selected in memory.

mod decode;
mod kernel;
mod largest;
mod launch;
mod layout;
mod sums;
#[cfg(test)]
mod tests;

use super::problem::SelectProblem;
use super::rows::{read, select_read};
use burn::tensor::{Int, Tensor, TensorData};
use decode::SummaryDecoder;
use launch::{row_summaries, words};
use logitcask_core::{RowErrors, SoftRows, Truncation};
use logitcask_select::{RowProblem, RowSelector, SummarySpec};
use rayon::prelude::*;

/// A selected row with its encoding errors, or `None` if the summary does not determine the row.
type DecodedRow = Option<(SoftRows, RowErrors)>;

/// Selects rows from logits on a CubeCL device (\[labels, vocabulary + padding\]), like
/// [`select_rows`](super::select_rows).
///
/// Ids and ranks are those of [`select_rows`](super::select_rows). log Z differs by less than 1e-5, and atoms by no
/// more than that implies.
///
/// # Errors
/// [`SelectProblem::Row`] names the first row that cannot be kept. [`SelectProblem::Device`] reports that nothing could
/// be read back.
///
/// # Panics
/// On a device that does not belong to CubeCL, such as burn's CPU backend, whose rows are in memory anyway.
pub fn select_on_device(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
) -> Result<(Vec<SoftRows>, RowErrors), SelectProblem> {
    let ([labels, vocab_size], padding) = (logits.dims(), keep.padding as usize);
    assert_eq!(labels, gold_ids.len(), "there must be one row of logits for each label");
    assert!(gold_ids.iter().all(|&id| id as usize + padding < vocab_size), "a label is outside the row");
    let Some(spec) = summary_spec(keep, vocab_size).filter(|_| labels > 0) else {
        return select_read(logits, gold_ids, sampling_offsets, keep);
    };
    let mut kept = decode_rows(&logits, gold_ids, keep, spec)?;
    select_undecided(logits, gold_ids, sampling_offsets, keep, &mut kept)?;
    let (mut parts, mut errors) = (Vec::with_capacity(labels), RowErrors::new(keep));
    for (i, row) in kept.into_iter().enumerate() {
        let row = row.map_err(|problem| SelectProblem::Row(i, problem))?;
        let (rows, theirs) = row.unwrap_or_else(|| unreachable!("undecided rows were selected in memory"));
        errors.merge(&theirs);
        parts.push(rows);
    }
    Ok((parts, errors))
}

/// The first part of [`select_on_device`] for benchmarks: computes the summary of every row (\[labels, words\]) and
/// leaves it on the device. Returns `None` if summaries cannot determine rows that are truncated like this.
pub fn summarise_on_device(logits: Tensor<2>, gold_ids: &[u32], keep: &Truncation) -> Option<Tensor<2, Int>> {
    let spec = summary_spec(keep, logits.dims()[1])?;
    let ids = indices(gold_ids.iter().chain(&keep.always_keep).map(|&id| id as usize), &logits.device());
    Some(row_summaries(logits, ids, &spec))
}

/// What the summaries have to contain. `None` if no summary would determine the rows.
fn summary_spec(keep: &Truncation, width: usize) -> Option<SummarySpec> {
    SummarySpec::new(keep, width).filter(|_| width <= largest::MAX_CLASSES)
}

/// Computes the summaries and decodes each one, as far as it determines its row.
fn decode_rows(
    logits: &Tensor<2>,
    gold_ids: &[u32],
    keep: &Truncation,
    spec: SummarySpec,
) -> Result<Vec<Result<DecodedRow, RowProblem>>, SelectProblem> {
    let ids = indices(gold_ids.iter().chain(&keep.always_keep).map(|&id| id as usize), &logits.device());
    let summaries = row_summaries(logits.clone(), ids, &spec).try_into_vec_as::<u32>();
    let summaries = summaries.map_err(|e| SelectProblem::Device(e.to_string()))?;
    let decode_row = |decoder: &mut SummaryDecoder, (words, &gold_id): (&[u32], &u32)| {
        let (mut out, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        let is_decided = decoder.decode(words, gold_id, &mut out, &mut errors)?;
        Ok(is_decided.then_some((out, errors)))
    };
    let rows = summaries.par_chunks_exact(words(&spec)).zip(gold_ids);
    Ok(rows.map_init(|| SummaryDecoder::new(keep, spec), decode_row).collect())
}

/// Reads the undecided rows back and selects from them in memory.
fn select_undecided(
    logits: Tensor<2>,
    gold_ids: &[u32],
    sampling_offsets: &[f64],
    keep: &Truncation,
    kept: &mut [Result<DecodedRow, RowProblem>],
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
    let selected: Vec<Result<DecodedRow, RowProblem>> = selected.collect();
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
