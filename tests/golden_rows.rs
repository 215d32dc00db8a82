//! Rows of real models, compared with numbers that PyTorch computed in f64 (origin: data/golden/README.md).
//!
//! `LOGITCASK_GOLDEN` names another folder with files of the same kind. The names of all tests contain `golden`, and
//! each prints its largest error.

use crate::golden;
use logitcask_core::math::log_sum_exp;
use logitcask_core::quadrature::gauss;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{
    LogProbPrecision, RowErrors, RowSource, Selection, SoftRow, SoftRows, TailPolicy, TailRule, TemperedRow, Truncation,
};
use logitcask_select::RowSelector;
use serde_json::Value;

/// Largest error of log Z within the temperature range, with 20 bytes per row.
const WIDE: (TailRule, f64) = (TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 }, 5e-3);
/// The same with 16 bytes per row.
const NARROW: (TailRule, f64) = (TailRule { lowest_temperature: 1.0, highest_temperature: 4.0, atoms: 4 }, 2e-3);
/// Relative rounding error of f16, which has 11 significant bits: half a step.
const F16: f64 = 1.0 / 2048.0;

struct Row {
    name: String,
    logits: Vec<f32>,
    gold: u32,
    expected: Value,
}

impl Row {
    fn number(&self, key: &str) -> f64 {
        self.expected[key].as_f64().unwrap()
    }

    /// The numbers of the temperatures within a rule's range.
    fn at_temperatures(&self, key: &str, rule: &TailRule) -> Vec<(f64, f64)> {
        let all = self.expected[key].as_object().unwrap().iter();
        let all = all.map(|(t, value)| (t.parse::<f64>().unwrap(), value.as_f64().unwrap()));
        let within: Vec<_> =
            all.filter(|(t, _)| (rule.lowest_temperature..=rule.highest_temperature).contains(t)).collect();
        assert!(within.len() >= 5, "temperatures to compare at");
        within
    }
}

fn rows() -> Vec<Row> {
    let folder = golden::reference_folder();
    let mut rows = Vec::new();
    for model in ["", "_smollm2"] {
        let bytes = std::fs::read(folder.join(format!("rows{model}.safetensors"))).unwrap();
        let text = std::fs::read_to_string(folder.join(format!("expected_rows{model}.json"))).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let teacher = tensors.tensor("teacher").unwrap();
        let numbers = teacher.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let numbers: Vec<f32> = numbers.collect();
        let expected = expected["rows"].as_array().unwrap();
        assert_eq!(expected.len(), teacher.shape()[0]);
        for (i, (logits, expected)) in numbers.chunks_exact(teacher.shape()[1]).zip(expected).enumerate() {
            let (name, gold) = (format!("rows{model} {i}"), expected["gold_id"].as_u64().unwrap() as u32);
            rows.push(Row { name, logits: logits.to_vec(), gold, expected: expected.clone() });
        }
    }
    assert!(!rows.is_empty());
    rows
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn keep(selection: Selection, tail: TailRule) -> Truncation {
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: Some(tail),
        padding: 0,
        source: RowSource::FULL,
    }
}

