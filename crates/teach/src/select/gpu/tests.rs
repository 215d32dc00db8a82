//! Compares summaries computed on a wgpu device (a real GPU or a software one) with selection in memory. Without a
//! device the tests are skipped.
#![allow(clippy::print_stderr)]

#[path = "../../../../../tests/skips.rs"]
mod skips;

use super::super::select_rows;
use super::*;
use burn::tensor::DType;
use logitcask_core::rng::CounterRng;
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{LogProbPrecision, RowSource, Selection, TailRule};
use logitcask_model::{Device, DeviceChoice};

const RULE: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };

/// The device for a test, which is skipped if there is none.
fn device(test: &str) -> Option<Device> {
    match DeviceChoice::Wgpu.open() {
        Ok((device, name)) => {
            eprintln!("on {name}");
            Some(device)
        }
        Err(error) => {
            skips::skip(&format!("select::gpu::{test}"), &error.to_string());
            None
        }
    }
}

fn keep(selection: Selection) -> Truncation {
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: Some(RULE),
        padding: 0,
        source: RowSource::FULL,
    }
}

/// Rows like those of a language model, every third with many ties, and labels inside and outside the largest classes.
fn rows(vocab: usize, count: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = CounterRng::new("gpu selection test", &[vocab as u64]);
    let mut logits = Vec::with_capacity(vocab * count);
    let mut gold = Vec::new();
    for i in 0..count {
        let row: Vec<f32> = (0..vocab)
            .map(|_| {
                let z = 2.2 * rng.normal();
                let z = if z > 5.0 { 2.0 * z } else { z } as f32;
                if i % 3 == 1 { (z * 2.0).round() / 2.0 } else { z }
            })
            .collect();
        let max = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        gold.push(if i % 2 == 0 { max as u32 } else { rng.below(vocab as u64) as u32 });
        logits.extend(row);
    }
    (logits, gold)
}

/// Appends padding to each row: its i-th number in row j is `value(j, i)`.
fn pad(logits: &[f32], vocab: usize, padding: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let rows = logits.chunks(vocab).enumerate();
    rows.flat_map(|(j, row)| row.iter().copied().chain((0..padding).map(|i| value(j, i)).collect::<Vec<_>>())).collect()
}

fn tensor(logits: &[f32], vocab: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(logits.to_vec(), [logits.len() / vocab, vocab]), device)
}

/// Compares selection on the device with selection in memory and returns how many rows their summaries decide.
fn compare(on_device: &Tensor<2>, gold: &[u32], keep: &Truncation) -> usize {
    let (sampling_offsets, vocab) = (vec![0.3; gold.len()], on_device.dims()[1]);
    let logits = read(on_device.clone()).unwrap();
    let (slow, slow_errors) = select_rows(&logits, gold, &sampling_offsets, keep, vocab).unwrap();
    let (fast, errors) = select_on_device(on_device.clone(), gold, &sampling_offsets, keep).unwrap();
    let [fast, slow] = [&fast, &slow].map(|parts| parts.iter().flat_map(SoftRows::iter).collect::<Vec<_>>());
    assert_eq!(fast.len(), slow.len());
    for (i, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
        let context = format!("{vocab} classes, {keep:?}, row {i}");
        let sorted = |ids: &[u32]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(fast.class_ids), sorted(slow.class_ids), "{context}");
        assert_eq!(fast.gold.rank, slow.gold.rank, "{context}");
        let tolerance = 1e-5 + 1.2e-7 * slow.log_z.abs();
        assert!((fast.log_z - slow.log_z).abs() < tolerance, "{context}: log Z {} {}", fast.log_z, slow.log_z);
        // One step of f16, if log Z differs in its last bits.
        assert!((fast.gold.log_prob - slow.gold.log_prob).abs() <= slow.gold.log_prob.abs() / 1000.0, "{context}");
        for b in keep.tail.iter().flat_map(TailRule::grid) {
            let (fast, slow) = (fast.log_partition(b), slow.log_partition(b));
            assert!(
                (fast - slow).abs() < 1e-4 + ATOM_STEP * (1.0 + (b - RULE.reference()).abs()),
                "{context}, b = {b}: {fast} {slow}"
            );
        }
    }
    for (fast, slow) in errors.log_z.iter().zip(&slow_errors.log_z) {
        // An atom between two steps may be rounded to either, depending on the last bit.
        assert!((fast.worst() - slow.worst()).abs() < 2.0 * ATOM_STEP && (fast.mean() - slow.mean()).abs() < ATOM_STEP);
    }
    assert!((errors.codec.worst() - slow_errors.codec.worst()).abs() < 1e-4);
    let spec = summary_spec(keep, vocab);
    spec.map_or(0, |spec| {
        decode_rows(on_device, gold, keep, spec).unwrap().iter().filter(|row| **row != Ok(None)).count()
    })
}

