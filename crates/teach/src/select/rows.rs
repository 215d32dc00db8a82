//! Parallel selection from many rows in memory.

use super::problem::SelectProblem;
use burn::tensor::{DType, Tensor};
use logitcask_core::{RowErrors, SoftRows, Truncation};
use logitcask_select::{RowProblem, RowSelector};
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

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::rng::CounterRng;
    use logitcask_core::{LogProbPrecision, RowSource, Selection, TailRule};

    fn keep(selection: Selection, values: LogProbPrecision) -> Truncation {
        let tail = Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 });
        Truncation { selection, always_keep: Vec::new(), values, tail, padding: 0, source: RowSource::FULL }
    }

    #[test]
    fn the_first_row_that_cannot_be_kept_is_named() {
        let keep = keep(Selection::TopK { k: 8 }, LogProbPrecision::Quantised { step: 0.031_25 });
        let mut logits = vec![0.0; 40 * 100];
        logits[17 * 100 + 3] = -70.0;
        logits[31 * 100 + 5] = f32::NAN;
        let select = |label: u32, rows: usize| {
            select_rows(&logits[..rows * 100], &vec![label; rows], &vec![0.0; rows], &keep, 100).map(|_| ())
        };
        assert_eq!(select(3, 17), Ok(()));
        assert!(matches!(select(3, 40), Err((17, RowProblem::TooSmall { class_id: 3, .. }))));
        assert_eq!(select(5, 40), Err((31, RowProblem::NotFinite)));
    }

    #[test]
    fn chunks_hold_the_same_as_one_row_after_the_other() {
        let keep = keep(Selection::Sample { n: 9, seed: 0 }, LogProbPrecision::F16 {});
        let mut rng = CounterRng::new("selection test", &[3]);
        let logits: Vec<f32> = (0..37 * 700).map(|_| (2.0 * rng.normal()) as f32).collect();
        let sampling_offsets: Vec<f64> = (0..37).map(|_| rng.uniform()).collect();
        let (parts, errors) = select_rows(&logits, &[11; 37], &sampling_offsets, &keep, 700).unwrap();
        let (mut out, mut wanted) = (SoftRows::new(&keep), RowErrors::new(&keep));
        let mut selector = RowSelector::new(&keep);
        for (logits, &sampling_offset) in logits.chunks(700).zip(&sampling_offsets) {
            selector.select(logits, 11, sampling_offset, &mut out, &mut wanted).unwrap();
        }
        assert!(parts.iter().flat_map(SoftRows::iter).eq(out.iter()) && errors == wanted);
        let (none, _) = select_rows(&[], &[], &[], &keep, 700).unwrap();
        assert!(none.is_empty());
    }
}
