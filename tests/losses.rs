//! Every divergence under every tail policy: the f64 reference against PyTorch, the tensors against both.

use crate::fixture::keep;
use crate::golden::{self, assert_close, floats, ids};
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::divergence::{Rest, compare};
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::soft_row::log_sum_exp;
use logitcask_core::{
    Curve, Divergence, Origin, RowErrors, Sample, SampleId, Selection, SoftRow, SoftRows, Tail, TailPolicy, Target,
};
use logitcask_model::DeviceChoice;
use logitcask_train::batch::Batch;
use logitcask_train::loss::head::{head_loss, logits_loss, student};
use logitcask_train::loss::{LossConfig, Reading, StepLoss, Teacher, losses};
use logitcask_train::targets::SoftTargets;
use serde_json::Value;

const ALL: [Divergence; 8] = [
    Divergence::ForwardKl {},
    Divergence::ReverseKl {},
    Divergence::JensenShannon { beta: 0.5 },
    Divergence::SkewForwardKl { lambda: 0.1 },
    Divergence::SkewReverseKl { lambda: 0.1 },
    Divergence::TotalVariation {},
    Divergence::Hellinger {},
    Divergence::AlphaBeta { alpha: 0.2, beta: 0.7 },
];

const POLICIES: [TailPolicy; 4] =
    [TailPolicy::Bucket, TailPolicy::Renormalize, TailPolicy::Uniform, TailPolicy::Sampled];

/// One reference case: a divergence, a policy and a temperature over a few rows.
struct Case<'a> {
    what: String,
    config: StepLoss,
    teacher: Vec<Vec<f64>>,
    student: Vec<Vec<f64>>,
    kept: Vec<Vec<u32>>,
    loss: &'a Value,
    gradient: &'a Value,
}

fn cases(golden: &Value) -> Vec<Case<'_>> {
    let all = golden.as_array().unwrap();
    let inputs = |group: &Value| all.iter().find(|c| c.get("divergence").is_none() && c["group"] == *group).unwrap();
    let rows = |value: &Value| value.as_array().unwrap().iter().map(floats).collect();
    let of = |case: &'_ Value| {
        let input = inputs(&case["group"]);
        let divergence = match case["divergence"].as_str().unwrap() {
            "forward_kl" => Divergence::ForwardKl {},
            "reverse_kl" => Divergence::ReverseKl {},
            "jsd" => Divergence::JensenShannon { beta: 0.5 },
            "skew_forward_kl" => Divergence::SkewForwardKl { lambda: 0.1 },
            "total_variation" => Divergence::TotalVariation {},
            "hellinger2" => Divergence::Hellinger {},
            other => panic!("{other}"),
        };
        let tail = serde_json::from_value(case["tail"].clone()).unwrap();
        let temperature = case["T"].as_f64().unwrap();
        (input, StepLoss { divergence, tail, temperature, ..StepLoss::FORWARD_KL })
    };
    all.iter()
        .filter(|case| case.get("divergence").is_some())
        .map(|case| {
            let (input, config) = of(case);
            Case {
                what: format!("{} {config:?}", case["group"]),
                config,
                teacher: rows(&input["teacher"]),
                student: rows(&input["student"]),
                kept: input["ids"].as_array().unwrap().iter().map(ids).collect(),
                loss: &case["loss"],
                gradient: &case["grad"],
            }
        })
        .collect()
}

fn log_softmax(z: &[f64]) -> Vec<f64> {
    let log_z = log_sum_exp(z);
    z.iter().map(|z| z - log_z).collect()
}

