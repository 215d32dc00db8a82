//! Selection of the classes of a row to keep, and the slow reference that every fast selection is tested against.

use crate::error_sum::RowErrors;
use crate::math::log_sum_exp;
use crate::rng::CounterRng;
use crate::soft_row::{Gold, SoftRow};
use crate::soft_rows::SoftRows;
use crate::tail::Tail;
use crate::truncation::Truncation;
use crate::{ConfigError, Fingerprint, SampleId};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Rule that chooses the kept classes of a position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Selection {
    /// The `k` largest logits, with ties to the lower id.
    TopK {
        /// Number of classes: at least 1, at most the vocabulary and 65,535.
        k: u32,
    },
    /// The fewest most probable classes whose total probability at T = 1 reaches `p`, at least one and at most `k`
    /// (nucleus first, then the cap: 2410.16215).
    TopP {
        /// In (0, 1].
        p: f64,
        /// Maximum number of classes.
        k: u32,
    },
    /// `n` classes sampled without replacement, unbiased: with tau such that sum_i min(1, p_i / tau) = n, every class
    /// with p_i >= tau is kept, and each other class is sampled with probability p_i / tau (systematic sampling in the
    /// order of ids). A sampled class stands for a mass of tau.
    Sample {
        /// Number of classes: at least 1, at most the vocabulary and 65,535.
        n: u32,
        /// Seed of the draws; the same seed gives the same classes.
        #[serde(default)]
        seed: u64,
    },
    /// All classes in the order of ids, for vocabularies of up to 65,535.
    Dense {},
}

impl Selection {
    /// Rejects a selection that is impossible with `vocab_size` classes.
    ///
    /// # Errors
    /// Names the key and what would be accepted.
    pub fn check(&self, vocab_size: u32) -> Result<(), ConfigError> {
        let limit = vocab_size.min(u32::from(u16::MAX));
        let count = |key: &str, count: u32| {
            let range = format!("1 to {limit} (the vocabulary has {vocab_size} classes)");
            ConfigError::unless((1..=limit).contains(&count), key, count, range)
        };
        match *self {
            Self::TopK { k } => count("k", k),
            Self::TopP { p, k } => {
                ConfigError::unless(p > 0.0 && p <= 1.0, "p", p, "above 0 and at most 1")?;
                count("k", k)
            }
            Self::Sample { n, .. } => count("n", n),
            Self::Dense {} => ConfigError::unless(vocab_size <= limit, "kind", "dense", "top_k, top_p or sample")
                .map_err(|error| {
                    error.because(format!(
                        "the vocabulary has {vocab_size} classes, {limit} can be counted at a position"
                    ))
                }),
        }
    }

    /// The number in [0, 1) that decides the draws of one position; 0 for selections that do not sample.
    pub fn sampling_offset(&self, split: &str, sample: SampleId, position: usize) -> f64 {
        let Self::Sample { seed, .. } = *self else { return 0.0 };
        CounterRng::new("logitcask sample", &[seed, split_key(split), sample.0, position as u64]).uniform()
    }
}

/// Maps a split's name to a key of the generator.
pub(crate) fn split_key(split: &str) -> u64 {
    let hash = Fingerprint::of(split.as_bytes()).to_string();
    u64::from_str_radix(&hash[..16], 16).unwrap_or_else(|_| unreachable!("a hash is hex digits"))
}