/// The row from the reference and from the fast selection, with the errors that they report.
fn both(row: &Row, keep: &Truncation, sampling_offset: f64) -> [(&'static str, SoftRows, RowErrors); 2] {
    let new = || (SoftRows::new(keep), RowErrors::new(keep));
    let ((mut slow, mut slow_errors), (mut fast, mut fast_errors)) = (new(), new());
    select_reference(&row.logits, row.gold, keep, sampling_offset, &mut slow, &mut slow_errors);
    RowSelector::new(keep).select(&row.logits, row.gold, sampling_offset, &mut fast, &mut fast_errors).unwrap();
    for rows in [&slow, &fast] {
        rows.check(keep, &[row.gold], row.logits.len() as u32).unwrap();
    }
    [("reference", slow, slow_errors), ("fast", fast, fast_errors)]
}

/// A largest error, and its place.
#[derive(Default)]
struct Worst(f64, String);

impl Worst {
    fn see(&mut self, error: f64, place: impl Fn() -> String) {
        assert!(!error.is_nan(), "{}", place());
        if error.abs() >= self.0 {
            *self = Self(error.abs(), place());
        }
    }

    fn within(&self, bound: f64, what: &str) {
        eprintln!("{what}: worst {:.2e}, at most {bound:.1e} ({})", self.0, self.1);
        assert!(self.0 <= bound, "{what}: {} > {bound} at {}", self.0, self.1);
    }
}

#[test]
fn golden_rows_keep_the_largest_classes_and_the_label() {
    let (mut values, mut log_z) = (Worst::default(), Worst::default());
    for row in rows() {
        let wanted_ids = ids(&row.expected["ids"]);
        let wanted = floats(&row.expected["log_probs"]);
        let wanted_z = row.number("log_z");
        for (who, rows, _) in both(&row, &keep(Selection::TopK { k: wanted_ids.len() as u32 }, WIDE.0), 0.0) {
            let kept = rows.iter().next().unwrap();
            let place = || format!("{} {who}", row.name);
            let mut sorted = (kept.class_ids.to_vec(), wanted_ids.clone());
            sorted.0.sort_unstable();
            sorted.1.sort_unstable();
            assert_eq!(sorted.0, sorted.1, "{}", place());
            for (&id, &lp) in kept.class_ids.iter().zip(kept.log_probs) {
                let wanted = wanted[wanted_ids.iter().position(|&other| other == id).unwrap()];
                values.see((f64::from(lp) - wanted) / wanted.abs().max(1e-3), place);
            }
            log_z.see((f64::from(kept.log_z) - wanted_z) / wanted_z.abs().max(1.0), place);
            let gold = row.number("gold_log_prob");
            values.see((f64::from(kept.gold.log_prob) - gold) / gold.abs().max(1e-3), place);
            assert_eq!(u64::from(kept.gold.rank), row.expected["gold_rank"].as_u64().unwrap(), "{}", place());
        }
    }
    // The rounding of values, and of the last bits of log_z.
    values.within(F16 + 1e-5, "log-probabilities as f16, relatively");
    log_z.within(1e-6, "log_z, relatively");
}

#[test]
fn golden_gauss_rule_is_that_of_another_program() {
    let (mut points, mut weights, mut partition) = (Worst::default(), Worst::default(), Worst::default());
    let b0 = 0.4;
    for row in rows() {
        let kept = ids(&row.expected["ids"]);
        let outside = row.logits.iter().zip(0u32..).filter(|(_, id)| !kept.contains(id));
        let tail: Vec<f64> = outside.map(|(&z, _)| f64::from(z)).collect();
        let top = tail.iter().copied().fold(f64::MIN, f64::max);
        let mass: Vec<f64> = tail.iter().map(|z| (b0 * (z - top)).exp()).collect();
        let rule = gauss(&tail, &mass, 5);
        let wanted = &row.expected["gauss_m5_b04"];
        let place = || row.name.clone();
        assert_eq!(rule.len(), 5);
        for ((x, w), (wanted_x, wanted_w)) in rule.iter().zip(floats(&wanted["x"]).iter().zip(floats(&wanted["log_w"])))
        {
            points.see(x - wanted_x, place);
            weights.see(w.ln() + b0 * top - wanted_w, place);
        }
        for (t, wanted) in wanted["log_z_tail_at"].as_object().unwrap() {
            let t: f64 = t.parse().unwrap();
            let terms: Vec<f64> = rule.iter().map(|(x, w)| w.ln() + b0 * top + (1.0 / t - b0) * x).collect();
            partition.see(log_sum_exp(&terms) - wanted.as_f64().unwrap(), place);
        }
    }
    points.within(1e-6, "points");
    weights.within(1e-6, "log weights");
    partition.within(1e-6, "log Z of the tail");
}

/// A quantity of a kept row at a temperature.
type Answer = fn(SoftRow<'_>, f64) -> f64;

/// Checks the quantities that follow from log Z: tail mass, entropy and sum of squares, and also mean and standard
/// deviation of the logits if the rule's highest temperature is large.
fn golden_answers((rule, promise): (TailRule, f64), [mass, entropy, squares]: [f64; 3], moments: Option<[f64; 2]>) {
    let mut worst: [Worst; 8] = Default::default();
    for row in rows() {
        for (who, rows, errors) in both(&row, &keep(Selection::TopK { k: 64 }, rule), 0.0) {
            let kept = rows.iter().next().unwrap();
            let [log_z, tail, at_mass, at_entropy, at_squares, _, _, counted] = &mut worst;
            let compare = |key: &str, worst: &mut Worst, is_relative: bool, answer: Answer| {
                for (t, wanted) in row.at_temperatures(key, &rule) {
                    let error = answer(kept, t) - wanted;
                    worst.see(if is_relative { error / wanted } else { error }, || {
                        format!("{} {who} T = {t}", row.name)
                    });
                }
            };
            compare("log_z_at", log_z, false, |row, t| row.log_z_at(t));
            compare("log_z_tail_at", tail, false, |row, t| row.tail.log_partition(1.0 / t) + f64::from(row.log_z) / t);
            compare("tail_mass_at", at_mass, false, |row, t| row.tail_mass(t));
            compare("entropy_at", at_entropy, false, |row, t| row.entropy(t));
            compare("sum_p2_at", at_squares, true, |row, t| row.sum_of_squares(t));
            let written = errors.log_z.iter().map(|error| error.worst()).fold(0.0, f64::max);
            counted.see(written, || format!("{} {who}", row.name));
        }
        for selection in [Selection::TopK { k: 64 }, Selection::Sample { n: 32, seed: 0 }] {
            for (who, rows, _) in both(&row, &keep(selection, rule), 0.3) {
                let (got_mean, got_std) = rows.iter().next().unwrap().logit_moments(0.0);
                worst[5].see(got_mean - row.number("logit_mean"), || format!("{} {who} {selection:?}", row.name));
                worst[6].see(got_std - row.number("logit_std"), || format!("{} {who} {selection:?}", row.name));
            }
        }
    }
    let name = format!("{} atoms", rule.atoms);
    let [log_z, tail, at_mass, at_entropy, at_squares, at_mean, at_std, counted] = worst;
    log_z.within(promise, &format!("{name}, log Z"));
    counted.within(promise, &format!("{name}, log Z as the writer counts it, between the temperatures too"));
    tail.within(1.5 * promise, &format!("{name}, log Z of the tail"));
    at_mass.within(mass, &format!("{name}, tail mass"));
    at_entropy.within(entropy, &format!("{name}, entropy"));
    at_squares.within(squares, &format!("{name}, sum of squares, relatively"));
    if let Some([mean, std]) = moments {
        at_mean.within(mean, &format!("{name}, mean of the logits"));
        at_std.within(std, &format!("{name}, their standard deviation"));
    }
}

#[test]
fn golden_rows_answer_for_every_temperature_with_20_bytes() {
    golden_answers(WIDE, [5e-4, 8e-3, 4e-3], Some([0.5, 0.8]));
}

#[test]
fn golden_rows_answer_for_every_temperature_with_16_bytes() {
    golden_answers(NARROW, [7e-4, 1e-2, 4e-3], None);
}

#[test]
fn golden_nucleus_has_the_size_another_program_found() {
    for row in rows() {
        let wanted = row.expected["top_p95_cap100"].as_u64().unwrap() as usize;
        for (who, rows, _) in both(&row, &keep(Selection::TopP { p: 0.95, k: 100 }, WIDE.0), 0.0) {
            assert_eq!(rows.class_ids.len(), wanted, "{} {who}", row.name);
        }
    }
}

#[test]
fn golden_sample_has_the_threshold_another_program_found() {
    let (mut threshold, mut weight) = (Worst::default(), Worst::default());
    let n = 32;
    for row in rows() {
        let expected = &row.expected["fixed_size_sample_32"];
        let mut wanted = ids(&expected["always_kept"]);
        wanted.sort_unstable();
        let tau = expected["tau"].as_f64().unwrap();
        // In f64: the mass outside the classes kept with certainty, in equal shares.
        let z: Vec<f64> = row.logits.iter().map(|&z| f64::from(z)).collect();
        let log_z = log_sum_exp(&z);
        let sampling_offset = CounterRng::new("golden sample", &[u64::from(row.gold)]).uniform();
        for (who, rows, _) in both(&row, &keep(Selection::Sample { n, seed: 0 }, WIDE.0), sampling_offset) {
            let kept = rows.iter().next().unwrap();
            let sure = kept.certain().len();
            let mut got = kept.class_ids[..sure].to_vec();
            got.sort_unstable();
            assert_eq!((&got, kept.class_ids.len()), (&wanted, n as usize), "{} {who}", row.name);
            let outside = (0u32..).zip(&z).filter(|(id, _)| got.binary_search(id).is_err());
            let mass: f64 = outside.map(|(_, z)| (z - log_z).exp()).sum();
            threshold.see(mass / kept.drawn as f64 / tau - 1.0, || format!("{} {who}", row.name));
            let target = TemperedRow::of(&kept, 1.0, TailPolicy::Sampled);
            for (lp, count) in target.log_probs.iter().zip(&target.counts).skip(sure) {
                weight.see(lp.exp() * count / tau - 1.0, || format!("{} {who}", row.name));
            }
        }
    }
    threshold.within(1e-9, "tau from the f64 row, relatively");
    // The tail atoms and the classes kept with certainty are rounded.
    weight.within(5e-3, "weight of a drawn class against tau, relatively");
}

#[test]
fn golden_rows_outdo_one_bucket_at_every_temperature() {
    // The approximation without tail atoms: the remaining mass is a single class, also at other temperatures.
    for t in [1.5, 2.0, 4.0] {
        let (mut ours, mut bucket, mut mean, mut outside) = (Worst::default(), Worst::default(), 0.0, 0.0);
        let all = rows();
        for row in &all {
            let scaled: Vec<f64> = row.logits.iter().map(|&z| f64::from(z) / t).collect();
            let truth = log_sum_exp(&scaled);
            let [(_, rows, _), _] = both(row, &keep(Selection::TopK { k: 64 }, WIDE.0), 0.0);
            let kept = rows.iter().next().unwrap();
            ours.see(kept.log_z_at(t) - truth, || row.name.clone());
            let left = (1.0 - kept.kept_mass()).max(1e-9).ln();
            let terms = kept.log_probs.iter().map(|&lp| f64::from(lp) / t).chain([left / t]);
            let error = log_sum_exp(&terms.collect::<Vec<_>>()) + f64::from(kept.log_z) / t - truth;
            bucket.see(error, || row.name.clone());
            mean += error.abs() / all.len() as f64;
            outside += kept.tail_mass(t) / all.len() as f64;
        }
        eprintln!(
            "T = {t}: atoms off by {:.1e} at worst; one bucket by {:.2}, {mean:.2} on average; {outside:.2} of the \
             probability is outside",
            ours.0, bucket.0
        );
        assert!(bucket.0 > 100.0 * ours.0);
    }
}
