//! Selection from the summary of a row: a few hundred numbers that were computed where the logits are, so that the row
//! itself need not be read back.

#[cfg(test)]
mod tests;

use crate::row::{LogProbs, RowProblem};
use crate::row_builder::RowBuilder;
use crate::tail::MIN_SUMMED_CLASSES;
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};

/// If a partial sum of the nucleus is closer to `p` than this, the whole row decides, because a GPU's exponentials have
/// relative errors of about 1e-6.
const MIN_NUCLEUS_MARGIN: f64 = 1e-5;
/// A row with a larger logit is selected as a whole, which refuses it with [`RowProblem::NotFinite`].
const MAX_LOGIT: f32 = 2e38;

/// What the summaries of rows contain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SummarySpec {
    /// Number of largest classes: those that may be kept, and one more.
    pub count: usize,
    /// Number of classes that are kept in any case.
    pub always_kept: usize,
    /// Number of columns at the end of a row that are not classes.
    pub padding: usize,
    /// Number of sums at inverse temperatures of the grid.
    pub powers: usize,
    /// The lowest inverse temperature of the grid, and its step.
    pub grid: (f64, f64),
}

impl SummarySpec {
    /// What a summary has to contain of rows of `width` logits (padding included). `None` if no summary determines rows
    /// that are truncated as `keep` says, or if it would be as long as the row.
    pub fn new(keep: &Truncation, width: usize) -> Option<Self> {
        let (Selection::TopK { k } | Selection::TopP { k, .. }) = keep.selection else { return None };
        let rule = keep.tail?;
        let (always_kept, padding) = (keep.always_keep.len(), keep.padding as usize);
        let count = k as usize + always_kept + 1;
        let (low, distance) = rule.knots();
        let spec = Self { count, always_kept, padding, powers: rule.grid().len(), grid: (low, distance / 2.0) };
        let is_shorter = 2 * (count + spec.powers + 1) + always_kept < width;
        (is_shorter && width >= count + padding.max(MIN_SUMMED_CLASSES)).then_some(spec)
    }
}

/// A row of logits z as [`SummarySpec`] asks for it.
#[derive(Clone, Copy, Debug)]
pub struct RowSummary<'a> {
    /// Ids of the largest classes, in any order.
    pub ids: &'a [u32],
    /// Their logits.
    pub logits: &'a [f32],
    /// Logits of [`Truncation::always_keep`], in its order.
    pub always_kept: &'a [f32],
    /// The label's logit.
    pub gold: f32,
    /// Number of classes before the label, ordered by falling logit and, where equal, by id.
    pub rank: u32,
    /// A number that is at least as large as every logit in the sums.
    pub bound: f32,
    /// Σ e^(b (z - bound)) at every inverse temperature b of the grid, then at b = 1: over all columns of the row,
    /// padding included, except for the classes whose logits are listed above.
    pub sums: &'a [f64],
}

/// Selects from one summary at a time and reuses its buffers.
pub struct SummarySelector {
    builder: RowBuilder,
    /// Ids (ascending) and logits of the known classes.
    pairs: Vec<(u32, f32)>,
}

impl SummarySelector {
    /// A selector for rows that are truncated as `keep` says.
    pub fn new(keep: &Truncation) -> Self {
        Self { builder: RowBuilder::new(keep), pairs: Vec::new() }
    }

    /// Appends the selected row to `out` and adds its errors to `errors`. Returns `false` if only the whole row
    /// determines the result. In that case, and on `Err`, nothing changes.
    ///
    /// # Errors
    /// [`RowProblem::TooSmall`] names a class that cannot be encoded.
    pub fn select(
        &mut self,
        summary: RowSummary<'_>,
        gold_id: u32,
        out: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<bool, RowProblem> {
        self.list_known(&summary);
        let Self { builder, pairs } = self;
        let max = builder.top.classes().map(|(_, logit)| logit).fold(summary.bound, f32::max);
        let Some((&rest, sums)) = summary.sums.split_last().filter(|_| max <= MAX_LOGIT) else { return Ok(false) };
        let log_z = log_z(pairs, max, summary.bound, rest);
        let row = PartialRow { pairs, gold: summary.gold, log_z };
        let Some(count) = choose(builder, row) else { return Ok(false) };
        builder.choose_largest(count);
        let gold = builder.encode(row, gold_id, summary.rank)?;
        let Some(mut tail) = builder.tail.take() else { return Ok(false) };
        let near = builder.remaining(count).map(|(_, logit)| logit);
        let is_decided = tail.fit_partial(sums, summary.bound, near, log_z);
        builder.tail = Some(tail);
        if is_decided {
            builder.push(row, gold, out, errors);
        }
        Ok(is_decided)
    }

    fn list_known(&mut self, summary: &RowSummary<'_>) {
        let Self { builder, pairs } = self;
        pairs.clear();
        pairs.extend(summary.ids.iter().copied().zip(summary.logits.iter().copied()));
        builder.top.set(pairs.iter().copied());
        pairs.extend(builder.keep.always_keep.iter().copied().zip(summary.always_kept.iter().copied()));
        pairs.sort_unstable_by_key(|pair| pair.0);
        pairs.dedup_by_key(|pair| pair.0);
    }
}

/// A row of which the largest classes, the always-kept classes and the label are known.
#[derive(Clone, Copy)]
struct PartialRow<'a> {
    /// Ids (ascending) and logits of the known classes.
    pairs: &'a [(u32, f32)],
    /// The label's logit. The label need not be in `pairs`.
    gold: f32,
    log_z: f64,
}

impl LogProbs for PartialRow<'_> {
    fn log_z(self) -> f64 {
        self.log_z
    }

    /// A class that is not in `pairs` can only be the label, because no other class is looked up.
    fn log_prob(self, id: u32) -> f64 {
        let found = self.pairs.binary_search_by_key(&id, |pair| pair.0);
        f64::from(found.map_or(self.gold, |i| self.pairs[i].1)) - self.log_z
    }
}

/// log Z from the known logits and the sum of e^(z - bound) over all others. `max` is the largest logit of the row, or
/// `bound` if that is greater.
fn log_z(known: &[(u32, f32)], max: f32, bound: f32, rest: f64) -> f64 {
    let weight = |z: f32| (f64::from(z) - f64::from(max)).exp();
    let near: f64 = known.iter().map(|pair| weight(pair.1)).sum();
    f64::from(max) + (near + rest * weight(bound)).ln()
}

/// How many of the largest classes are kept. `None` if log Z is not precise enough to decide.
fn choose(builder: &RowBuilder, row: PartialRow<'_>) -> Option<usize> {
    match builder.keep.selection {
        Selection::TopK { k } => Some(k as usize),
        Selection::TopP { p, k } => {
            let (size, margin) = builder.nucleus_size(row, p);
            (margin >= MIN_NUCLEUS_MARGIN).then_some(size.min(k as usize))
        }
        Selection::Sample { .. } | Selection::Dense {} => None,
    }
}