/// `teacher` as it would be read from a cache that knows the classes outside exactly.
fn target(teacher: &[f64], kept: &[u32], config: &StepLoss) -> Target {
    let log_p = log_softmax(&teacher.iter().map(|z| z / config.temperature).collect::<Vec<_>>());
    let (inside, outside): (Vec<u32>, Vec<u32>) = (0..teacher.len() as u32).partition(|id| kept.contains(id));
    let sum = |ids: &[u32]| log_sum_exp(&ids.iter().map(|&id| log_p[id as usize]).collect::<Vec<_>>());
    let log_mass = sum(&outside);
    let (rest, base) = match config.tail {
        _ if outside.is_empty() => (Rest::Nothing, 0.0),
        TailPolicy::Bucket => (Rest::Bucket { log_mass }, 0.0),
        TailPolicy::Uniform => (Rest::Uniform { log_mass }, 0.0),
        TailPolicy::Renormalize | TailPolicy::Sampled => (Rest::Nothing, sum(&inside)),
    };
    let log_probs = kept.iter().map(|&id| log_p[id as usize] - base).collect();
    Target { class_ids: kept.to_vec(), log_probs, counts: vec![1.0; kept.len()], rest }
}

#[test]
fn golden_losses_agree_in_f64() {
    let golden = golden::read_from(&golden::reference_folder(), "losses.json");
    let cases = cases(&golden);
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in cases {
        for (i, (teacher, student)) in case.teacher.iter().zip(&case.student).enumerate() {
            let target = target(teacher, &case.kept[i], &case.config);
            let got = compare(case.config.divergence, student, case.config.temperature, &target);
            assert_close(got.loss, case.loss[i].as_f64().unwrap(), 1e-10, 1e-12, &case.what);
            for (g, w) in got.gradient.iter().zip(floats(&case.gradient[i])) {
                assert_close(*g, w, 1e-10, 1e-12, &case.what);
            }
        }
    }
}

#[test]
fn golden_losses_agree_on_tensors() {
    let golden = golden::read_from(&golden::reference_folder(), "losses.json");
    for case in cases(&golden) {
        // In f32, and the classes outside one by one as atoms, so that nothing but the tensors' own rounding is judged.
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
            .zip(&case.kept)
            .map(|([log_probs, joined], class_ids)| SoftRow {
                class_ids,
                log_probs,
                tail: Tail { reference: 0.5, atoms: &[], joined },
                ..SoftRow::default()
            })
            .collect();
        let loss: Vec<f64> = floats(case.loss);
        let gradient: Vec<f64> = (0..loss.len()).flat_map(|row| floats(&case.gradient[row])).collect();
        judge(&rows, &case.student, &case.config, (&loss, &gradient), &case.what);
    }
}

/// Demands this loss at each position and this gradient, by hand and by autodiff.
fn judge(rows: &[SoftRow], students: &[Vec<f64>], config: &StepLoss, wanted: (&[f64], &[f64]), what: &str) {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let shape = [students.len(), students[0].len()];
    let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
    let logits = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
    let batch = Batch {
        tokens: Vec::new(),
        rows: 1,
        width: shape[0],
        positions: (0..shape[0] as u32).collect(),
        gold_ids: vec![0; shape[0]],
        targets: Some(SoftTargets::of_rows(rows, config.tail)),
    };
    let teacher = Teacher::new(batch.targets.as_ref().unwrap(), &device);
    let gold = Tensor::<2, Int>::zeros([shape[0], 1], &device);
    let leaf = logits.clone().autodiff().require_grad();
    let naive =
        losses(&student(leaf.clone(), gold, Some(&teacher), config), Some(&teacher), config).divergence.unwrap();
    let per_position = naive.clone().try_into_vec_as::<f32>().unwrap();
    for (got, wanted) in per_position.iter().zip(wanted.0) {
        assert_close(f64::from(*got), *wanted, 1e-5, 1e-5, what);
    }
    let scale = config.alpha * config.temperature.powi(2);
    let by_autodiff = leaf.grad(&(naive.sum() * scale).backward()).unwrap();
    let done = logits_loss(logits, &batch, config);
    let sum = f64::from(done.divergence.unwrap().into_scalar::<f32>());
    assert_close(sum, wanted.0.iter().sum(), 1e-5, 1e-5, what);
    for gradient in [by_autodiff, done.gradient] {
        for (got, wanted) in gradient.try_into_vec_as::<f32>().unwrap().iter().zip(wanted.1) {
            assert_close(f64::from(*got) / scale, *wanted, 1e-4, 1e-6, what);
        }
    }
}