#[test]
fn rows_on_a_device_give_what_they_give_in_memory() {
    let Some(device) = device("rows_on_a_device_give_what_they_give_in_memory") else { return };
    for (vocab, count) in [(1_000, 7), (4_097, 7), (32_000, 5), (262_144, 2)] {
        let (logits, gold) = rows(vocab, count);
        let on_device = tensor(&logits, vocab, &device);
        for k in [1, 5, 64, 512] {
            for selection in [Selection::TopK { k }, Selection::TopP { p: 0.9, k }] {
                let decided = compare(&on_device, &gold, &keep(selection));
                // A summary with half of the classes is no shorter than the row.
                assert!(decided == count || (vocab, k) == (1_000, 512), "{decided} of {count}");
            }
        }
    }
}

/// The content of a row's summary by definition, in f64: header, pairs ordered by id, and sums.
fn reference_summary(
    row: &[f32],
    gold: usize,
    spec: SummarySpec,
) -> ([u32; layout::HEADER], Vec<(u32, f32)>, Vec<f64>) {
    let classes = row.len() - spec.padding;
    let mut ids: Vec<u32> = (0..classes as u32).collect();
    ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    let rank = ids.iter().position(|&id| id as usize == gold).unwrap() as u32;
    let (near, far) = ids.split_at(spec.count);
    let outside = || far.iter().map(|&id| row[id as usize]).chain(row[classes..].iter().copied());
    let bound = row[classes..].iter().copied().fold(row[near[spec.count - 1] as usize], f32::max);
    let sum = |b: f64| outside().map(|z| (b * (f64::from(z) - f64::from(bound))).exp()).sum::<f64>();
    let grid = (0..spec.powers).map(|j| spec.grid.0 + j as f64 * spec.grid.1);
    let sums = grid.chain([1.0]).map(sum).collect();
    let mut pairs: Vec<(u32, f32)> = near.iter().map(|&id| (id, row[id as usize])).collect();
    pairs.sort_unstable_by_key(|pair| pair.0);
    ([0, rank, row[gold].to_bits(), bound.to_bits()], pairs, sums)
}

