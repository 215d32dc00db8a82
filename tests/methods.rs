//! The defining property of each method; results of longer runs are in benches/methods.

use crate::fixture::Fixture;
use crate::golden;
use crate::losses::{LABEL, batch_of, cached, term};
use burn::tensor::{Tensor, TensorData};
use logitcask_core::divergence::{ForwardKl, ReverseKl, compare};
use logitcask_core::select::select_reference;
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_core::{RowErrors, Selection, SoftRow, SoftRows, TailPolicy, TargetTransform, TemperedRow, Truncation};
use logitcask_model::DeviceChoice;
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{LossTotals, logits_loss};
use logitcask_train::loss::{LossAtStep, Scale, TermAtStep};
use logitcask_train::similarity::Similarity;
use logitcask_train::target_batch::TargetBatch;
use logitcask_train::target_spec::TargetSpec;
use serde_json::Value;
use std::fs;

/// The metrics of a run of the fixture with these lines of [loss], additional lines of [train], and number of steps.
fn metrics(fixture: &Fixture, loss: &str, train: &str, steps: u32) -> Vec<Value> {
    fixture.write_recipe("");
    fixture.edit_recipe("alpha = 0.5", loss);
    fixture.edit_recipe("steps = 12", &format!("steps = {steps}\n{train}"));
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run", "--replace"]);
    let text = fs::read_to_string(fixture.path("run/student/metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn column(metrics: &[Value], name: &str) -> Vec<f64> {
    metrics.iter().map(|line| line[name].as_f64().unwrap()).collect()
}

#[test]
fn dts_cools_and_annealing_does_too() {
    let fixture = Fixture::new(60);
    let dts = "alpha = 0.9\ntemperature = 4.0\ntemperature_rule = { kind = \"dts\", lowest = 1.0, highest = 4.0 }";
    let t = column(&metrics(&fixture, dts, "", 40), "temperature");
    assert!(t[0] == 4.0 && t[39] < 2.5 && t[39] >= 1.0, "{t:?}");
    let line = "alpha = 0.9\ntemperature = { kind = \"linear\", start = 4.0, end = 1.0 }";
    let t = column(&metrics(&fixture, line, "", 4), "temperature");
    assert_eq!(t, [4.0, 3.25, 2.5, 1.75]);
}

#[test]
fn kcd_reads_the_share_it_should() {
    let fixture = Fixture::new(600);
    let pruning = "pruning = { share = 0.5, stages = 2 }";
    let read = column(&metrics(&fixture, "alpha = 0.9", pruning, 420), "read");
    let falls: Vec<f64> = read.chunk_by(|a, b| a == b).map(|run| run[0]).collect();
    assert_eq!(falls.len(), 3, "two stages: {falls:?}");
    assert_eq!(falls[0], 1.0);
    // Whole pages of 32 samples are kept.
    assert!((falls[1] - 0.75).abs() < 0.07 && (falls[2] - 0.5).abs() < 0.07, "{falls:?}");
}

#[test]
fn a_run_with_rules_that_is_stopped_and_resumed_gives_the_same_bits() {
    let fixture = Fixture::new(120);
    let rules = [
        (
            "temperature_rule = { kind = \"agent\", lowest = 1.0, highest = 4.0, explore = 0.0 }\ntoken_weight = { kind = \"latf\" }",
            "",
        ),
        ("temperature_rule = { kind = \"curriculum\", lowest = 1.0, highest = 4.0, instance = true }", ""),
        ("temperature_rule = { kind = \"dts\", lowest = 1.0, highest = 4.0 }", "pruning = { share = 0.5, stages = 3 }"),
    ];
    for (loss, train) in rules {
        let whole = metrics(&fixture, &format!("alpha = 0.9\ntemperature = 2.0\n{loss}"), train, 63);
        let student = fixture.path("run/student");
        let weights = fs::read(student.join("model/model.safetensors")).unwrap();
        fs::remove_dir_all(student.join("checkpoints/step-00000063")).unwrap();
        fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
        let text = fs::read_to_string(student.join("metrics.jsonl")).unwrap();
        let again: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(again, whole, "{loss}");
        assert!(fs::read(student.join("model/model.safetensors")).unwrap() == weights, "{loss}");
    }
}

#[test]
fn golden_rows_at_a_high_temperature_need_their_tail() {
    let folder = golden::reference_folder();
    let bytes = fs::read(folder.join("rows.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let rows = |name: &str| -> Vec<Vec<f64>> {
        let tensor = tensors.tensor(name).unwrap();
        let numbers = tensor.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
        numbers.collect::<Vec<_>>().chunks_exact(tensor.shape()[1]).map(<[f64]>::to_vec).collect()
    };
    let teacher = rows("teacher");
    let students = rows("student");
    let keep = Truncation { selection: Selection::TopK { k: 64 }, ..crate::fixture::keep(Selection::TopK { k: 64 }) };
    let dense = Truncation { selection: Selection::Dense {}, tail: None, ..keep.clone() };
    // Relative errors of the summed gradient and of the loss.
    let error = |policy, t: f64| {
        let (mut off, mut all, mut losses) = (0.0, 0.0, [0.0; 2]);
        let mut sums: [Vec<f64>; 2] = [vec![0.0; teacher[0].len()], vec![0.0; teacher[0].len()]];
        for (logits, student) in teacher.iter().zip(&students) {
            let logits: Vec<f32> = logits.iter().map(|&z| z as f32).collect();
            for (i, (keep, policy)) in [(&keep, policy), (&dense, TailPolicy::Bucket)].into_iter().enumerate() {
                let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
                select_reference(&logits, 0, keep, 0.5, &mut rows, &mut errors);
                let target = TemperedRow::of(&rows.iter().next().unwrap(), t, policy);
                let done = compare(ForwardKl {}, student, t, &target);
                losses[i] += done.loss;
                sums[i].iter_mut().zip(&done.gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        for (a, b) in sums[0].iter().zip(&sums[1]) {
            off += (a - b) * (a - b);
            all += b * b;
        }
        ((off / all).sqrt(), losses[0] / losses[1])
    };
    for t in [1.0, 2.0, 4.0] {
        let ((renorm, renorm_loss), (bucket, bucket_loss)) =
            (error(TailPolicy::Renormalize, t), error(TailPolicy::Bucket, t));
        eprintln!(
            "T = {t}: gradient off by {renorm:.3} renorm, {bucket:.3} bucket; loss {renorm_loss:.2}, {bucket_loss:.2}"
        );
        assert!(bucket_loss <= 1.001, "a lower bound");
        if t == 4.0 {
            assert!(renorm > 2.0 * bucket, "renormalised classes are another objective");
            assert!(renorm_loss > 2.0, "{renorm_loss}");
        }
    }
}

/// A loss on tensors, with its gradient.
fn gradient(
    rows: &SoftRows,
    second: Option<&SoftRows>,
    students: &[Vec<f64>],
    decisions: &TokenDecisions,
    loss: &LossAtStep,
    spec: &TargetSpec,
) -> (Vec<f32>, f32) {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let rows: Vec<SoftRow> = rows.iter().collect();
    let mut batch = batch_of(&rows, &[LABEL; 6], spec);
    batch.second = second.map(|rows| TargetBatch::of_rows(&rows.iter().collect::<Vec<_>>(), &[LABEL; 6], spec));
    let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
    let logits = Tensor::<2>::from_data(TensorData::new(values, [6, students[0].len()]), &device);
    let mut sums = LossTotals::default();
    let gradient = logits_loss(logits, &batch, decisions, loss, &mut sums);
    (gradient.try_into_vec_as().unwrap(), sums.loss.unwrap().into_scalar())
}

#[test]
fn of_two_teachers_each_has_its_share() {
    let (first, students) = cached(Selection::TopK { k: 5 }, 30);
    // The rows in another order are used as a second teacher's, which kept more classes.
    let (other, _) = cached(Selection::TopK { k: 9 }, 30);
    let mut second = SoftRows::new(&crate::fixture::keep(Selection::TopK { k: 9 }));
    [1, 2, 3, 4, 5, 0].iter().for_each(|&i| second.push(other.iter().nth(i).unwrap()));
    let loss = LossAtStep { alpha: 0.8, ..LossAtStep::teacher(term(ReverseKl {}, TailPolicy::Bucket, 2.0)) };
    let shared = |a: f32, b: f32| TokenDecisions {
        temperatures: Vec::new(),
        weights: Some(vec![a; 6]),
        second: Some(vec![b; 6]),
    };
    let both = |a, b| gradient(&first, Some(&second), &students, &shared(a, b), &loss, &TargetSpec::default());
    let one = |rows| gradient(rows, None, &students, &TokenDecisions::default(), &loss, &TargetSpec::default());
    let ((a, a_loss), (b, b_loss), (mixed, mixed_loss)) = (one(&first), one(&second), both(0.25, 0.75));
    let close =
        |got: &[f32], wanted: &dyn Fn(usize) -> f32| got.iter().enumerate().all(|(i, g)| (g - wanted(i)).abs() < 1e-5);
    assert!(close(&both(1.0, 0.0).0, &|i| a[i]) && close(&both(0.0, 1.0).0, &|i| b[i]));
    assert!(close(&mixed, &|i| 0.25 * a[i] + 0.75 * b[i]));
    assert!((mixed_loss - 0.25 * a_loss - 0.75 * b_loss).abs() < 1e-4);
    assert!(!close(&a, &|i| b[i]), "two teachers, not one");
}

#[test]
fn a_spread_temperature_does_not_see_the_scale_of_the_logits() {
    // NormKD: doubling the logits does not change the targets.
    let (_, students) = cached(Selection::Dense {}, 12);
    let keep = crate::fixture::keep(Selection::Dense {});
    let rows = |scale: f64| {
        let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        for student in &students {
            let logits: Vec<f32> = student.iter().rev().map(|z| (scale * z) as f32).collect();
            select_reference(&logits, LABEL, &keep, 0.0, &mut rows, &mut errors);
        }
        rows
    };
    let step = TermAtStep { scale: Scale::None, ..term(ForwardKl {}, TailPolicy::Bucket, 1.0) };
    let times_std = Temperatures::TimesLogitStd { pair: TemperaturePair::same(1.0), range: (0.05, 1000.0) };
    let followed = TokenDecisions { temperatures: vec![Some(times_std)], ..TokenDecisions::default() };
    let spec = TargetSpec { stats: true, ..TargetSpec::default() };
    let loss = |scale, decisions: &TokenDecisions| {
        gradient(&rows(scale), None, &students, decisions, &LossAtStep::teacher(step), &spec).1
    };
    let [once, twice] = [1.0, 2.0].map(|scale| loss(scale, &followed));
    assert!((once - twice).abs() < 2e-2, "{once} {twice}");
    let [once, twice] = [1.0, 2.0].map(|scale| loss(scale, &TokenDecisions::default()));
    assert!((once - twice).abs() > 0.5, "{once} {twice}");
}

#[test]
fn alike_classes_are_those_whose_weights_point_the_same_way() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    // Columns 0 and 2 have the same direction and different lengths, 1 is orthogonal, 3 has the opposite direction.
    let head = Tensor::<2>::from_data([[1.0, 0.0, 4.0, -2.0], [0.0, 1.0, 0.0, 0.0]], &device);
    let table = Similarity::of_head(head, 2, 0.5).unwrap();
    let row = table.row(0).unwrap();
    assert_eq!((table.labels(), table.row(4)), (4, None), "a label that the head does not have");
    assert_eq!(row.class_ids, [0, 2]);
    // The softmax of 2, 0, 2, -2.
    let z: f64 = [2.0f64, 0.0, 2.0, -2.0].iter().map(|x| x.exp()).sum();
    golden::assert_close(f64::from(row.log_probs[0]), 2.0 - z.ln(), 1e-6, 1e-6, "the most alike");
    golden::assert_close(row.tail_mass(1.0), (1.0 + (-2.0f64).exp()) / z, 1e-5, 1e-6, "all others");
    let target = TargetTransform::Similar { classes: 2, temperature: 0.5 };
    let spec = TargetSpec { target, similarity: Some(table.into()), ..TargetSpec::default() };
    let (rows, _) = cached(Selection::TopK { k: 3 }, 4);
    let targets = TargetBatch::of_rows(&rows.iter().collect::<Vec<_>>(), &[0; 6], &spec);
    assert_eq!((targets.width, &targets.class_ids[..2]), (2, &[0, 2][..]), "the teacher's rows have no say");
}

#[test]
fn students_teach_their_successors() {
    let fixture = Fixture::new(60);
    fixture.edit_recipe("[teacher]\nmodel = \"", "[tokenizer]\neos = 0\npath = \"");
    fixture.edit_recipe("/teacher\"\nbatch_tokens = 512", "/teacher/tokenizer.json\"");
    fixture.edit_recipe("[train]", "[generations]\ncount = 2\n\n[train]");
    let table = fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
    assert!(table.contains("generation   ") && table.contains("\n2 "), "{table}");
    for generation in ["generation-0", "generation-1", "generation-2"] {
        assert!(fixture.path("run").join(generation).join("student/model/model.safetensors").exists());
    }
    let cached = fs::read_to_string(fixture.path("run/generation-2.cache/plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&cached).unwrap();
    let earlier: Value =
        serde_json::from_str(&fs::read_to_string(fixture.path("run/generation-1.cache/plan.json")).unwrap()).unwrap();
    assert_ne!(plan["teacher"]["fingerprint"], earlier["teacher"]["fingerprint"], "another student taught");
    // Finished generations are not repeated.
    let again = fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
    assert!(again.contains("up to date"), "{again}");
}
