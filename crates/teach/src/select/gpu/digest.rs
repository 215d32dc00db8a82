//! What the kernel sends of a row, and what becomes of it.

use super::super::row_builder::{LogProbs, RowBuilder, RowProblem};
use super::kernel::{BAR, BROKEN, GOLD, HEAD, RANK};
use super::launch::Ask;
use logitcask_core::{RowErrors, Selection, SoftRows, Truncation};

/// Nearer to `p` than this a nucleus' mass is left to the whole row: a GPU's exponentials are good to some 1e-6.
const NUCLEUS_DOUBT: f64 = 1e-5;
/// A row with a larger logit is fetched: beyond this, selection in memory says [`RowProblem::NotFinite`].
const LARGEST: f32 = 2e38;

/// A row of which the largest classes, those always kept and the label are known.
#[derive(Clone, Copy)]
struct Sent<'a> {
    /// Ids, ascending, and logits.
    pairs: &'a [(u32, f32)],
    /// The label's, which need not be among them.
    gold: f32,
    log_z: f64,
}

impl LogProbs for Sent<'_> {
    fn log_z(self) -> f64 {
        self.log_z
    }

    /// What is not among the pairs is the label: nobody asks for another.
    fn log_prob(self, id: u32) -> f64 {
        let found = self.pairs.binary_search_by_key(&id, |pair| pair.0);
        f64::from(found.map_or(self.gold, |i| self.pairs[i].1)) - self.log_z
    }
}

/// Finishes digest after digest with the same buffers.
pub(super) struct Settler {
    ask: Ask,
    builder: RowBuilder,
    pairs: Vec<(u32, f32)>,
    /// The last one is that of e^(z - bar).
    sums: Vec<f64>,
}

impl Settler {
    pub(super) fn new(keep: &Truncation, ask: Ask) -> Self {
        Self { ask, builder: RowBuilder::new(keep), pairs: Vec::new(), sums: Vec::new() }
    }

    /// Appends what is kept of the row with this digest and counts its errors. `false` where only the whole row settles
    /// that; then, and on `Err`, nothing changes.
    pub(super) fn settle(
        &mut self,
        words: &[u32],
        gold_id: u32,
        out: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<bool, RowProblem> {
        if words[BROKEN] > 0 {
            return Err(RowProblem::NotFinite);
        }
        self.unpack(&words[HEAD..]);
        let Self { builder, pairs, sums, .. } = self;
        let bar = f32::from_bits(words[BAR]);
        let max = builder.top.classes().map(|(_, logit)| logit).fold(bar, f32::max);
        let Some((&rest, sums)) = sums.split_last().filter(|_| max <= LARGEST) else { return Ok(false) };
        let log_z = log_z(pairs, max, bar, rest);
        let row = Sent { pairs, gold: f32::from_bits(words[GOLD]), log_z };
        let Some(count) = choose(builder, row) else { return Ok(false) };
        builder.take(count);
        let gold = builder.write(row, gold_id, words[RANK])?;
        let Some(mut tail) = builder.tail.take() else { return Ok(false) };
        let is_settled = tail.complete(sums, bar, builder.left(count).map(|(_, logit)| logit), log_z);
        builder.tail = Some(tail);
        if is_settled {
            builder.push(row, gold, out, errors);
        }
        Ok(is_settled)
    }

    /// The largest classes, all that are known by id, and sums.
    fn unpack(&mut self, words: &[u32]) {
        let count = self.ask.count;
        let (ids, words) = words.split_at(count);
        let (bits, words) = words.split_at(count);
        let (sums, fixed) = words.split_at(words.len() - self.ask.fixed);
        self.pairs.clear();
        self.pairs.extend(ids.iter().copied().zip(bits.iter().copied().map(f32::from_bits)));
        self.builder.top.set(self.pairs.iter().copied());
        let fixed = fixed.iter().copied().map(f32::from_bits);
        self.pairs.extend(self.builder.keep.always_keep.iter().copied().zip(fixed));
        self.pairs.sort_unstable_by_key(|pair| pair.0);
        self.pairs.dedup_by_key(|pair| pair.0);
        self.sums.clear();
        let number = |bits| f64::from(f32::from_bits(bits));
        self.sums.extend(sums.as_chunks::<2>().0.iter().map(|&[sum, missing]| number(sum) + number(missing)));
    }
}

/// log sum exp from the logits that are known and the sum of e^(z - bar) of all others; `max` is the largest of them all.
fn log_z(known: &[(u32, f32)], max: f32, bar: f32, rest: f64) -> f64 {
    let weight = |z: f32| (f64::from(z) - f64::from(max)).exp();
    let near: f64 = known.iter().map(|pair| weight(pair.1)).sum();
    f64::from(max) + (near + rest * weight(bar)).ln()
}

/// How many of the largest classes are kept; `None` where log Z is too coarse to tell.
fn choose(builder: &RowBuilder, row: Sent<'_>) -> Option<usize> {
    match builder.keep.selection {
        Selection::TopK { k } => Some(k as usize),
        Selection::TopP { p, k } => {
            let (size, doubt) = builder.nucleus(row, p);
            (doubt >= NUCLEUS_DOUBT).then_some(size.min(k as usize))
        }
        Selection::Sample { .. } | Selection::Dense {} => None,
    }
}