/// Rows as a cache holds them, with a student for each: some with fewer classes than others, some complete.
pub fn cached(selection: Selection, vocab_size: usize) -> (SoftRows, Vec<Vec<f64>>) {
    let keep = keep(selection);
    let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
    let mut students = Vec::new();
    for row in 0..6u64 {
        let mut rng = CounterRng::new("cached losses", &[row]);
        let spread = [0.5, 6.0, 2.0][row as usize % 3];
        let logits: Vec<f32> = (0..vocab_size).map(|_| (spread * rng.normal()) as f32).collect();
        select_reference(&logits, 3, &keep, rng.uniform(), &mut rows, &mut errors);
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
        (Selection::Dense, 12),
    ];
    for (selection, vocab_size) in selections {
        let (rows, students) = cached(selection, vocab_size);
        let rows: Vec<SoftRow> = rows.iter().collect();
        for divergence in ALL {
            for tail in POLICIES.into_iter().filter(|policy| divergence.fits(*policy).is_ok()) {
                for temperature in [1.0, 2.0] {
                    let config = StepLoss { divergence, tail, temperature, ..StepLoss::FORWARD_KL };
                    let exact: Vec<_> = rows
                        .iter()
                        .zip(&students)
                        .map(|(row, s)| compare(divergence, s, temperature, &Target::of(row, temperature, tail)))
                        .collect();
                    let loss: Vec<f64> = exact.iter().map(|e| e.loss).collect();
                    let gradient: Vec<f64> = exact.into_iter().flat_map(|e| e.gradient).collect();
                    let what = format!("{selection:?} {config:?}");
                    judge(&rows, &students, &config, (&loss, &gradient), &what);
                }
            }
        }
    }
}

