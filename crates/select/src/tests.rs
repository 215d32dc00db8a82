//! The fast selection compared with the reference.

use crate::{RowProblem, RowSelector};
use logitcask_core::math::log_sum_exp;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{LogProbPrecision, RowErrors, RowSource, Selection, SoftRow, SoftRows, TailRule, Truncation};
use proptest::prelude::*;

const WIDE: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
const NARROW: TailRule = TailRule { lowest_temperature: 1.0, highest_temperature: 4.0, atoms: 4 };
/// Both selections draw the same sample unless the offset is closer than this to the border between two classes.
const OFFSET_TOLERANCE: f64 = 1e-6;

fn keep(selection: Selection, tail: TailRule) -> Truncation {
    let tail = (selection != (Selection::Dense {})).then_some(tail);
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail,
        padding: 0,
        source: RowSource::FULL,
    }
}

fn row(rng: &mut CounterRng, kind: u64, vocab: usize) -> Vec<f32> {
    let spread = [0.02, 0.5, 2.0, 4.0][rng.below(4) as usize];
    let mut normal = || spread * rng.normal();
    let z: Vec<f64> = (0..vocab).map(|_| normal() + normal()).collect();
    match kind {
        // Unchanged.
        0 => z.iter().map(|&z| z as f32).collect(),
        // With ties.
        1 => z.iter().map(|&z| (z * 4.0).round() as f32 / 4.0).collect(),
        // With masked classes.
        2 => z.iter().enumerate().map(|(i, &z)| if i % 3 == 1 && i > 2 { -1e30 } else { z as f32 }).collect(),
        // With a long upper tail.
        _ => z.iter().map(|&z| (z + z.max(0.0).powi(2) / 4.0) as f32).collect(),
    }
}

