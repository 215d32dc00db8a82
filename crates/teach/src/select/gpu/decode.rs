//! Turns the summary of a row into the selected row.

use super::super::row::{LogProbs, RowProblem};
use super::super::row_builder::RowBuilder;
use super::launch::SummarySpec;
use super::layout::{BOUND, GOLD, HEADER, NON_FINITE, RANK};
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};

/// If a partial sum of the nucleus is closer to `p` than this, the whole row is read back, because a GPU's exponentials
/// have relative errors of about 1e-6.
const MIN_NUCLEUS_MARGIN: f64 = 1e-5;
/// A row with a larger logit is read back, because selection in memory refuses it with [`RowProblem::NotFinite`].
const MAX_LOGIT: f32 = 2e38;

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

/// Decodes one summary at a time and reuses its buffers.
pub(super) struct SummaryDecoder {
    spec: SummarySpec,
    builder: RowBuilder,
    pairs: Vec<(u32, f32)>,
    /// The last sum is Σ e^(z - bound).
    sums: Vec<f64>,
}

impl SummaryDecoder {
    pub(super) fn new(keep: &Truncation, spec: SummarySpec) -> Self {
        Self { spec, builder: RowBuilder::new(keep), pairs: Vec::new(), sums: Vec::new() }
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
        self.unpack(&words[HEADER..]);
        let Self { builder, pairs, sums, .. } = self;
        let bound = f32::from_bits(words[BOUND]);
        let max = builder.top.classes().map(|(_, logit)| logit).fold(bound, f32::max);
        let Some((&rest, sums)) = sums.split_last().filter(|_| max <= MAX_LOGIT) else { return Ok(false) };
        let log_z = log_z(pairs, max, bound, rest);
        let row = PartialRow { pairs, gold: f32::from_bits(words[GOLD]), log_z };
        let Some(count) = choose(builder, row) else { return Ok(false) };
        builder.choose_largest(count);
        let gold = builder.encode(row, gold_id, words[RANK])?;
        let Some(mut tail) = builder.tail.take() else { return Ok(false) };
        let is_decided = tail.fit_partial(sums, bound, builder.remaining(count).map(|(_, logit)| logit), log_z);
        builder.tail = Some(tail);
        if is_decided {
            builder.push(row, gold, out, errors);
        }
        Ok(is_decided)
    }

    /// Reads the largest classes, the known pairs of id and logit, and the sums from the summary's words.
    fn unpack(&mut self, words: &[u32]) {
        let count = self.spec.count;
        let (ids, words) = words.split_at(count);
        let (bits, words) = words.split_at(count);
        let (sums, always_kept) = words.split_at(words.len() - self.spec.always_kept);
        self.pairs.clear();
        self.pairs.extend(ids.iter().copied().zip(bits.iter().copied().map(f32::from_bits)));
        self.builder.top.set(self.pairs.iter().copied());
        let always_kept = always_kept.iter().copied().map(f32::from_bits);
        self.pairs.extend(self.builder.keep.always_keep.iter().copied().zip(always_kept));
        self.pairs.sort_unstable_by_key(|pair| pair.0);
        self.pairs.dedup_by_key(|pair| pair.0);
        self.sums.clear();
        let number = |bits| f64::from(f32::from_bits(bits));
        self.sums.extend(sums.as_chunks::<2>().0.iter().map(|&[sum, compensation]| number(sum) + number(compensation)));
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
