//! Selection from one row in memory: chooses the classes, encodes them and measures the error of doing so.

use crate::row::{FullRow, RowProblem};
use crate::row_builder::RowBuilder;
use crate::sample::Sampler;
use crate::scan::{Extremes, scan};
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};

/// If a partial sum of the nucleus is closer to `p` than this, the sum is computed again in f64, because f32
/// exponentials are too coarse to decide.
const MIN_NUCLEUS_MARGIN: f64 = 1e-6;

/// Selects from one row at a time and reuses its buffers.
pub struct RowSelector {
    extremes: Extremes,
    /// Extremes of the row including its padding.
    padded: Extremes,
    sampler: Sampler,
    builder: RowBuilder,
}

impl RowSelector {
    /// A selector for rows that are truncated as `keep` says.
    pub fn new(keep: &Truncation) -> Self {
        Self {
            extremes: Extremes::default(),
            padded: Extremes::default(),
            sampler: Sampler::default(),
            builder: RowBuilder::new(keep),
        }
    }

    /// Appends the kept part of one row of raw logits (\[vocabulary + padding\]) to `out` and adds its encoding errors
    /// to `errors`. Neither changes if an error is returned. `sampling_offset` is the [`Selection::sampling_offset`] of
    /// the position.
    ///
    /// The result agrees with [`logitcask_core::select::select_reference`] exactly in ids and ranks, except for samples
    /// whose offset lies within 1e-6 of the border between two classes, and to 1e-5 in log Z.
    ///
    /// # Errors
    /// [`RowProblem`] says why this row cannot be kept.
    ///
    /// # Panics
    /// If `gold_id` is outside the row, or `keep` asks for more classes than the row has. Both are mistakes of the
    /// caller.
    pub fn select(
        &mut self,
        logits: &[f32],
        gold_id: u32,
        sampling_offset: f64,
        out: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<(), RowProblem> {
        let (vocabulary, padding) = logits.split_at(logits.len() - self.builder.keep.padding as usize);
        assert!((gold_id as usize) < vocabulary.len(), "label {gold_id} is outside the row");
        let stats = scan(vocabulary, gold_id, &mut self.extremes).ok_or(RowProblem::NotFinite)?;
        let mut row = FullRow { logits: vocabulary, log_z: stats.log_z };
        let mut max = stats.max;
        if !padding.is_empty() {
            let whole = scan(logits, gold_id, &mut self.padded).ok_or(RowProblem::NotFinite)?;
            (row.log_z, max) = (whole.log_z, whole.max);
        }
        let tail_top = self.choose(&mut row, || exact_log_z(logits, max), sampling_offset);

        let builder = &mut self.builder;
        let gold = builder.encode(row, gold_id, stats.rank)?;
        if let Some(tail) = &mut builder.tail {
            // The tail covers everything in the row that is not kept, including the padding.
            let (extremes, row) =
                if padding.is_empty() { (&self.extremes, row) } else { (&self.padded, FullRow { logits, ..row }) };
            let top = padding.iter().copied().chain(tail_top).reduce(f32::max);
            tail.fit(row, extremes, &builder.certain, top);
        }
        builder.push(row, gold, out, errors);
        Ok(())
    }

    /// Fills `certain` and `drawn`, in any order, and returns the largest logit of the vocabulary outside `certain`, if
    /// there is one.
    fn choose(
        &mut self,
        row: &mut FullRow<'_>,
        exact_log_z: impl FnOnce() -> f64,
        sampling_offset: f64,
    ) -> Option<f32> {
        let builder = &mut self.builder;
        let (selection, always) = (builder.keep.selection, builder.keep.always_keep.len());
        let count = match selection {
            Selection::Dense {} => {
                builder.certain.clear();
                builder.certain.extend(0..row.logits.len() as u32);
                return None;
            }
            Selection::TopK { k } => {
                builder.top.find(row.logits, &self.extremes.maxima, k as usize + always + 1);
                k as usize
            }
            Selection::TopP { p, k } => {
                builder.top.find(row.logits, &self.extremes.maxima, k as usize + always + 1);
                let (mut size, margin) = builder.nucleus_size(*row, p);
                if margin < MIN_NUCLEUS_MARGIN {
                    row.log_z = exact_log_z();
                    (size, _) = builder.nucleus_size(*row, p);
                }
                size.min(k as usize)
            }
            Selection::Sample { n, .. } => return self.sample(*row, n as usize, sampling_offset),
        };
        builder.choose_largest(count);
        builder.remaining(count).next().map(|(_, logit)| logit)
    }

    /// [`Self::choose`] for [`Selection::Sample`].
    fn sample(&mut self, row: FullRow<'_>, n: usize, sampling_offset: f64) -> Option<f32> {
        let RowBuilder { top, certain, drawn, keep, .. } = &mut self.builder;
        certain.clear();
        drawn.clear();
        top.find(row.logits, &self.extremes.maxima, n + 1);
        let always = &keep.always_keep;
        self.sampler.sample(row, top.ids(), always, n - always.len(), sampling_offset, (certain, drawn))
    }
}

/// log Z in f64, summed in the same order as in the reference.
fn exact_log_z(logits: &[f32], max: f32) -> f64 {
    let max = f64::from(max);
    max + logits.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln()
}
