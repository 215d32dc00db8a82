//! Which classes of a row are kept, and the slow reference every fast selection is tested against.

use crate::soft_row::{Gold, SoftRow, SoftRows, log_sum_exp};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Rule by which the kept classes of a position are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Selection {
    /// The `k` largest logits, ties to the lower id.
    TopK {
        /// At least 1, at most the vocabulary and 65,535.
        k: u32,
    },
    /// The fewest largest classes whose probability at T = 1 reaches `p`, at least one and at most `k`
    /// (nucleus first, then the cap: 2410.16215).
    TopP {
        /// In (0, 1].
        p: f64,
        /// The cap.
        k: u32,
    },
}

impl Selection {
    /// The largest number of classes a position can keep.
    pub fn cap(&self) -> u32 {
        match *self {
            Self::TopK { k } | Self::TopP { k, .. } => k,
        }
    }

    /// Does every position keep the same number of classes?
    pub fn is_fixed(&self) -> bool {
        matches!(self, Self::TopK { .. })
    }

    /// Refuses what cannot be selected from `vocab_size` classes; the message says what would do.
    pub fn check(&self, vocab_size: u32) -> Result<(), String> {
        let limit = vocab_size.min(u32::from(u16::MAX));
        if !(1..=limit).contains(&self.cap()) {
            return Err(format!("k = {} is not within 1..={limit} (vocabulary {vocab_size})", self.cap()));
        }
        match *self {
            Self::TopP { p, .. } if !(p > 0.0 && p <= 1.0) => Err(format!("p = {p} is not within 0 < p <= 1")),
            _ => Ok(()),
        }
    }
}

/// Appends to `out` what `selection` keeps of one row of raw logits, in f64 and by a full sort.
/// The logits must be finite.
pub fn select_reference(logits: &[f32], gold_id: u32, selection: Selection, out: &mut SoftRows) {
    let raw: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let log_z = log_sum_exp(&raw);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let descending = |a: u32, b: u32| logits[b as usize].partial_cmp(&logits[a as usize]);
    order.sort_by(|&a, &b| descending(a, b).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
    let count = match selection {
        Selection::TopK { k } => k as usize,
        Selection::TopP { p, k } => {
            let mut mass = 0.0;
            let short = order.iter().take_while(|&&id| {
                mass += (raw[id as usize] - log_z).exp();
                mass < p
            });
            (1 + short.count()).min(k as usize)
        }
    };
    let rank = order.iter().position(|&id| id == gold_id).unwrap_or(logits.len());
    let log_prob = |id: u32| (raw[id as usize] - log_z) as f32;
    out.push(SoftRow {
        class_ids: &order[..count],
        log_probs: &order[..count].iter().map(|&id| log_prob(id)).collect::<Vec<_>>(),
        log_z: log_z as f32,
        gold: Gold { log_prob: log_prob(gold_id), rank: rank as u32 },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id() {
        let mut rows = SoftRows::default();
        select_reference(&[1.0, 2.0, 2.0, 2.0, 0.0], 3, Selection::TopK { k: 2 }, &mut rows);
        assert_eq!(rows.class_ids, [1, 2]);
        assert_eq!(rows.gold_ranks, [2]);
        assert_eq!(rows.check(&[3], 5), Ok(()));
    }

    #[test]
    fn nucleus_is_the_fewest_that_reach_p() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln).to_vec();
        let kept = |p, k| {
            let mut rows = SoftRows::default();
            select_reference(&logits, 0, Selection::TopP { p, k }, &mut rows);
            rows.class_ids.len()
        };
        assert_eq!([kept(0.4, 4), kept(0.79, 4), kept(0.81, 4), kept(1.0, 4), kept(1.0, 2)], [1, 2, 3, 4, 2]);
    }

    #[test]
    fn impossible_selections_say_why() {
        assert!(Selection::TopK { k: 9 }.check(8).expect_err("k > V").contains("1..=8"));
        assert!(Selection::TopK { k: 0 }.check(8).is_err());
        assert!(Selection::TopP { p: 1.5, k: 4 }.check(8).expect_err("p > 1").contains("p = 1.5"));
        assert!(serde_json::from_str::<Selection>(r#"{"kind":"top_k","k":4,"p":0.5}"#).is_err());
    }
}