#[test]
fn pieces_of_any_size_have_the_gradient_of_the_whole() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = device.autodiff();
    let (rows, _) = cached(Selection::TopK { k: 5 }, 30);
    let rows: Vec<SoftRow> = rows.iter().collect();
    let numbers = |stream, count: usize| {
        let mut rng = CounterRng::new("pieces", &[stream]);
        (0..count).map(|_| rng.normal() as f32).collect::<Vec<_>>()
    };
    let config = StepLoss { alpha: 0.7, temperature: 2.0, ..StepLoss::FORWARD_KL };
    let batch = Batch {
        tokens: Vec::new(),
        rows: 1,
        width: 6,
        positions: (0..6).collect(),
        gold_ids: vec![3, 1, 4, 1, 5, 9],
        targets: Some(SoftTargets::of_rows(&rows, config.tail)),
    };
    let of = |piece| {
        let leaf = |stream, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(numbers(stream, shape[0] * shape[1]), shape), &device).require_grad()
        };
        let (hidden, head) = (leaf(0, [6, 8]), leaf(1, [8, 30]));
        let sums = head_loss(hidden.clone(), head.clone(), &batch, &config, piece);
        let grads = sums.surrogate.backward();
        let values = |x: &Tensor<2>| x.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
        let sum = |x: Option<Tensor<1>>| x.unwrap().into_scalar::<f32>();
        let mut all = [values(&hidden), values(&head)].concat();
        all.extend([sum(sums.divergence), sum(sums.cross_entropy)]);
        all
    };
    // The naive composition: all logits at once, every step by autodiff.
    let leaf = |stream, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(numbers(stream, shape[0] * shape[1]), shape), &device).require_grad()
    };
    let (hidden, head) = (leaf(0, [6, 8]), leaf(1, [8, 30]));
    let teacher = Teacher::new(batch.targets.as_ref().unwrap(), &device);
    let gold = Tensor::<1, Int>::from_data([3, 1, 4, 1, 5, 9], &device).reshape([6, 1]);
    let logits = hidden.clone().matmul(head.clone());
    let both = losses(&student(logits, gold, Some(&teacher), &config), Some(&teacher), &config);
    let (soft, hard) = (both.divergence.unwrap().sum(), both.cross_entropy.unwrap().sum());
    let total = soft.clone() * (0.7 * 4.0) + hard.clone() * 0.3;
    let grads = total.backward();
    let mut naive = hidden.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
    naive.extend(head.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap());
    naive.extend([soft.into_scalar::<f32>(), hard.into_scalar::<f32>()]);
    for piece in [1, 4, 6, 100] {
        let got = of(piece);
        assert_eq!(got.len(), naive.len());
        for (got, wanted) in got.iter().zip(&naive) {
            assert_close(f64::from(*got), f64::from(*wanted), 1e-5, 1e-5, &format!("pieces of {piece}"));
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let config = |divergence, tail| LossConfig { alpha: Curve::Constant(0.9), divergence, tail, ..LossConfig::LABELS };
    let refused = config(Divergence::ReverseKl {}, TailPolicy::Renormalize).check().unwrap_err();
    assert!(refused.contains("renorm") && refused.contains("bucket"), "{refused}");
    let refused = config(Divergence::JensenShannon { beta: 2.0 }, TailPolicy::Bucket).check().unwrap_err();
    assert!(refused.contains("beta = 2"), "{refused}");
    let sampled = config(Divergence::ForwardKl {}, TailPolicy::Sampled);
    let refused = sampled.fits(&keep(Selection::TopK { k: 5 })).unwrap_err();
    assert!(refused.contains("drawn_counts"), "{refused}");
    assert!(sampled.fits(&keep(Selection::Sample { n: 8, seed: 0 })).is_ok());

    // What moves is judged by where it goes, not by where it starts.
    let moving = |alpha: &str, temperature: &str| LossConfig {
        alpha: serde_json::from_str(alpha).unwrap(),
        temperature: serde_json::from_str(temperature).unwrap(),
        ..LossConfig::LABELS
    };
    let to = |end: f64| format!(r#"{{"kind":"linear","start":1,"end":{end}}}"#);
    assert!(moving(&to(1.5), "1").check().unwrap_err().contains("alpha = 1.5"));
    assert!(moving("0.5", &to(0.0)).check().unwrap_err().contains("temperature = 0"));
    let hot = moving("0.5", &to(50.0)).fits(&keep(Selection::TopK { k: 5 })).unwrap_err();
    assert!(hot.contains("temperature = 50 is outside"), "{hot}");
    assert!(moving(&to(0.0), "1").needs_teacher() && !moving("0", "1").needs_teacher());
}

#[test]
fn fewer_classes_join_the_tail() {
    let (rows, students) = cached(Selection::TopK { k: 9 }, 30);
    let sample = Sample { id: SampleId(0), origin: Origin { document: 0, offset: 0 }, input_ids: vec![3; 7] };
    let reading = Reading { classes: Some(4), ..Reading::default() };
    let targets = SoftTargets::new(&[(sample, Some(rows.clone()))], reading).unwrap();
    assert_eq!(targets.width, 4);
    let short: Vec<SoftRow> = rows.iter().map(|row| row.prefix(4)).collect();
    assert_eq!(targets, SoftTargets::of_rows(&short, TailPolicy::Bucket));
    let config = StepLoss { temperature: 2.0, ..StepLoss::FORWARD_KL };
    let exact =
        |(row, s): (&SoftRow, &Vec<f64>)| compare(config.divergence, s, 2.0, &Target::of(row, 2.0, TailPolicy::Bucket));
    let exact: Vec<_> = short.iter().zip(&students).map(exact).collect();
    let loss: Vec<f64> = exact.iter().map(|e| e.loss).collect();
    let gradient: Vec<f64> = exact.into_iter().flat_map(|e| e.gradient).collect();
    judge(&short, &students, &config, (&loss, &gradient), "four of nine classes");
}
