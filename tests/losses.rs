//! Every divergence with every tail policy: the f64 reference is compared with PyTorch, and the tensors with both.

use crate::fixture::keep;
use crate::golden::{self, assert_close, floats, ids};
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::divergence::{
    ForwardKl, Hellinger, JensenShannon, Pearson, Properties, Remainder, ReverseKl, SkewForwardKl, TotalVariation,
    compare, compare_batch,
};
use logitcask_core::math::log_sum_exp;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::temperature::TemperaturePair;
use logitcask_core::{
    Divergence, RowErrors, Selection, SoftRow, SoftRows, Tail, TailPolicy, TargetTransform, TemperedRow,
    TransformedRow, Truncation,
};
use logitcask_model::{DeviceChoice, Sequences};
use logitcask_train::batch::Batch;
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{LossTotals, logits_loss, student};
use logitcask_train::loss::{ChunkLoss, DeviceTargets, LossAtStep, TermAtStep, token_losses};
use logitcask_train::target_batch::TargetBatch;
use logitcask_train::target_spec::TargetSpec;
use serde_json::Value;

pub fn all() -> impl Iterator<Item = Divergence> {
    Divergence::ALL.iter().flat_map(Divergence::tested)
}

/// A reference case: a divergence, a policy and a temperature, on a few rows.
struct Case<'a> {
    what: String,
    term: TermAtStep,
    teacher: Vec<Vec<f64>>,
    student: Vec<Vec<f64>>,
    kept: Vec<Vec<u32>>,
    labels: Vec<u32>,
    loss: &'a Value,
    gradient: &'a Value,
}

fn cases(golden: &Value) -> Vec<Case<'_>> {
    let all = golden.as_array().unwrap();
    let inputs = |group: &Value| all.iter().find(|c| c.get("divergence").is_none() && c["group"] == *group).unwrap();
    let rows = |value: &Value| value.as_array().unwrap().iter().map(floats).collect();
    let of = |case: &'_ Value| {
        let input = inputs(&case["group"]);
        let divergence: Divergence = match case["divergence"].as_str() {
            None => serde_json::from_value(case["divergence"].clone()).unwrap(),
            Some("forward_kl") => ForwardKl {}.into(),
            Some("reverse_kl") => ReverseKl {}.into(),
            Some("jsd") => JensenShannon { beta: 0.5 }.into(),
            Some("skew_forward_kl") => SkewForwardKl { lambda: 0.1 }.into(),
            Some("total_variation") => TotalVariation {}.into(),
            Some("hellinger2") => Hellinger {}.into(),
            Some(other) => panic!("{other}"),
        };
        let tail = serde_json::from_value(case["tail"].clone()).unwrap();
        (input, term(divergence, tail, case["T"].as_f64().unwrap()))
    };
    all.iter()
        .filter(|case| case.get("divergence").is_some())
        .map(|case| {
            let (input, term) = of(case);
            let kept: Vec<Vec<u32>> = input["ids"].as_array().unwrap().iter().map(ids).collect();
            Case {
                what: format!("{} {term:?}", case["group"]),
                term,
                teacher: rows(&input["teacher"]),
                student: rows(&input["student"]),
                labels: input.get("labels").map_or_else(|| kept.iter().map(|ids| ids[0]).collect(), ids),
                kept,
                loss: &case["loss"],
                gradient: &case["grad"],
            }
        })
        .collect()
}

pub fn term(divergence: impl Into<Divergence>, tail: TailPolicy, temperature: f64) -> TermAtStep {
    TermAtStep {
        divergence: divergence.into(),
        tail,
        temperatures: TemperaturePair::same(temperature),
        ..TermAtStep::FORWARD_KL
    }
}

fn log_softmax(z: &[f64]) -> Vec<f64> {
    let log_z = log_sum_exp(z);
    z.iter().map(|z| z - log_z).collect()
}

