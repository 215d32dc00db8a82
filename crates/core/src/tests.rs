//! Rows as selections make them: what they know, at which temperature, and what breaks them.

use crate::atom_rounding::LOGIT_STEP;
use crate::divergence::{Remainder, TemperedRow};
use crate::error_sum::RowErrors;
use crate::math::log_sum_exp;
use crate::rng::CounterRng;
use crate::select::select_reference;
use crate::{
    Gold, GoldSource, LogProbPrecision, RowSource, Selection, SoftRows, TailPolicy, TailRule, TailSource, Truncation,
};

const TAIL: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
const VOCAB: u32 = 200;

pub(crate) fn keep(selection: Selection) -> Truncation {
    let tail = (selection != (Selection::Dense {})).then_some(TAIL);
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail,
        padding: 0,
        source: RowSource::FULL,
    }
}

fn logits(seed: u64, vocab: u32) -> Vec<f32> {
    let mut rng = CounterRng::new("row test", &[seed]);
    (0..vocab).map(|_| 3.0 * rng.normal() as f32).collect()
}

fn rows(keep: &Truncation, gold: u32, seeds: std::ops::Range<u64>) -> (SoftRows, RowErrors) {
    let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    for seed in seeds {
        select_reference(&logits(seed, VOCAB), gold, keep, 0.5, &mut rows, &mut errors);
    }
    (rows, errors)
}

#[test]
fn every_selection_makes_rows_that_pass_and_know_every_temperature() {
    let quantised = LogProbPrecision::Quantised { step: 0.0625 };
    let top = keep(Selection::TopK { k: 16 });
    let always = vec![3, 150, 199];
    for keep in [
        top.clone(),
        Truncation { values: quantised, ..top.clone() },
        Truncation { always_keep: always.clone(), ..top },
        keep(Selection::TopP { p: 0.9, k: 30 }),
        Truncation { always_keep: always.clone(), ..keep(Selection::TopP { p: 0.9, k: 30 }) },
        keep(Selection::Sample { n: 12, seed: 0 }),
        Truncation { always_keep: always, ..keep(Selection::Sample { n: 12, seed: 0 }) },
        keep(Selection::Dense {}),
        keep(Selection::TopK { k: VOCAB }),
    ] {
        keep.check(VOCAB).unwrap();
        let gold = 150;
        let (rows, errors) = rows(&keep, gold, 0..40);
        rows.check(&keep, &[gold; 40], VOCAB).unwrap_or_else(|e| panic!("{keep:?}: {e}"));
        let bound = 4e-3 + keep.values.mass_tolerance();
        assert!(errors.log_z.iter().all(|e| e.worst() < bound), "{keep:?}: {errors:?}");
        assert!(errors.codec.worst() < 0.008 + keep.values.mass_tolerance(), "{keep:?}");
        for (row, seed) in rows.iter().zip(0..) {
            let z: Vec<f64> = logits(seed, VOCAB).iter().map(|&z| f64::from(z)).collect();
            let top = row.certain().iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if row.drawn == 0 {
                assert!((f64::from(top) + log_sum_exp(&z) - z.iter().copied().fold(f64::MIN, f64::max)).abs() < 0.04);
            }
            for temperature in [0.75, 1.0, 1.3, 2.0, 4.0, 10.0] {
                let dense: Vec<f64> = z.iter().map(|z| z / temperature).collect();
                let log_z = log_sum_exp(&dense);
                assert!((row.log_z_at(temperature) - log_z).abs() < bound, "{keep:?} T = {temperature}");
                let p: Vec<f64> = dense.iter().map(|x| (x - log_z).exp()).collect();
                let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
                assert!((row.entropy(temperature) - entropy).abs() < 8.0 * bound, "{keep:?} T = {temperature}");
                let squares: f64 = p.iter().map(|p| p * p).sum();
                assert!((row.sum_of_squares(temperature) / squares - 1.0).abs() < 4.0 * bound);
            }
        }
    }
}

#[test]
fn bucket_and_renorm_differ_by_the_tail_and_agree_without_one() {
    let (rows, _) = rows(&keep(Selection::TopK { k: 16 }), 0, 0..10);
    for row in rows.iter() {
        for temperature in [1.0, 2.0, 5.0] {
            let target = TemperedRow::of(&row, temperature, TailPolicy::Bucket);
            let tail = mass(target.rest);
            assert!((log_sum_exp(&target.log_probs).exp() + tail - 1.0).abs() < 1e-12);
            assert!((tail - row.tail_mass(temperature)).abs() < 1e-12);
            let renormalised = TemperedRow::of(&row, temperature, TailPolicy::Renormalize);
            assert!(log_sum_exp(&renormalised.log_probs).abs() < 1e-12 && renormalised.rest == Remainder::Nothing);
        }
    }
    let (rows, _) = self::rows(&keep(Selection::Dense {}), 0, 0..3);
    for row in rows.iter() {
        let at = |policy| TemperedRow::of(&row, 2.0, policy);
        assert_eq!(at(TailPolicy::Bucket), at(TailPolicy::Renormalize));
    }
}