#[test]
fn summaries_count_exactly_and_sum_closely() {
    let Some(device) = device("summaries_count_exactly_and_sum_closely") else { return };
    let vocab = 5_003;
    let (mut logits, mut gold) = rows(vocab, 3);
    // All equal, two values, masked classes, values across the range of f32, and steps far smaller than the logits.
    let odd: [&dyn Fn(usize) -> f32; 5] = [
        &|_| -3.5,
        &|i| if i % 2 == 0 { 1.0 } else { -1.0 },
        &|i| if i % 7 > 2 { -1e30 } else { (i % 1000) as f32 / 100.0 },
        &|i| if i % 2 == 0 { i as f32 } else { f32::MIN },
        &|i| 1000.0 + (i * 7 % 5) as f32 * 6.1e-5,
    ];
    for value in odd {
        gold.push(gold.len() as u32 * 601);
        logits.extend((0..vocab).map(value));
    }
    // In the second row the padding is above all classes.
    let padded: Vec<f32> =
        pad(&logits, vocab, 300, |j, i| if j == 1 { 90.0 - i as f32 } else { (i % 90) as f32 / 9.0 });
    for (count, padding) in [(2, 0), (65, 0), (700, 0), (2, 300), (65, 300), (700, 300)] {
        let (logits, vocab) = if padding == 0 { (&logits, vocab) } else { (&padded, vocab + padding) };
        let (low, distance) = RULE.knots();
        let spec =
            SummarySpec { count, always_kept: 0, padding, powers: RULE.grid().len(), grid: (low, distance / 2.0) };
        let ids = indices(gold.iter().map(|&id| id as usize), &device);
        let words = row_summaries(tensor(logits, vocab, &device), ids, &spec).try_into_vec_as::<u32>().unwrap();
        for (i, (words, row)) in words.chunks(launch::words(&spec)).zip(logits.chunks(vocab)).enumerate() {
            let (head, pairs, sums) = reference_summary(row, gold[i] as usize, spec);
            let context = format!("row {i}, {count} classes, {padding} of padding");
            let (got, words) = words.split_at(layout::HEADER);
            assert_eq!(got, head, "{context}");
            let (bits, far) = words.split_at(2 * count);
            let mut got: Vec<_> = (0..count).map(|j| (bits[j], f32::from_bits(bits[count + j]))).collect();
            got.sort_unstable_by_key(|pair| pair.0);
            assert_eq!(got, pairs, "{context}");
            for (j, (got, wanted)) in far.chunks(2).zip(&sums).enumerate() {
                let got: f64 = got.iter().map(|&bits| f64::from(f32::from_bits(bits))).sum();
                assert!((got - wanted).abs() <= 1e-5 * wanted, "{context}, sum {j}: {got} {wanted}");
            }
        }
    }
}

#[test]
fn sums_have_twice_the_digits_of_f32() {
    let Some(device) = device("sums_have_twice_the_digits_of_f32") else { return };
    let (low, distance) = RULE.knots();
    let spec =
        SummarySpec { count: 2, always_kept: 0, padding: 0, powers: RULE.grid().len(), grid: (low, distance / 2.0) };
    for z in [-0.3, -1.7, -2.5, -6.3] {
        // Seven equal classes follow the largest ones, and all others are negligible: the sums form a geometric series.
        let row: Vec<f32> = (0..3_000).map(|i| [0.0, z, -1e30][usize::from(i > 1) + usize::from(i > 8)]).collect();
        let words = row_summaries(tensor(&row, 3_000, &device), indices([0].into_iter(), &device), &spec);
        let words = words.try_into_vec_as::<u32>().unwrap();
        let parts: Vec<f64> =
            words[layout::HEADER + 2 * spec.count..].iter().map(|&bits| f64::from(f32::from_bits(bits))).collect();
        let sums: Vec<f64> = parts.chunks(2).take(spec.powers).map(|pair| pair[0] + pair[1]).collect();
        for (j, pair) in sums.windows(2).enumerate() {
            let error = pair[1] / pair[0] * sums[0] / sums[1] - 1.0;
            assert!(error.abs() < 1e-12, "z = {z}: sum {j} is off by {error:e}");
        }
    }
}