/// `teacher` as if read from a cache whose tail is exact.
fn target(teacher: &[f64], kept: &[u32], label: u32, term: &TermAtStep) -> TemperedRow {
    let scaled: Vec<f64> = teacher.iter().map(|z| z / term.temperatures.teacher).collect();
    let log_p = log_softmax(&scaled);
    let (inside, outside): (Vec<u32>, Vec<u32>) = (0..teacher.len() as u32).partition(|id| kept.contains(id));
    let sum = |ids: &[u32]| log_sum_exp(&ids.iter().map(|&id| log_p[id as usize]).collect::<Vec<_>>());
    let log_mass = sum(&outside);
    let (rest, base) = match term.tail {
        _ if outside.is_empty() => (Remainder::Nothing, 0.0),
        TailPolicy::Bucket => (Remainder::Bucket { log_mass }, 0.0),
        TailPolicy::Uniform => (Remainder::Uniform { log_mass }, 0.0),
        TailPolicy::Renormalize | TailPolicy::Sampled => (Remainder::Nothing, sum(&inside)),
    };
    TemperedRow {
        class_ids: kept.to_vec(),
        log_probs: kept.iter().map(|&id| log_p[id as usize] - base).collect(),
        counts: vec![1.0; kept.len()],
        rest,
        label: kept.iter().position(|&id| id == label),
        log_z: log_sum_exp(&scaled) + base,
        mean_logit: scaled.iter().sum::<f64>() / scaled.len() as f64,
        sum_of_squares: log_p.iter().map(|lp| (2.0 * lp).exp()).sum(),
    }
}

