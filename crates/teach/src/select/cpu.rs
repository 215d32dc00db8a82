//! Threshold selection on one row.

use super::exp::exp_nonpositive;
use logitcask_core::{Gold, Selection, SoftRow, SoftRows};

/// A row held a NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite;

/// Columns whose maximum is taken together: a few cache lines, and many more blocks than kept classes.
const BLOCK: usize = 32;
const LANES: usize = 8;

/// Selects row after row with the same buffers.
#[derive(Default)]
pub struct RowSelector {
    block_max: Vec<f32>,
    order: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    log_probs: Vec<f32>,
    class_ids: Vec<u32>,
}

impl RowSelector {
    /// Appends to `out` what `selection` keeps of one row of raw logits.
    ///
    /// Ties go to the lower id. Agrees with [`logitcask_core::select::select_reference`] in ids and ranks exactly and in
    /// log_z to 1e-5.
    ///
    /// # Panics
    /// Where `gold_id` or the selection's cap is outside the row: a mistake of the caller.
    pub fn select(
        &mut self,
        logits: &[f32],
        gold_id: u32,
        selection: Selection,
        out: &mut SoftRows,
    ) -> Result<(), NotFinite> {
        assert!((gold_id as usize) < logits.len() && (1..=logits.len()).contains(&(selection.cap() as usize)));
        let max = self.block_maxima(logits)?;
        let log_z = f64::from(max) + sum_exp(logits, max, 1.0).ln();
        self.top_k(logits, selection.cap() as usize);
        let log_prob = |z: f32| (f64::from(z) - log_z) as f32;
        self.log_probs.clear();
        self.log_probs.extend(self.candidates.iter().map(|&(z, _)| log_prob(z)));
        if let Selection::TopP { p, .. } = selection {
            self.log_probs.truncate(nucleus(&self.log_probs, p));
        }
        self.class_ids.clear();
        self.class_ids.extend(self.candidates[..self.log_probs.len()].iter().map(|&(_, id)| id));
        out.push(SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            log_z: log_z as f32,
            gold: Gold { log_prob: log_prob(logits[gold_id as usize]), rank: rank(logits, gold_id) },
        });
        Ok(())
    }

    /// Maximum of each block and of the row; refuses NaN and infinities.
    fn block_maxima(&mut self, logits: &[f32]) -> Result<f32, NotFinite> {
        self.block_max.clear();
        let mut poison = 0.0;
        for block in logits.chunks(BLOCK) {
            let mut max = f32::NEG_INFINITY;
            let mut zero = 0.0;
            for &z in block {
                max = if z > max { z } else { max };
                // 0 for every finite number, NaN for all others.
                zero += z * 0.0;
            }
            poison += zero;
            self.block_max.push(max);
        }
        if poison != 0.0 || f32::is_nan(poison) {
            return Err(NotFinite);
        }
        Ok(self.block_max.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    }

    /// The k largest into `candidates`, largest first, ties to the lower id.
    ///
    /// The k-th largest block maximum is reached by at least k elements (one in each of k blocks), so nothing below it is
    /// among the k largest, and few elements lie above it.
    fn top_k(&mut self, logits: &[f32], k: usize) {
        let threshold = if self.block_max.len() > k {
            self.order.clear();
            self.order.extend_from_slice(&self.block_max);
            *self.order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
        } else {
            f32::NEG_INFINITY
        };
        self.candidates.clear();
        for (block, (values, &max)) in logits.chunks(BLOCK).zip(&self.block_max).enumerate() {
            if max >= threshold {
                let first = (block * BLOCK) as u32;
                let reach = values.iter().zip(first..).filter(|(z, _)| **z >= threshold);
                self.candidates.extend(reach.map(|(&z, id)| (z, id)));
            }
        }
        let larger_first = |a: &(f32, u32), b: &(f32, u32)| {
            b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1))
        };
        if self.candidates.len() > k {
            self.candidates.select_nth_unstable_by(k - 1, larger_first);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(larger_first);
    }
}

/// Sum of e^(b (z - max)) over the row, b the inverse temperature: f32 inside a block, f64 across blocks.
pub(crate) fn sum_exp(logits: &[f32], max: f32, b: f32) -> f64 {
    let mut sum = 0.0;
    let blocks = logits.chunks_exact(BLOCK);
    let rest: f32 = blocks.remainder().iter().map(|&z| exp_nonpositive(b * (z - max))).sum();
    for block in blocks {
        let mut lanes = [0f32; LANES];
        for part in block.chunks_exact(LANES) {
            for (lane, &z) in lanes.iter_mut().zip(part) {
                *lane += exp_nonpositive(b * (z - max));
            }
        }
        sum += f64::from(lanes.iter().sum::<f32>());
    }
    sum + f64::from(rest)
}

/// How many of the sorted log-probabilities it takes to reach the mass p.
fn nucleus(log_probs: &[f32], p: f64) -> usize {
    let mut mass = 0.0;
    let short = log_probs.iter().take_while(|&&lp| {
        mass += f64::from(lp).exp();
        mass < p
    });
    (1 + short.count()).min(log_probs.len())
}

/// How many classes stand before `id` when sorted by logit, ties by id.
fn rank(logits: &[f32], id: u32) -> u32 {
    let (before, after) = logits.split_at(id as usize);
    let z = after[0];
    let larger = after[1..].iter().map(|&other| u32::from(other > z)).sum::<u32>();
    larger + before.iter().map(|&other| u32::from(other >= z)).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::select::select_reference;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn agrees_with_a_full_sort(
            // Few distinct values, so that ties abound, and sizes around the block's.
            logits in prop::collection::vec((-40i32..40).prop_map(|q| q as f32 / 4.0), 1..300),
            k in 1u32..80,
            p in 0.01f64..1.0,
            gold in any::<prop::sample::Index>(),
        ) {
            let gold = gold.index(logits.len()) as u32;
            let k = k.min(logits.len() as u32);
            for selection in [Selection::TopK { k }, Selection::TopP { p, k }] {
                let (mut fast, mut slow) = (SoftRows::default(), SoftRows::default());
                RowSelector::default().select(&logits, gold, selection, &mut fast).unwrap();
                select_reference(&logits, gold, selection, &mut slow);
                prop_assert_eq!(&fast.class_ids, &slow.class_ids);
                prop_assert_eq!(&fast.gold_ranks, &slow.gold_ranks);
                prop_assert!((fast.log_z[0] - slow.log_z[0]).abs() < 1e-5);
                for (a, b) in fast.log_probs.iter().zip(&slow.log_probs) {
                    prop_assert!((a - b).abs() < 1e-5);
                }
                prop_assert_eq!(fast.check(&[gold], logits.len() as u32), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 31, 32, 99] {
                let mut logits = vec![0.5; 100];
                logits[at] = bad;
                let got = RowSelector::default().select(&logits, 0, Selection::TopK { k: 4 }, &mut SoftRows::default());
                assert_eq!(got, Err(NotFinite), "{bad} at {at}");
            }
        }
    }
}