#[test]
fn any_tail_rule_and_always_kept_classes_are_decoded() {
    let Some(device) = device("any_tail_rule_and_always_kept_classes_are_decoded") else { return };
    let (logits, gold) = rows(3_001, 6);
    let on_device = tensor(&logits, 3_001, &device);
    let top = keep(Selection::TopK { k: 8 });
    let always = Truncation { always_keep: vec![7, 90, 3_000], ..top.clone() };
    let nucleus = Truncation { selection: Selection::TopP { p: 0.7, k: 30 }, ..always.clone() };
    for keep in [always, nucleus] {
        assert_eq!(compare(&on_device, &gold, &keep), 6);
    }
    for (lowest_temperature, highest_temperature, atoms) in [(0.75, 10.0, 1), (1.0, 4.0, 4), (0.5, 20.0, 6)] {
        let tail = Some(TailRule { lowest_temperature, highest_temperature, atoms });
        assert_eq!(compare(&on_device, &gold, &Truncation { tail, ..top.clone() }), 6, "{tail:?}");
    }
    // Temperature ranges that are too wide for the number of atoms, so that rounding decides where the points lie. Rows
    // where this shows are read back.
    for (lowest_temperature, highest_temperature, atoms) in [(0.05, 1000.0, 7), (0.05, 1000.0, 3), (1.0, 4.0, 8)] {
        let tail = Some(TailRule { lowest_temperature, highest_temperature, atoms });
        compare(&on_device, &gold, &Truncation { tail, ..top.clone() });
    }
    if device.supports_dtype(DType::F16) {
        // Rounded here: of a cast and a cast back, fused into one kernel, NVIDIA's compiler makes no rounding.
        let rounded: Vec<f32> = logits.iter().map(|&z| half::f16::from_f32(z).to_f32()).collect();
        assert_eq!(compare(&tensor(&rounded, 3_001, &device).cast(DType::F16), &gold, &top), 6);
    }
}

#[test]
fn padding_is_in_the_sums_and_never_a_class() {
    let Some(device) = device("padding_is_in_the_sums_and_never_a_class") else { return };
    let mut rng = CounterRng::new("gpu padding test", &[]);
    let noise: Vec<f32> = (0..6 * 700).map(|_| 2.2 * rng.normal() as f32).collect();
    for (vocab, padding) in [(3_001, 1), (3_001, 100), (5_000, 700), (100, 700)] {
        let (logits, gold) = rows(vocab, 6);
        // Padding far below all classes, among them, near the largest, far above all, and beyond the range of
        // exponentials in f64.
        for level in [-200.0, 0.0, 15.0, 40.0, 1_000.0] {
            let padded = pad(&logits, vocab, padding, |j, i| level + noise[j * 700 + i]);
            let on_device = tensor(&padded, vocab + padding, &device);
            for always_keep in [vec![], vec![7, 90, vocab as u32 - 1]] {
                for selection in [Selection::TopK { k: 8 }, Selection::TopP { p: 0.6, k: 30 }] {
                    let always_keep = always_keep.clone();
                    let keep = Truncation { always_keep, padding: padding as u32, ..keep(selection) };
                    assert_eq!(compare(&on_device, &gold, &keep), 6, "{keep:?} at {level}");
                }
            }
        }
    }
    // All classes but one are kept; the tail consists of that class and the padding.
    let (logits, gold) = rows(40, 6);
    let padded = pad(&logits, 40, 700, |j, i| noise[j * 700 + i]);
    let keep = Truncation { always_keep: vec![3, 5, 39], padding: 700, ..keep(Selection::TopK { k: 36 }) };
    assert_eq!(compare(&tensor(&padded, 740, &device), &gold, &keep), 6);
}

#[test]
fn padding_that_ties_with_classes_is_none_of_them() {
    let Some(device) = device("padding_that_ties_with_classes_is_none_of_them") else { return };
    // The padding ties with the last ten classes; five classes are above it and the others below.
    let value = |i: usize| match i {
        300..305 => 3.0 + i as f32 / 1000.0,
        1_990.. => 1.5,
        _ => -1.0 - (i % 50) as f32 / 10.0,
    };
    let classes: Vec<f32> = (0..4 * 2_000).map(|i| value(i % 2_000)).collect();
    let padded = pad(&classes, 2_000, 64, |_, _| 1.5);
    let on_device = tensor(&padded, 2_064, &device);
    // Of the ten tied classes, this keeps four, none, nine, and all ten, plus the always-kept one if there is one.
    for k in [9, 5, 14, 15] {
        for always_keep in [vec![], vec![1_998]] {
            let keep = Truncation { always_keep, padding: 64, ..keep(Selection::TopK { k }) };
            assert_eq!(compare(&on_device, &[1_999, 1_990, 302, 0], &keep), 4, "{keep:?}");
        }
    }
}