/// Appends to `out` what `keep` keeps of one row of raw logits, computed in f64 with a full sort, and adds the measured
/// approximation errors to `errors`.
///
/// `sampling_offset` is [`Selection::sampling_offset`] of the position. The logits must be finite and the
/// log-probabilities within the range that `keep.values` can represent.
pub fn select_reference(
    logits: &[f32],
    gold_id: u32,
    keep: &Truncation,
    sampling_offset: f64,
    out: &mut SoftRows,
    errors: &mut RowErrors,
) {
    let raw: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let log_z = log_sum_exp(&raw);
    let relative: Vec<f64> = raw.iter().map(|z| z - log_z).collect();
    let classes = logits.len() - keep.padding as usize;
    let mut order: Vec<u32> = (0..classes as u32).collect();
    let descending = |a: u32, b: u32| logits[b as usize].partial_cmp(&logits[a as usize]);
    order.sort_by(|&a, &b| descending(a, b).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
    let rank = order.iter().position(|&id| id == gold_id).unwrap_or(logits.len());

    let (mut head, mut drawn) = choose(&relative, &order, keep, sampling_offset);
    let round = |id: u32| keep.values.round(relative[id as usize] as f32).unwrap_or(f32::NAN);
    if !keep.is_dense() {
        for part in [&mut head, &mut drawn] {
            part.sort_by(|&a, &b| round(b).total_cmp(&round(a)).then(a.cmp(&b)));
        }
    }
    let mut outside = vec![true; logits.len()];
    head.iter().for_each(|&id| outside[id as usize] = false);
    let tail: Vec<f64> = relative.iter().zip(&outside).filter(|(_, out)| **out).map(|(z, _)| *z).collect();
    let atoms = keep.tail.map(|rule| rule.atoms_reference(&tail)).unwrap_or_default();

    let kept: Vec<u32> = head.iter().chain(&drawn).copied().collect();
    let log_probs: Vec<f32> = kept.iter().map(|&id| round(id)).collect();
    let row = SoftRow {
        class_ids: &kept,
        log_probs: &log_probs,
        drawn: drawn.len(),
        log_z: keep.values.round_log_z(log_z),
        gold: Gold { log_prob: round(gold_id), rank: rank as u32 },
        tail: Tail { reference: keep.tail.map_or(0.0, |rule| rule.reference()), atoms: &atoms, ..Tail::default() },
    };
    kept.iter().zip(&log_probs).for_each(|(&id, &lp)| errors.codec.add(f64::from(lp) - relative[id as usize]));
    for (sum, b) in errors.log_z.iter_mut().zip(keep.tail.iter().flat_map(|rule| rule.grid())) {
        let truth = log_sum_exp(&relative.iter().map(|z| b * z).collect::<Vec<_>>());
        sum.add(row.log_partition(b) - truth);
    }
    out.push(row);
}

/// Returns the deterministically kept classes and the sampled ones; `order` lists all classes, largest first.
fn choose(relative: &[f64], order: &[u32], keep: &Truncation, sampling_offset: f64) -> (Vec<u32>, Vec<u32>) {
    let always = &keep.always_keep;
    let with_always = |count: usize| {
        let rest = order[count..].iter().filter(|id| always.contains(id));
        order[..count].iter().chain(rest).copied().collect::<Vec<u32>>()
    };
    match keep.selection {
        Selection::TopK { k } => (with_always(k as usize), Vec::new()),
        Selection::TopP { p, k } => {
            let mut mass = 0.0;
            let short = order.iter().take_while(|&&id| {
                mass += relative[id as usize].exp();
                mass < p
            });
            (with_always((1 + short.count()).min(k as usize).min(order.len())), Vec::new())
        }
        Selection::Dense {} => ((0..order.len() as u32).collect(), Vec::new()),
        Selection::Sample { n, .. } => {
            let rest: Vec<u32> = order.iter().filter(|id| !always.contains(id)).copied().collect();
            let (sure, drawn) = draw(relative, &rest, n as usize - always.len(), sampling_offset);
            (sure.into_iter().chain(always.iter().copied()).collect(), drawn)
        }
    }
}

/// Samples `n` of `rest` (largest first) without replacement; returns the deterministically kept classes and the
/// sampled ones.
fn draw(relative: &[f64], rest: &[u32], n: usize, sampling_offset: f64) -> (Vec<u32>, Vec<u32>) {
    let p = |id: u32| relative[id as usize].exp();
    let mut beyond: Vec<f64> = rest.iter().map(|&id| p(id)).collect();
    for i in (0..beyond.len().saturating_sub(1)).rev() {
        beyond[i] += beyond[i + 1];
    }
    // The largest class is kept deterministically while its probability reaches an equal share of what remains.
    let sure = (0..n).take_while(|&i| i + 1 < n && p(rest[i]) * (n - i) as f64 >= beyond[i]).count();
    let places = n - sure;
    if rest.len() <= n || beyond[sure] <= 0.0 {
        return (rest[..n.min(rest.len())].to_vec(), Vec::new());
    }
    let tau = beyond[sure] / places as f64;
    let mut population = rest[sure..].to_vec();
    population.sort_unstable();
    let (mut drawn, mut sum) = (Vec::with_capacity(places), 0.0);
    for &id in &population {
        sum += p(id) / tau;
        if drawn.len() < places && sum > sampling_offset + drawn.len() as f64 {
            drawn.push(id);
        }
    }
    // The shares add up to `places` except for rounding, which can leave the last offset without a class.
    let missed = population.iter().rev().find(|id| p(**id) > 0.0 && !drawn.contains(id));
    if drawn.len() < places {
        drawn.extend(missed);
    }
    (rest[..sure].to_vec(), drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::keep;
    use crate::{TailPolicy, TemperedRow};

    fn select(logits: &[f32], gold: u32, keep: &Truncation, sampling_offset: f64) -> SoftRows {
        let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        select_reference(logits, gold, keep, sampling_offset, &mut rows, &mut errors);
        assert_eq!(rows.check(keep, &[gold], logits.len() as u32), Ok(()));
        rows
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        let rows = select(&[1.0, 2.0, 2.0, 2.0, 0.0], 3, &keep(Selection::TopK { k: 2 }), 0.0);
        assert_eq!(rows.class_ids, [1, 2]);
        assert_eq!(rows.gold_ranks, [2]);
    }

    #[test]
    fn nucleus_is_the_fewest_that_reach_p() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln).to_vec();
        let kept = |p, k| select(&logits, 0, &keep(Selection::TopP { p, k }), 0.0).class_ids.len();
        assert_eq!([kept(0.4, 4), kept(0.79, 4), kept(0.81, 4), kept(1.0, 4), kept(1.0, 2)], [1, 2, 3, 4, 2]);
    }

    #[test]
    fn what_is_always_kept_comes_on_top_of_the_chosen() {
        let logits = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
        let always = |selection| Truncation { always_keep: vec![1, 4], ..keep(selection) };
        assert_eq!(select(&logits, 5, &always(Selection::TopK { k: 2 }), 0.0).class_ids, [0, 1, 4]);
        assert_eq!(select(&logits, 4, &always(Selection::TopP { p: 0.1, k: 2 }), 0.0).class_ids, [0, 1, 4]);
        let sampled = select(&logits, 4, &always(Selection::Sample { n: 4, seed: 0 }), 0.3);
        assert!([1, 4].iter().all(|id| sampled.class_ids.contains(id)) && sampled.class_ids.len() == 4);
    }

    #[test]
    fn the_draw_is_unbiased_of_fixed_size_and_adds_up_to_one() {
        let mut rng = CounterRng::new("draw test", &[1]);
        let logits: Vec<f32> = (0..60).map(|_| 2.0 * rng.normal() as f32).collect();
        let keep = keep(Selection::Sample { n: 8, seed: 0 });
        let z: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
        const DRAWS: usize = 20_000;
        for temperature in [1.0, 2.0] {
            let dense: Vec<f64> = z.iter().map(|z| z / temperature).collect();
            let p: Vec<f64> = dense.iter().map(|x| (x - log_sum_exp(&dense)).exp()).collect();
            let (mut sum, mut square) = (vec![0.0; 60], vec![0.0; 60]);
            for i in 0..DRAWS {
                let sampling_offset = keep.selection.sampling_offset("train", SampleId(i as u64), 3);
                let rows = select(&logits, 0, &keep, sampling_offset);
                let row = rows.iter().next().unwrap();
                let weights = weights(&row, temperature);
                assert_eq!(row.class_ids.len(), 8);
                assert!(temperature > 1.0 || (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                for (&id, w) in row.class_ids.iter().zip(&weights) {
                    sum[id as usize] += w;
                    square[id as usize] += w * w;
                }
            }
            for id in 0..60 {
                let mean = sum[id] / DRAWS as f64;
                let variance = square[id] / DRAWS as f64 - mean * mean;
                // Five standard errors, 120 comparisons: one in 15,000 runs would fail by chance, and the offsets are fixed.
                // f16 and the atoms add their own rounding.
                let bound = 5.0 * (variance.max(0.0) / DRAWS as f64).sqrt() + 4e-3 * p[id];
                assert!((mean - p[id]).abs() < bound, "T = {temperature}, class {id}: {mean}, expected {}", p[id]);
            }
        }
    }

    #[test]
    fn a_drawn_row_tells_its_first_choice_or_that_it_cannot() {
        let always = vec![4, 5];
        let keep = |n| Truncation { always_keep: always.clone(), ..keep(Selection::Sample { n, seed: 0 }) };
        let first_choices = |logits: &[f32], gold, n| -> Vec<Option<u32>> {
            let of_lot = |sampling_offset: u32| {
                let rows = select(logits, gold, &keep(n), f64::from(sampling_offset) / 10.0);
                rows.iter().next().unwrap().first_choice(gold, always.len())
            };
            (0..10).map(of_lot).collect()
        };
        // Nothing but what is kept anyway is sure: none of the others reaches its share, whichever is drawn.
        let even = [1.0, 1.1, 0.9, 1.0, -3.0, -3.0, 1.0, 0.8];
        assert_eq!(first_choices(&even, 0, 4), [None; 10]);
        assert_eq!(first_choices(&even, 1, 4), [Some(1); 10], "the label's rank tells");
        let sharp = [1.0, 6.0, 0.9, 1.0, -3.0, -3.0, 1.0, 0.8];
        assert_eq!(first_choices(&sharp, 0, 5), [Some(1); 10]);
        assert_eq!(first_choices(&sharp, 4, 8), [Some(1); 10], "none is drawn where all are kept");
    }

    /// What each kept class stands for: its probability times the number of classes it was drawn for.
    fn weights(row: &SoftRow, temperature: f64) -> Vec<f64> {
        let target = TemperedRow::of(row, temperature, TailPolicy::Sampled);
        target.log_probs.iter().zip(&target.counts).map(|(lp, count)| lp.exp() * count).collect()
    }

    #[test]
    fn the_draw_has_less_variance_than_drawing_with_replacement() {
        // Random-sampling KD draws n times from p with replacement; class i's estimate then has variance p (1 - p) / n.
        let mut rng = CounterRng::new("draw test", &[2]);
        let logits: Vec<f32> = (0..100).map(|_| 2.0 * rng.normal() as f32).collect();
        let z: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
        let p: Vec<f64> = z.iter().map(|x| (x - log_sum_exp(&z)).exp()).collect();
        let keep = keep(Selection::Sample { n: 12, seed: 1 });
        let (draws, mut total) = (2_000, 0.0);
        for i in 0..draws {
            let rows = select(&logits, 0, &keep, keep.selection.sampling_offset("train", SampleId(i), 0));
            let row = rows.iter().next().unwrap();
            let mut estimate = vec![0.0; 100];
            row.class_ids.iter().zip(weights(&row, 1.0)).for_each(|(&id, w)| estimate[id as usize] = w);
            total += estimate.iter().zip(&p).map(|(e, p)| (e - p).powi(2)).sum::<f64>();
        }
        let ours = total / draws as f64;
        // With replacement 12 draws give fewer distinct ids: give them as many draws as it takes to see 12 of them.
        let distinct = |n: f64| p.iter().map(|p| 1.0 - (1.0 - p).powf(n)).sum::<f64>();
        let n = (12..1000).map(f64::from).find(|&n| distinct(n) >= 12.0).unwrap();
        let theirs: f64 = p.iter().map(|p| p * (1.0 - p) / n).sum();
        assert!(ours < 0.75 * theirs, "{ours} against {theirs} at {n} draws");
    }

    #[test]
    fn lots_depend_on_seed_split_sample_and_position() {
        let sampling_offset = |seed, split, sample, position| {
            Selection::Sample { n: 4, seed }.sampling_offset(split, SampleId(sample), position)
        };
        let first = sampling_offset(0, "train", 5, 2);
        assert_eq!(first, sampling_offset(0, "train", 5, 2));
        for other in [
            sampling_offset(1, "train", 5, 2),
            sampling_offset(0, "val", 5, 2),
            sampling_offset(0, "train", 6, 2),
            sampling_offset(0, "train", 5, 3),
        ] {
            assert_ne!(first, other);
        }
        assert_eq!(Selection::Dense {}.sampling_offset("train", SampleId(5), 2), 0.0);
    }

    #[test]
    fn impossible_selections_say_why() {
        assert!(Selection::TopK { k: 9 }.check(8).expect_err("k > V").to_string().contains("1 to 8"));
        assert!(Selection::TopK { k: 0 }.check(8).is_err());
        assert!(Selection::TopP { p: 1.5, k: 4 }.check(8).expect_err("p > 1").to_string().contains("p = 1.5"));
        assert!(Selection::Sample { n: 9, seed: 0 }.check(8).expect_err("n > V").to_string().contains("n = 9"));
        assert!(Selection::Dense {}.check(70_000).expect_err("too many").to_string().contains("65535"));
        assert!(serde_json::from_str::<Selection>(r#"{"kind":"top_k","k":4,"p":0.5}"#).is_err());
    }
}
