//! One row in memory: which classes, what of them is written, and what that costs.

use super::row_builder::{LogProbs, RowBuilder, RowProblem};

use super::sample::Draw;
use super::scan::{Extremes, scan};
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};

/// Nearer to `p` than this, a nucleus' mass is computed again in f64: f32 exponentials are no judge of it.
const NUCLEUS_DOUBT: f64 = 1e-6;

/// A row of raw logits, or the first classes of one, and its log-partition.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// Raw.
    pub(super) logits: &'a [f32],
    /// log sum exp of the whole row.
    pub(super) log_z: f64,
}

impl LogProbs for Row<'_> {
    fn log_z(self) -> f64 {
        self.log_z
    }

    fn log_prob(self, id: u32) -> f64 {
        f64::from(self.logits[id as usize]) - self.log_z
    }
}

/// Selects row after row with the same buffers.
pub struct RowSelector {
    extremes: Extremes,
    /// Of a row with its padding.
    padded: Extremes,
    draw: Draw,
    builder: RowBuilder,
}

impl RowSelector {
    /// For rows of which `keep` is kept.
    pub fn new(keep: &Truncation) -> Self {
        Self {
            extremes: Extremes::default(),
            padded: Extremes::default(),
            draw: Draw::default(),
            builder: RowBuilder::new(keep),
        }
    }

    /// Appends to `out` what is kept of one row of raw logits (\[vocabulary + padding\]) and counts in `errors` what writing it costs; neither
    /// changes on `Err`. `sampling_offset` is [`Selection::sampling_offset`] of the position.
    ///
    /// Agrees with [`logitcask_core::select::select_reference`] in ids and ranks exactly, but for draws whose offset falls
    /// within 1e-6 of the border between two classes, and in log_z to 1e-5.
    ///
    /// # Errors
    /// [`RowProblem`] says why this row cannot be kept.
    ///
    /// # Panics
    /// Where `gold_id` is outside the row, or `keep` asks for more than it has: a mistake of the caller.
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
        let summary = scan(vocabulary, gold_id, &mut self.extremes).ok_or(RowProblem::NotFinite)?;
        let mut row = Row { logits: vocabulary, log_z: summary.log_z };
        let mut max = summary.max;
        if !padding.is_empty() {
            let whole = scan(logits, gold_id, &mut self.padded).ok_or(RowProblem::NotFinite)?;
            (row.log_z, max) = (whole.log_z, whole.max);
        }
        let tail_top = self.choose(&mut row, || exact_log_z(logits, max), sampling_offset);

        let builder = &mut self.builder;
        let gold = builder.write(row, gold_id, summary.rank)?;
        if let Some(tail) = &mut builder.tail {
            // The tail is what is left of the whole row.
            let (extremes, row) =
                if padding.is_empty() { (&self.extremes, row) } else { (&self.padded, Row { logits, ..row }) };
            let top = padding.iter().copied().chain(tail_top).reduce(f32::max);
            tail.summarise(row, extremes, &builder.sure, top);
        }
        builder.push(row, gold, out, errors);
        Ok(())
    }

    /// Fills `sure` and `drawn`, in any order; the largest logit of the vocabulary outside `sure`, if anything is.
    fn choose(&mut self, row: &mut Row<'_>, exact_log_z: impl FnOnce() -> f64, sampling_offset: f64) -> Option<f32> {
        let builder = &mut self.builder;
        let (selection, always) = (builder.keep.selection, builder.keep.always_keep.len());
        let count = match selection {
            Selection::Dense {} => {
                builder.sure.clear();
                builder.sure.extend(0..row.logits.len() as u32);
                return None;
            }
            Selection::TopK { k } => {
                builder.top.find(row.logits, &self.extremes.maxima, k as usize + always + 1);
                k as usize
            }
            Selection::TopP { p, k } => {
                builder.top.find(row.logits, &self.extremes.maxima, k as usize + always + 1);
                let (mut size, doubt) = builder.nucleus(*row, p);
                if doubt < NUCLEUS_DOUBT {
                    row.log_z = exact_log_z();
                    (size, _) = builder.nucleus(*row, p);
                }
                size.min(k as usize)
            }
            Selection::Sample { n, .. } => return self.cast(*row, n as usize, sampling_offset),
        };
        builder.take(count);
        builder.left(count).next().map(|(_, logit)| logit)
    }

    /// [`Self::choose`] at random.
    fn cast(&mut self, row: Row<'_>, n: usize, sampling_offset: f64) -> Option<f32> {
        let RowBuilder { top, sure, drawn, keep, .. } = &mut self.builder;
        sure.clear();
        drawn.clear();
        top.find(row.logits, &self.extremes.maxima, n + 1);
        let always = &keep.always_keep;
        self.draw.draw(row, top.ids(), always, n - always.len(), sampling_offset, (sure, drawn))
    }
}

/// log sum exp in f64, in the reference's order.
fn exact_log_z(logits: &[f32], max: f32) -> f64 {
    let max = f64::from(max);
    max + logits.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln()
}