#[test]
fn rows_that_their_summary_does_not_decide_are_fetched() {
    let Some(device) = device("rows_that_their_summary_does_not_decide_are_fetched") else { return };
    let (logits, gold) = rows(3_001, 6);
    let on_device = tensor(&logits, 3_001, &device);
    let dense = Truncation { tail: None, ..keep(Selection::Dense {}) };
    for keep in [keep(Selection::Sample { n: 9, seed: 0 }), dense] {
        assert_eq!(compare(&on_device, &gold, &keep), 0);
    }
    let few = tensor(&logits[..300 * 6], 300, &device);
    assert_eq!(compare(&few, &[3; 6], &keep(Selection::TopK { k: 64 })), 0);
    // Class 0 of the middle row has a probability of exactly two thirds, as far as f32 can represent that.
    let mut close = logits[..3 * 3_001].to_vec();
    close[3_001..2 * 3_001].fill(-100.0);
    (close[3_001], close[3_002]) = (2.0f32.ln(), 0.0);
    let nucleus = keep(Selection::TopP { p: 2.0 / 3.0, k: 8 });
    assert_eq!(compare(&tensor(&close, 3_001, &device), &[0; 3], &nucleus), 2);
}

#[test]
fn rows_that_cannot_be_kept_are_refused_and_the_first_named() {
    let Some(device) = device("rows_that_cannot_be_kept_are_refused_and_the_first_named") else { return };
    let (mut logits, gold) = rows(4_097, 4);
    let keep = keep(Selection::TopK { k: 5 });
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        logits[2 * 4_097 + 4_096] = bad;
        logits[3 * 4_097] = bad;
        let got = select_on_device(tensor(&logits, 4_097, &device), &gold, &[0.0; 4], &keep);
        assert_eq!(got.err(), Some(SelectProblem::Row(2, RowProblem::NotFinite)));
    }
    // Padding that is not finite is refused too, based on the summary alone.
    let (whole, gold) = rows(4_097, 4);
    let padded_keep = Truncation { padding: 300, ..keep.clone() };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 299] {
            let padded = pad(&whole, 4_097, 300, |j, i| if j == 2 && i == at { bad } else { 0.5 });
            let on_device = tensor(&padded, 4_397, &device);
            let got = decode_rows(&on_device, &gold, &padded_keep, summary_spec(&padded_keep, 4_397).unwrap()).unwrap();
            let problems: Vec<_> = got.into_iter().map(|row| row.map(|kept| kept.is_some())).collect();
            assert_eq!(problems, [Ok(true), Ok(true), Err(RowProblem::NotFinite), Ok(true)], "{bad} at {at}");
        }
    }
    // This logit is finite but exceeds what selection in memory accepts.
    let far = pad(&whole, 4_097, 300, |j, i| if (j, i) == (1, 7) { 3e38 } else { 0.5 });
    let got = select_on_device(tensor(&far, 4_397, &device), &gold, &[0.0; 4], &padded_keep);
    assert_eq!(got.err(), Some(SelectProblem::Row(1, RowProblem::NotFinite)));
    logits[4_097 + 9] = -1e6;
    let got = select_on_device(tensor(&logits, 4_097, &device), &[0, 9, 0, 0], &[0.0; 4], &keep);
    assert!(matches!(got.err(), Some(SelectProblem::Row(1, RowProblem::TooSmall { class_id: 9, .. }))));
}