/// Probability outside the known classes.
fn mass(rest: Remainder) -> f64 {
    match rest {
        Remainder::Nothing => 0.0,
        Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } => log_mass.exp(),
    }
}

#[test]
fn fewer_classes_at_read_time_lose_nothing() {
    let keep = keep(Selection::TopK { k: 40 });
    let (rows, _) = rows(&keep, 0, 0..20);
    for row in rows.iter() {
        let short = row.prefix(7);
        assert_eq!((short.class_ids, short.certain().len()), (&row.class_ids[..7], 7));
        assert_eq!(row.prefix(99), row);
        for temperature in [0.75, 1.5, 4.0] {
            let off = short.log_z_at(temperature) - row.log_z_at(temperature);
            assert!(off.abs() < 1e-12, "the same sum in another order: {off}");
            let [all, shorter] = [row, short].map(|row| TemperedRow::of(&row, temperature, TailPolicy::Bucket));
            assert!((shorter.log_probs[3] - all.log_probs[3]).abs() < 1e-12);
            assert!((log_sum_exp(&shorter.log_probs).exp() + mass(shorter.rest) - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn moments_of_the_logits_over_all_classes_come_close() {
    let (rows, _) = rows(&keep(Selection::TopK { k: 16 }), 0, 0..20);
    for (row, seed) in rows.iter().zip(0..) {
        let z: Vec<f64> = logits(seed, VOCAB).iter().map(|&z| f64::from(z)).collect();
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        let std = (z.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / z.len() as f64).sqrt();
        let (got_mean, got_std) = row.logit_moments(0.0);
        // At b = 0, outside their range, rounded atoms may be off by the step of their logits.
        let bound = LOGIT_STEP;
        assert!((got_mean - mean).abs() < bound && (got_std - std).abs() < bound, "{got_mean} {mean} {got_std} {std}");
    }
}

#[test]
fn every_broken_invariant_is_named() {
    type Breakage = fn(&mut SoftRows);
    let broken: [(&str, Breakage); 16] = [
        ("log_z", |r| r.log_z.truncate(1)),
        ("class_ids", |r| r.class_ids.push(1)),
        ("`tail` holds 9 values, 10 belong", |r| r.tail.truncate(9)),
        ("no class", |r| {
            r.counts[1] = 0;
            r.class_ids.truncate(usize::from(r.counts[0]));
            r.log_probs.truncate(usize::from(r.counts[0]));
        }),
        ("5 classes kept, 1 to 4", |r| {
            r.counts[0] = 5;
            r.class_ids.insert(0, 1);
            r.log_probs.insert(0, -0.1);
        }),
        ("drawn at random", |r| r.drawn[0] = 1),
        ("finite", |r| r.log_probs[0] = f32::NAN),
        ("outside the vocabulary", |r| r.class_ids[0] = VOCAB),
        ("kept twice", |r| r.class_ids[0] = r.class_ids[1]),
        ("sorted, largest first", |r| r.log_probs.swap(0, 1)),
        ("ties to the lower id", |r| {
            r.log_probs[1] = r.log_probs[0];
            r.class_ids[0] = r.class_ids[1].max(r.class_ids[0]);
            r.class_ids[1] = 0;
        }),
        ("below their log-sum-exp", |r| r.log_probs[0] = 0.0),
        ("too large", |r| r.log_probs.iter_mut().for_each(|lp| *lp -= 20.0)),
        ("tail atoms are not sorted", |r| r.tail.swap(0, 1)),
        ("1 belongs there", |r| r.tail[0].log_weight += 2000),
        ("another input", |r| r.gold_ranks[0] = 1 - r.gold_ranks[0].min(1)),
    ];
    let keep = keep(Selection::TopP { p: 0.99, k: 4 });
    // Both labels are the teacher's first choice, so that a rank can be wrong.
    let best = |seed| {
        let z = logits(seed, VOCAB);
        (0..VOCAB).max_by(|&a, &b| z[a as usize].total_cmp(&z[b as usize])).unwrap()
    };
    let gold = [best(0), best(1)];
    let (mut good, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
    for (seed, &gold) in (0..).zip(&gold) {
        select_reference(&logits(seed, VOCAB), gold, &keep, 0.0, &mut good, &mut errors);
    }
    assert_eq!(good.check(&keep, &gold, VOCAB), Ok(()));
    for (message, breakage) in broken {
        let mut rows = good.clone();
        breakage(&mut rows);
        let error = rows.check(&keep, &gold, VOCAB).expect_err(message).to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
    let error = good.check(&keep, &[gold[1], gold[1]], VOCAB).expect_err("another label").to_string();
    assert!(error.contains("position 0") && error.contains("another input"), "{error}");
}

#[test]
fn a_prefix_of_the_positions_is_whole() {
    let keep = keep(Selection::TopP { p: 0.9, k: 30 });
    let (all, _) = rows(&keep, 7, 0..12);
    let mut short = all.clone();
    short.truncate(5);
    assert_eq!(short.check(&keep, &[7; 5], VOCAB), Ok(()));
    assert!(short.iter().eq(all.iter().take(5)));
}

/// As a server tells it: the likeliest classes, and nothing that does not follow from them.
const TOLD: RowSource = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };

#[test]
fn what_a_source_did_not_tell_is_not_known_and_the_rest_is_as_ever() {
    let full = keep(Selection::TopK { k: 16 });
    let mass = Truncation { tail: None, source: TOLD, ..full.clone() };
    let nothing =
        Truncation { source: RowSource { gold: GoldSource::None, tail: TailSource::None, ..TOLD }, ..mass.clone() };
    for gold in 0..VOCAB {
        let [(whole, _), (told, _), (least, _)] = [&full, &mass, &nothing].map(|keep| rows(keep, gold, 0..1));
        told.check(&mass, &[gold], VOCAB).unwrap();
        least.check(&nothing, &[gold], VOCAB).unwrap();
        let [whole, told, least] = [&whole, &told, &least].map(|rows| rows.iter().next().unwrap());
        assert_eq!((told.class_ids, told.log_probs), (whole.class_ids, whole.log_probs));
        assert!(told.log_z.is_nan() && told.log_z_at(1.0).is_nan());
        let is_kept = told.class_ids.contains(&gold);
        assert_eq!((told.gold.is_known(), least.gold.is_known()), (is_kept, false));
        if is_kept {
            assert_eq!(told.gold, whole.gold);
        }
        assert!((told.tail_mass(1.0) - (1.0 - told.kept_mass())).abs() < 1e-9);
        assert!(told.log_partition(1.0).abs() < 1e-9 && told.log_partition(0.5).is_nan());
        assert!([told.tail_mass(2.0), told.entropy(1.0), told.sum_of_squares(1.0)].iter().all(|x| x.is_nan()));
        assert!((told.prefix(3).tail_mass(1.0) - (1.0 - told.prefix(3).kept_mass())).abs() < 1e-9);
        assert!(least.tail_mass(1.0).is_nan() && least.log_partition(1.0).is_nan());
        // The kept classes by themselves follow at every temperature.
        for row in [told, least] {
            let [a, b] = [row, whole].map(|row| TemperedRow::of(&row, 2.0, TailPolicy::Renormalize).log_probs);
            assert_eq!(a, b);
        }
        let Remainder::Bucket { log_mass } = TemperedRow::of(&told, 1.0, TailPolicy::Bucket).rest else { panic!() };
        assert!((log_mass - told.tail_mass(1.0).ln()).abs() < 1e-9);
    }
}

#[test]
#[should_panic(expected = "the tail at T = 2 is not known")]
fn a_tail_that_nobody_knows_is_not_made_up() {
    let keep = Truncation { tail: None, source: TOLD, ..keep(Selection::TopK { k: 16 }) };
    let (rows, _) = rows(&keep, 0, 0..1);
    TemperedRow::of(&rows.iter().next().unwrap(), 2.0, TailPolicy::Bucket);
}

#[test]
fn every_broken_invariant_of_a_source_that_told_less_is_named() {
    let keep = Truncation { tail: None, source: TOLD, ..keep(Selection::TopK { k: 4 }) };
    let best = |seed| rows(&keep, 0, seed..seed + 1).0.class_ids[0];
    let outside = (0..VOCAB).find(|id| !rows(&keep, 0, 1..2).0.class_ids.contains(id)).unwrap();
    let gold = [best(0), outside];
    let mut good = SoftRows::new(&keep);
    for (seed, &gold) in (0..).zip(&gold) {
        select_reference(&logits(seed, VOCAB), gold, &keep, 0.0, &mut good, &mut RowErrors::new(&keep));
    }
    good.check(&keep, &gold, VOCAB).unwrap();
    assert_eq!(good.gold_ranks, [0, Gold::UNKNOWN_RANK]);
    type Breakage = fn(&mut SoftRows);
    let broken: [(&str, Breakage); 9] = [
        ("`log_z` holds 2 values, 0 belong", |r| r.log_z = vec![0.0; 2]),
        ("`gold_log_probs` holds 2 values, 0 belong", |r| r.gold_log_probs = vec![0.0; 2]),
        ("`gold_ranks` holds 1 values, 2 belong", |r| r.gold_ranks.truncate(1)),
        ("is said to be outside them, but the kept classes hold it at 0", |r| r.gold_ranks[0] = Gold::UNKNOWN_RANK),
        ("is said to be at 1, but the kept classes hold it at 0", |r| r.gold_ranks[0] = 1),
        ("is said to be at 2, but the kept classes lack it", |r| r.gold_ranks[1] = 2),
        ("is said to be at 4, but the kept classes lack it", |r| r.gold_ranks[1] = 4),
        ("1 at most belongs there", |r| r.log_probs[0] = 0.0),
        ("that of equally probable classes", |r| r.log_probs.iter_mut().for_each(|lp| *lp -= 20.0)),
    ];
    for (message, breakage) in broken {
        let mut rows = good.clone();
        breakage(&mut rows);
        let error = rows.check(&keep, &gold, VOCAB).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
