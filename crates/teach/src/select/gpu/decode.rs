//! Reads the words of a row's summary.

use super::layout::{BOUND, GOLD, HEADER, NON_FINITE, RANK};
use logitcask_core::{RowErrors, SoftRows, Truncation};
use logitcask_select::{RowProblem, RowSummary, SummarySelector, SummarySpec};

/// Decodes one summary at a time and reuses its buffers.
pub(super) struct SummaryDecoder {
    spec: SummarySpec,
    selector: SummarySelector,
    logits: Vec<f32>,
    always_kept: Vec<f32>,
    sums: Vec<f64>,
}

impl SummaryDecoder {
    pub(super) fn new(keep: &Truncation, spec: SummarySpec) -> Self {
        let selector = SummarySelector::new(keep);
        Self { spec, selector, logits: Vec::new(), always_kept: Vec::new(), sums: Vec::new() }
    }

    /// Appends the selected row to `out` and adds its errors to `errors`. Returns `false` if only the whole row
    /// determines the result. In that case, and on `Err`, nothing changes.
    pub(super) fn decode(
        &mut self,
        words: &[u32],
        gold_id: u32,
        out: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<bool, RowProblem> {
        if words[NON_FINITE] > 0 {
            return Err(RowProblem::NotFinite);
        }
        let (ids, rest) = words[HEADER..].split_at(self.spec.count);
        let (logits, rest) = rest.split_at(self.spec.count);
        let (sums, always_kept) = rest.split_at(rest.len() - self.spec.always_kept);
        let Self { selector, logits: as_logits, always_kept: as_always_kept, sums: as_sums, .. } = self;
        read(logits, as_logits);
        read(always_kept, as_always_kept);
        let number = |bits| f64::from(f32::from_bits(bits));
        as_sums.clear();
        as_sums.extend(sums.as_chunks::<2>().0.iter().map(|&[sum, compensation]| number(sum) + number(compensation)));
        let summary = RowSummary {
            ids,
            logits: as_logits,
            always_kept: as_always_kept,
            gold: f32::from_bits(words[GOLD]),
            rank: words[RANK],
            bound: f32::from_bits(words[BOUND]),
            sums: as_sums,
        };
        selector.select(summary, gold_id, out, errors)
    }
}

fn read(bits: &[u32], numbers: &mut Vec<f32>) {
    numbers.clear();
    numbers.extend(bits.iter().copied().map(f32::from_bits));
}