fn agree_in_f64(cases: &[Case<'_>]) {
    for case in cases {
        for (i, (teacher, student)) in case.teacher.iter().zip(&case.student).enumerate() {
            let target = target(teacher, &case.kept[i], case.labels[i], &case.term);
            let got = compare(case.term.divergence, student, case.term.temperatures.student, &target);
            assert_close(got.loss, case.loss[i].as_f64().unwrap(), 1e-10, 1e-12, &case.what);
            for (g, w) in got.gradient.iter().zip(floats(&case.gradient[i])) {
                assert_close(*g, w, 1e-10, 1e-12, &case.what);
            }
        }
    }
}

#[test]
fn golden_losses_agree_in_f64() {
    let golden = golden::read_from(&golden::reference_folder(), "losses.json");
    let cases = cases(&golden);
    assert!(cases.len() > 100, "{} cases", cases.len());
    agree_in_f64(&cases);
}

#[test]
fn losses_of_whole_rows_agree_with_jax_in_f64() {
    let golden = golden::read("row_losses.json");
    let cases = cases(&golden);
    assert!(cases.len() > 50, "{} cases", cases.len());
    agree_in_f64(&cases);
    for case in golden.as_array().unwrap().iter().filter(|case| case.get("columns").is_some()) {
        let input = golden.as_array().unwrap().iter().find(|c| c["group"] == case["group"]).unwrap();
        let rows = |value: &Value| value.as_array().unwrap().iter().map(floats).collect::<Vec<_>>();
        let (teacher, student) = (rows(&input["teacher"]), rows(&input["student"]));
        let t = case["T"].as_f64().unwrap();
        let everything: Vec<u32> = (0..teacher[0].len() as u32).collect();
        let term = term(Pearson { columns: 0.0 }, TailPolicy::Bucket, t);
        let targets: Vec<TemperedRow> = teacher.iter().map(|row| target(row, &everything, 0, &term)).collect();
        let students: Vec<&[f64]> = student.iter().map(Vec::as_slice).collect();
        // The contribution of the columns, which is the same at every position.
        let at = |columns: f64| compare_batch(Pearson { columns }, &students, t, &targets);
        let n = students.len() as f64;
        for ((with, without), wanted) in at(1.0).iter().zip(at(0.0)).zip(rows(&case["grad"])) {
            assert_close(with.loss - without.loss, case["loss"].as_f64().unwrap(), 1e-10, 1e-12, "columns");
            for ((with, without), wanted) in with.gradient.iter().zip(without.gradient).zip(wanted) {
                assert_close((with - without) / n, wanted, 1e-9, 1e-12, "columns");
            }
        }
    }
}

fn agree_on_tensors(cases: Vec<Case<'_>>) {
    for case in cases {
        // In f32, with one atom for each class of the tail, so that only the rounding of the tensors is measured.
        let numbers: Vec<[Vec<f32>; 2]> = case
            .teacher
            .iter()
            .zip(&case.kept)
            .map(|(teacher, kept)| {
                let log_p: Vec<f32> = log_softmax(teacher).iter().map(|&lp| lp as f32).collect();
                let outside = (0..).zip(&log_p).filter(|(id, _)| !kept.contains(id)).map(|(_, lp)| *lp).collect();
                [kept.iter().map(|&id| log_p[id as usize]).collect(), outside]
            })
            .collect();
        let rows: Vec<SoftRow> = numbers
            .iter()
            .enumerate()
            .map(|(i, [log_probs, joined])| SoftRow {
                class_ids: &case.kept[i],
                log_probs,
                log_z: log_sum_exp(&case.teacher[i]) as f32,
                tail: Tail { reference: 0.5, joined, ..Tail::default() },
                ..SoftRow::default()
            })
            .collect();
        let loss: Vec<f64> = floats(case.loss);
        let gradient: Vec<f64> = (0..loss.len()).flat_map(|row| floats(&case.gradient[row])).collect();
        judge(&rows, &case.labels, &case.student, &case.term, (&loss, &gradient), &case.what);
    }
}

#[test]
fn golden_losses_agree_on_tensors() {
    agree_on_tensors(cases(&golden::read_from(&golden::reference_folder(), "losses.json")));
}

#[test]
fn losses_of_whole_rows_agree_with_jax_on_tensors() {
    agree_on_tensors(cases(&golden::read("row_losses.json")));
}

/// A batch that has only targets.
pub fn batch_of(rows: &[SoftRow], labels: &[u32], spec: &TargetSpec) -> Batch {
    Batch {
        tokens: Vec::new(),
        sequences: Sequences::in_rows(1, rows.len()),
        sample_ids: vec![0],
        sources: Vec::new(),
        positions: (0..rows.len() as u32).collect(),
        gold_ids: labels.to_vec(),
        targets: Some(TargetBatch::of_rows(rows, labels, spec)),
        second: None,
        vectors: None,
    }
}

/// Checks the loss at each position and the gradient, computed by hand and by autodiff.
pub fn judge(
    rows: &[SoftRow],
    labels: &[u32],
    students: &[Vec<f64>],
    term: &TermAtStep,
    wanted: (&[f64], &[f64]),
    what: &str,
) {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let shape = [students.len(), students[0].len()];
    let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
    let logits = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
    let spec = TargetSpec {
        include_sampled: term.tail == TailPolicy::Sampled,
        label: term.divergence.needs_label(),
        stats: term.divergence.needs_logits(),
        ..TargetSpec::default()
    };
    let batch = batch_of(rows, labels, &spec);
    let loss = LossAtStep::teacher(*term);
    let teacher = DeviceTargets::new(batch.targets.as_ref().unwrap(), &device);
    let gold = Tensor::<2, Int>::zeros([shape[0], 1], &device);
    let leaf = logits.clone().autodiff().require_grad();
    let piece = ChunkLoss::new(&loss, &TokenDecisions::default(), Some(&teacher), &leaf);
    let naive = token_losses(&student(leaf.clone(), gold, Some(&teacher), &piece), Some(&teacher), &piece);
    let naive = naive.divergences[0].clone();
    let per_position = naive.clone().try_into_vec_as::<f32>().unwrap();
    for (got, wanted) in per_position.iter().zip(wanted.0) {
        assert_close(f64::from(*got), *wanted, 1e-5, 1e-5, what);
    }
    let scale = term.temperatures.teacher.powi(2);
    let by_autodiff = leaf.grad(&(naive.sum() * scale).backward()).unwrap();
    let mut sums = LossTotals::default();
    let by_hand = logits_loss(logits, &batch, &TokenDecisions::default(), &loss, &mut sums);
    let sum = f64::from(sums.divergences[0].clone().into_scalar::<f32>());
    assert_close(sum, wanted.0.iter().sum(), 1e-5, 1e-5, what);
    assert_close(f64::from(sums.loss.unwrap().into_scalar::<f32>()), sum * scale, 1e-5, 1e-5, what);
    for gradient in [by_autodiff, by_hand] {
        for (got, wanted) in gradient.try_into_vec_as::<f32>().unwrap().iter().zip(wanted.1) {
            assert_close(f64::from(*got) / scale, *wanted, 1e-4, 1e-6, what);
        }
    }
}

/// The label of every cached row. It is kept in some rows and in the tail of others.
pub const LABEL: u32 = 3;

/// A cached row as `term` uses it.
pub fn told(row: &SoftRow, term: &TermAtStep) -> TemperedRow {
    let at = |row: &SoftRow| TemperedRow::of(row, term.temperatures.teacher, term.tail);
    if !term.divergence.needs_label() {
        return at(row);
    }
    let mut edited = TransformedRow::new(row, LABEL, TargetTransform::Teacher {});
    let label = edited.expose_label(LABEL, row.gold.log_prob);
    TemperedRow { label: Some(label), ..at(&edited.view(row)) }
}

/// Cached rows with a student for each. The number of kept classes varies, and some rows are complete.
pub fn cached(selection: Selection, vocab_size: usize) -> (SoftRows, Vec<Vec<f64>>) {
    cached_by(&keep(selection), vocab_size)
}

/// [`cached`] for any truncation.
pub fn cached_by(keep: &Truncation, vocab_size: usize) -> (SoftRows, Vec<Vec<f64>>) {
    let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    let mut students = Vec::new();
    for row in 0..6u64 {
        let mut rng = CounterRng::new("cached losses", &[row]);
        let spread = [0.5, 6.0, 2.0][row as usize % 3];
        let logits: Vec<f32> = (0..vocab_size).map(|_| (spread * rng.normal()) as f32).collect();
        select_reference(&logits, LABEL, keep, rng.uniform(), &mut rows, &mut errors);
        students.push(logits.iter().map(|&z| f64::from((0.6 * f64::from(z) + rng.normal()) as f32)).collect());
    }
    (rows, students)
}

#[test]
fn cached_rows_give_what_the_reference_gives() {
    let selections = [
        (Selection::TopK { k: 5 }, 30),
        (Selection::TopP { p: 0.8, k: 12 }, 30),
        (Selection::TopP { p: 1.0, k: 30 }, 30),
        (Selection::Sample { n: 8, seed: 0 }, 30),
        (Selection::Dense {}, 12),
    ];
    for (selection, vocab_size) in selections {
        let (rows, students) = cached(selection, vocab_size);
        let rows: Vec<SoftRow> = rows.iter().collect();
        for divergence in all() {
            let fits = |policy: &TailPolicy| divergence.check_tail_policy(*policy).is_ok();
            for tail in TailPolicy::ALL.into_iter().filter(fits) {
                // With sampled classes, the classes besides the label and some sums of squares are unknown.
                let is_refused = divergence.needs_label() || divergence.needs_squares();
                if is_refused && matches!(selection, Selection::Sample { .. }) {
                    continue;
                }
                for temperature in [1.0, 2.0] {
                    let config = term(divergence, tail, temperature);
                    let exact: Vec<_> = rows
                        .iter()
                        .zip(&students)
                        .map(|(row, s)| compare(divergence, s, temperature, &told(row, &config)))
                        .collect();
                    let loss: Vec<f64> = exact.iter().map(|e| e.loss).collect();
                    let gradient: Vec<f64> = exact.into_iter().flat_map(|e| e.gradient).collect();
                    let what = format!("{selection:?} {config:?}");
                    judge(&rows, &[LABEL; 6], &students, &config, (&loss, &gradient), &what);
                }
            }
        }
    }
}