/// The rows of both selections, after the errors reported by the fast one were checked. Also returns whether the atoms
/// of the fast one are at least as accurate as the reference's, up to rounding.
fn both(logits: &[f32], gold: u32, keep: &Truncation, sampling_offset: f64) -> (SoftRows, SoftRows, bool) {
    let (mut fast, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    RowSelector::new(keep).select(logits, gold, sampling_offset, &mut fast, &mut errors).unwrap();
    errors_are_those_of_the_row(logits, keep, &fast, &errors);
    let (mut slow, mut slow_errors) = (SoftRows::new(keep), RowErrors::new(keep));
    select_reference(logits, gold, keep, sampling_offset, &mut slow, &mut slow_errors);
    let worst = |errors: &RowErrors| errors.log_z.iter().map(|error| error.worst()).fold(0.0, f64::max);
    let is_better = worst(&errors) <= worst(&slow_errors) + ATOM_STEP;
    // A temperature range that is too wide for the atoms fails the check in both selections.
    let classes = logits.len() as u32 - keep.padding;
    if slow.check(keep, &[gold], classes).is_ok() {
        fast.check(keep, &[gold], classes).unwrap_or_else(|e| panic!("{keep:?}: {e}"));
    }
    (fast, slow, is_better)
}

/// Checks that the reported errors are those of the row as it is encoded.
fn errors_are_those_of_the_row(logits: &[f32], keep: &Truncation, rows: &SoftRows, errors: &RowErrors) {
    let z: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let log_z = log_sum_exp(&z);
    let row = rows.iter().next().unwrap();
    for (b, error) in keep.tail.iter().flat_map(TailRule::grid).zip(&errors.log_z) {
        let truth = log_sum_exp(&z.iter().map(|z| b * (z - log_z)).collect::<Vec<_>>());
        let wanted = (row.log_partition(b) - truth).abs();
        assert!((error.worst() - wanted).abs() < 1e-5 + 1e-7 * log_z.abs(), "b = {b}: {} {wanted}", error.worst());
    }
    let codec = |(&id, &lp): (&u32, &f32)| (f64::from(lp) - (z[id as usize] - log_z)).abs();
    let wanted = row.class_ids.iter().zip(row.log_probs).map(codec).fold(0.0, f64::max);
    assert!((errors.codec.worst() - wanted).abs() < 1e-5 + 1e-7 * log_z.abs());
}

/// Ids and values of a row's certain or drawn classes, ordered by id.
fn part(row: SoftRow<'_>, is_drawn: bool) -> Vec<(u32, f32)> {
    let certain = row.certain().len();
    let range = if is_drawn { certain..row.class_ids.len() } else { 0..certain };
    let mut pairs: Vec<_> = row.class_ids[range.clone()].iter().copied().zip(row.log_probs[range].to_vec()).collect();
    pairs.sort_unstable_by_key(|pair| pair.0);
    pairs
}

/// Checks that both rows have the same classes, and values at most one rounding step apart: log Z differs in its last
/// bits, which decides how a value between two steps is rounded. log Z itself, which is a multiple of a step in some
/// rows, is compared with the sum over all logits for the same reason. `Err` says what differs.
fn same_rows(logits: &[f32], keep: &Truncation, fast: &SoftRows, slow: &SoftRows) -> Result<(), String> {
    let (fast, slow) = (fast.iter().next().unwrap(), slow.iter().next().unwrap());
    if (fast.drawn, fast.gold.rank) != (slow.drawn, slow.gold.rank) {
        return Err(format!("{} drawn, rank {}; {} {}", fast.drawn, fast.gold.rank, slow.drawn, slow.gold.rank));
    }
    let log_z = log_sum_exp(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>());
    let error = keep.values.log_z_step() / 2.0 + 1e-5 + 1.2e-7 * log_z.abs();
    if [fast, slow].iter().any(|row| (f64::from(row.log_z) - log_z).abs() > error) {
        return Err(format!("log_z {} {}, exactly {log_z}", fast.log_z, slow.log_z));
    }
    let code = |lp| i32::from(keep.values.code(lp).unwrap());
    // Many codes of a tiny log-probability are within the error of log Z.
    let is_near = |a: f32, b: f32| (code(a) - code(b)).abs() <= 1 || (a - b).abs() < 1e-6;
    for is_drawn in [false, true] {
        let (fast, slow) = (part(fast, is_drawn), part(slow, is_drawn));
        if fast.len() != slow.len() || fast.iter().zip(&slow).any(|(f, s)| f.0 != s.0 || !is_near(f.1, s.1)) {
            return Err(format!("classes {fast:?} {slow:?}"));
        }
    }
    if !is_near(fast.gold.log_prob, slow.gold.log_prob) {
        return Err(format!("label {} {}", fast.gold.log_prob, slow.gold.log_prob));
    }
    for b in keep.tail.iter().flat_map(TailRule::grid) {
        let atoms = (fast.tail.atoms, slow.tail.atoms);
        let (fast, slow) = (fast.tail.log_partition(b), slow.tail.log_partition(b));
        // Without a tail both are negative infinity, and therefore equal. If atoms are out of range, it is arbitrary
        // which ones.
        let is_saturated = atoms.0.iter().chain(atoms.1).any(|atom| atom.log_prob == i16::MIN + 1);
        if fast != slow && !is_saturated && (fast - slow).abs() > tail_tolerance(b, keep) {
            return Err(format!("tail at b = {b}: {fast} {slow}, {atoms:?}"));
        }
    }
    Ok(())
}

/// Both are rounded from the same rule, so an atom's weight and logit differ by at most half a step each.
fn tail_tolerance(b: f64, keep: &Truncation) -> f64 {
    1e-4 + keep.tail.map_or(0.0, |rule| ATOM_STEP * (1.0 + (b - rule.reference()).abs()))
}

fn agree(logits: &[f32], gold: u32, keep: &Truncation, sampling_offset: f64) {
    let (fast, slow, is_better) = both(logits, gold, keep, sampling_offset);
    let Err(problem) = same_rows(logits, keep, &fast, &slow) else { return };
    if is_better && problem.starts_with("tail") {
        return;
    }
    let beside = |sampling_offset| {
        let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        select_reference(logits, gold, keep, sampling_offset, &mut rows, &mut errors);
        rows
    };
    let is_close_call = keep.is_sampled()
        && [sampling_offset - OFFSET_TOLERANCE, sampling_offset + OFFSET_TOLERANCE]
            .iter()
            .any(|&sampling_offset| same_rows(logits, keep, &fast, &beside(sampling_offset)).is_ok());
    assert!(is_close_call, "{keep:?}, sampling_offset {sampling_offset}, {} classes: {problem}", logits.len());
}

fn selections(vocab: u32) -> impl Strategy<Value = Truncation> {
    let k = 1..=vocab.min(90);
    let selection = prop_oneof![
        k.clone().prop_map(|k| Selection::TopK { k }),
        (k.clone(), prop_oneof![0.01f64..1.0, Just(1.0)]).prop_map(|(k, p)| Selection::TopP { p, k }),
        k.prop_map(|n| Selection::Sample { n, seed: 0 }),
        Just(Selection::Dense {}),
    ];
    let values = prop_oneof![Just(LogProbPrecision::F16 {}), Just(LogProbPrecision::Quantised { step: 0.0625 })];
    let always = prop::collection::btree_set(0..vocab, 0..4);
    let tail = prop_oneof![Just(WIDE), Just(NARROW), (1u32..=8).prop_map(|atoms| TailRule { atoms, ..WIDE })];
    (selection, values, always, tail).prop_map(move |(selection, values, always, tail)| {
        let mut keep = Truncation { values, always_keep: always.into_iter().collect(), ..keep(selection, tail) };
        if keep.check(vocab).is_err() {
            keep.always_keep.clear();
        }
        keep.check(vocab).unwrap();
        keep
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn agrees_with_the_reference(
        (vocab, keep) in (1u32..600).prop_flat_map(|vocab| (Just(vocab), selections(vocab))),
        seed: u64,
        kind in 0u64..4,
        gold: prop::sample::Index,
        sampling_offset in 0.0f64..1.0,
    ) {
        let logits = row(&mut CounterRng::new("selection test", &[seed]), kind, vocab as usize);
        let gold = gold.index(logits.len()) as u32;
        // Masked classes cannot be encoded and are refused.
        let is_masked = |id: u32| logits[id as usize] < -1e29;
        let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        match RowSelector::new(&keep).select(&logits, gold, sampling_offset, &mut rows, &mut errors) {
            Ok(()) => agree(&logits, gold, &keep, sampling_offset),
            Err(RowProblem::TooSmall { class_id, log_prob }) => {
                prop_assert!(is_masked(class_id) || log_prob < -100.0, "{class_id} {log_prob}");
                prop_assert!(rows.is_empty() && errors == RowErrors::new(&keep));
            }
            Err(RowProblem::NotFinite) => prop_assert!(false),
        }
    }
}

#[test]
fn agrees_with_the_reference_on_long_rows() {
    let mut rng = CounterRng::new("selection test", &[1]);
    for (vocab, rounds) in [(5_000, 12), (33_000, 2)] {
        for selection in [
            Selection::TopK { k: 64 },
            Selection::TopK { k: 700 },
            Selection::TopP { p: 0.9, k: 100 },
            Selection::TopP { p: 1.0, k: 40 },
            Selection::Sample { n: 32, seed: 0 },
            Selection::Sample { n: 200, seed: 0 },
            Selection::Dense {},
        ] {
            for i in 0..rounds {
                let logits = row(&mut rng, i % 4, vocab);
                let gold = rng.below(vocab as u64 / 3) as u32 * 3;
                let keep = keep(selection, if i % 3 == 0 { NARROW } else { WIDE });
                let keep = Truncation {
                    always_keep: if i % 2 == 0 || keep.is_dense() { vec![] } else { vec![0, 5, 99] },
                    ..keep
                };
                if keep.is_dense() && i % 4 == 2 {
                    continue;
                }
                agree(&logits, gold, &keep, rng.uniform());
            }
        }
    }
}

#[test]
fn many_atoms_and_wide_ranges_agree_too() {
    let mut rng = CounterRng::new("selection test", &[2]);
    for (lowest_temperature, highest_temperature) in [(0.05, 1000.0), (0.5, 20.0), (0.9, 1.1), (1.0, 1.5)] {
        for atoms in 1..=8 {
            let rule = TailRule { lowest_temperature, highest_temperature, atoms };
            for kind in [0, 1, 3] {
                let logits = row(&mut rng, kind, 3_000);
                agree(&logits, 7, &keep(Selection::TopK { k: 8 }, rule), 0.0);
            }
        }
    }
}

#[test]
fn degenerate_rows_are_kept_without_a_nan() {
    let v = 2_000;
    let with = |changes: &[(usize, f32)], rest: f32| {
        let mut row = vec![rest; v];
        changes.iter().for_each(|&(id, z)| row[id] = z);
        row
    };
    let halves: Vec<f32> = (0..v).map(|i| if i % 2 == 0 { 1.0 } else { -2.0 }).collect();
    let steps: Vec<f32> = (0..v).map(|i| -1e4 + i as f32 * 10.0).collect();
    let live: Vec<f32> = (0..v).map(|i| if i < 30 { -(i as f32) / 4.0 } else { -1e30 }).collect();
    let close: Vec<f32> = (0..v).map(|i| 3.0 + (i % 7) as f32 * 1e-6).collect();
    let two_masks: Vec<f32> = (0..v).map(|i| [0.5, -1e9, -1e30][i % 3] - (i / 3) as f32 / 300.0).collect();
    let rows = [
        with(&[], 0.0),
        with(&[], 1e4),
        with(&[], -1e4),
        halves,
        with(&[(77, 1e4)], 0.0),
        steps,
        live,
        close,
        two_masks,
        with(&[(0, 40.0), (5, 39.0)], -30.0),
        with(&[(1, 60.0)], 0.0),
    ];
    for logits in &rows {
        let gold = (0..v as u32).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize])).unwrap();
        for rule in [WIDE, NARROW, TailRule { atoms: 8, ..WIDE }, TailRule { lowest_temperature: 0.05, ..WIDE }] {
            for selection in [
                Selection::TopK { k: 1 },
                Selection::TopK { k: 7 },
                Selection::TopP { p: 0.9, k: 20 },
                Selection::Sample { n: 12, seed: 0 },
                Selection::Dense {},
            ] {
                let keep = keep(selection, rule);
                let (mut out, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
                match RowSelector::new(&keep).select(logits, gold, 0.4137, &mut out, &mut errors) {
                    Ok(()) => agree(logits, gold, &keep, 0.4137),
                    Err(problem) => assert!(matches!(problem, RowProblem::TooSmall { .. }), "{problem}"),
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_kept_is_refused_and_the_first_row_named() {
    let keep = keep(Selection::TopK { k: 4 }, WIDE);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 31, 32, 99] {
            let mut logits = vec![0.5; 100];
            logits[at] = bad;
            let (mut out, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
            let got = RowSelector::new(&keep).select(&logits, 0, 0.0, &mut out, &mut errors);
            assert_eq!(got, Err(RowProblem::NotFinite), "{bad} at {at}");
        }
    }
    let quantised = Truncation { values: LogProbPrecision::Quantised { step: 0.031_25 }, ..keep };
    let mut logits = vec![0.0; 100];
    let (mut out, mut errors) = (SoftRows::new(&quantised), RowErrors::new(&quantised));
    let mut selector = RowSelector::new(&quantised);
    selector.select(&logits, 3, 0.0, &mut out, &mut errors).unwrap();
    assert!(errors.log_z[0].worst() < 0.02);
    logits[3] = -70.0;
    let problem = selector.select(&logits, 3, 0.0, &mut out, &mut errors);
    let Err(RowProblem::TooSmall { class_id: 3, log_prob }) = problem else {
        panic!("the label cannot be written, but the result is {problem:?}")
    };
    assert!((log_prob + 70.0 + 99f32.ln()).abs() < 1e-4);
}

#[test]
fn padding_counts_in_log_z_and_in_the_tail_and_is_never_kept() {
    let mut rng = CounterRng::new("padded rows", &[]);
    let selections =
        [Selection::TopK { k: 9 }, Selection::TopP { p: 0.8, k: 40 }, Selection::Sample { n: 12, seed: 0 }];
    for (padding, vocab) in [(1, 300), (62, 258), (267, 1_000), (700, 40)] {
        for kind in [0, 1, 3] {
            let mut logits = row(&mut rng, kind, vocab + padding);
            // The unused rows of a head may hold anything. Here the most likely classes are among them.
            logits[vocab..].iter_mut().step_by(2).for_each(|z| *z += 3.0);
            let gold = rng.below(vocab as u64) as u32;
            for selection in selections {
                let keep = Truncation { padding: padding as u32, always_keep: vec![3, 5], ..keep(selection, NARROW) };
                let (fast, slow, _) = both(&logits, gold, &keep, 0.37);
                assert_eq!((&fast.class_ids, &fast.gold_ranks), (&slow.class_ids, &slow.gold_ranks), "{keep:?}");
                assert!(fast.class_ids.iter().all(|&id| (id as usize) < vocab));
                let whole: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
                assert!((f64::from(fast.log_z[0]) - log_sum_exp(&whole)).abs() < 1e-5, "log Z is of the whole row");
                let certain: f64 = fast.iter().map(|row| row.kept_mass()).sum();
                let tail = fast.iter().map(|row| row.tail_mass(1.0)).sum::<f64>();
                assert!((certain + tail - 1.0).abs() < 4e-3, "{certain} and {tail}");
            }
        }
    }
}

#[test]
fn a_dense_row_lacks_what_its_padding_holds() {
    let mut rng = CounterRng::new("padded dense rows", &[]);
    let logits = row(&mut rng, 0, 310);
    let keep = Truncation { padding: 10, ..keep(Selection::Dense {}, NARROW) };
    let (fast, _, _) = both(&logits, 7, &keep, 0.0);
    assert_eq!(fast.class_ids, (0..300).collect::<Vec<_>>());
    let whole: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let padding = (log_sum_exp(&whole[300..]) - log_sum_exp(&whole)).exp();
    let kept = fast.iter().map(|row| row.kept_mass()).sum::<f64>();
    assert!((kept + padding - 1.0).abs() < 1e-3, "{kept} and {padding}");
}

/// If this fails, the same logits produce different rows than before. Increase [`crate::SELECTION_VERSION`], and put
/// the new number and hash here.
#[test]
fn the_selection_has_another_version_when_its_rows_are_others() {
    let mut text = String::new();
    let mut rng = CounterRng::new("rows of the version", &[]);
    for kind in [0, 1, 3] {
        let logits = row(&mut rng, kind, 900);
        for selection in [
            Selection::TopK { k: 16 },
            Selection::TopP { p: 0.9, k: 64 },
            Selection::Sample { n: 12, seed: 0 },
            Selection::Dense {},
        ] {
            let keep = keep(selection, WIDE);
            let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
            RowSelector::new(&keep).select(&logits, 7, 0.41, &mut rows, &mut errors).unwrap();
            let tail: Vec<_> = rows.tail.iter().map(|atom| (atom.log_prob, atom.log_weight)).collect();
            let gold = (&rows.gold_log_probs, &rows.gold_ranks);
            text += &format!("{:?}\n", (&rows.class_ids, &rows.log_probs, &rows.log_z, gold, tail));
        }
    }
    let hash = logitcask_core::Fingerprint::of(text.as_bytes()).short();
    assert_eq!((crate::SELECTION_VERSION, hash.as_str()), (2, "d6f11f2a"));
}
