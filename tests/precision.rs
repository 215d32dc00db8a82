//! Training in bf16: the passes are rounded, the weights are not.

use crate::fixture::Fixture;
use crate::golden::{self, ids};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use logitcask_core::{Origin, Sample, SampleId};
use logitcask_model::{CausalLm, DeviceChoice, Model, Precision, PretrainedModel};
use logitcask_train::batch::Batch;
use logitcask_train::loss::LossAtStep;
use logitcask_train::update::{gradients, loss_totals};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 7] = ["train", "recipe.toml", "--device", "cpu", "--out", "run", "--replace"];

/// The gradients of all parameters, one after the other.
struct Read<'a>(&'a GradientsParams, Vec<f32>);

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self.0.get::<D>(param.id).expect("every parameter has a gradient");
        assert_eq!(grad.dtype(), DType::F32);
        self.1.extend(grad.try_into_vec_as::<f32>().unwrap());
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// How much rounding changes a gradient depends on the model, and is measured by rounding the weights alone, with passes in
/// f32. Passes in bf16 round, for each matrix of weights, about ten results in a row by as much, forward and backward;
/// the sum of ten independent errors is about three times as large as one, and 4 is beyond that.
const ROUNDINGS: f64 = 4.0;

#[test]
fn the_gradients_of_a_step_are_those_in_f32_but_for_rounding() {
    let golden = golden::read("llama_forward.json");
    let name = "llama-gqa";
    let case = &golden["checkpoints"][name];
    let device = DeviceChoice::Cpu.open().unwrap().0.autodiff();
    let files = PretrainedModel::open(&golden::folder().join(case["path"].as_str().unwrap())).unwrap();
    let masters = files.load(&device, Precision::F32).unwrap();
    let sample =
        |s: &Value| (Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, ids(&s["token_ids"])), Vec::new());
    let samples: Vec<_> = case["sequences"].as_array().unwrap().iter().map(sample).collect();
    let batch = Batch::new(&samples, None).unwrap();
    let step = |model: Model| {
        let mut sums = loss_totals(&model, &batch, &LossAtStep::LABELS);
        let grads = gradients(&model, &mut sums, batch.positions.len()).unwrap();
        let mut read = Read(&grads, Vec::new());
        masters.visit(&mut read);
        read.1
    };
    let (exact, got) = (step(masters.clone()), step(masters.computing_in(DType::BF16)));
    let size = norm(exact.iter().map(|x| f64::from(*x)));
    let away = |from: &[f32]| norm(from.iter().zip(&exact).map(|(a, b)| f64::from(*a) - f64::from(*b))) / size;
    let of_weights = away(&step(masters.computing_in(DType::BF16).computing_in(DType::F32)));
    assert!(of_weights > 1e-4 && of_weights < 0.1, "{name}: {of_weights} is more than a matter of rounding");
    assert!(away(&got) > of_weights && away(&got) < ROUNDINGS * of_weights, "{name}: {}, {of_weights}", away(&got));
    // What another framework has in f32.
    let wanted = case["gradient"]["params"].as_object().unwrap().values();
    let wanted = norm(wanted.map(|one| one["norm"].as_f64().unwrap()));
    golden::assert_close(norm(got.iter().map(|x| f64::from(*x))), wanted, ROUNDINGS * of_weights, 0.0, name);
}

/// A fixture with a filled cache.
fn cached() -> Fixture {
    let fixture = Fixture::new(80);
    fixture.ok(&CACHE);
    fixture
}

/// Adds keys to `[train]` of the fixture's own recipe, and has the student start as the teacher.
fn set(fixture: &Fixture, train: &str) {
    fixture.write_recipe(train);
    let text = fs::read_to_string(fixture.recipe()).unwrap();
    let (before, rest) = text.split_once("[student]").unwrap();
    let (_, after) = rest.split_once("[loss]").unwrap();
    let teacher = fixture.path("teacher");
    fs::write(fixture.recipe(), format!("{before}[student]\nfrom = {teacher:?}\n\n[loss]{after}")).unwrap();
}

/// The lines of the metrics, and the bytes of the exported weights.
fn outcome(fixture: &Fixture) -> (Vec<Value>, Vec<u8>) {
    let folder = fixture.path("run/student");
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, fs::read(folder.join("model/model.safetensors")).unwrap())
}

/// The values of each parameter of a model in a folder.
fn values(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = PretrainedModel::open(folder).unwrap().load(&device, Precision::F32).unwrap();
    model.state_dict().map(|(name, _, values)| (name, values)).collect()
}

/// A step of 1e-7 is far below the distance of bf16 numbers around 0.02, which is 2^-13 = 1e-4: weights in bf16 would stay
/// as they are, or jump.
#[test]
fn steps_that_are_too_small_for_bf16_move_the_weights() {
    const RATE: f32 = 1e-7;
    let fixture = cached();
    set(&fixture, "weight_decay = 0.0\nschedule = { kind = \"cosine\", floor = 1.0 }\nprecision = \"bf16\"\n");
    fixture.edit_recipe("learning_rate = 1e-2", &format!("learning_rate = {RATE:e}"));
    fixture.ok(&TRAIN);
    let (before, after) = (values(&fixture.path("teacher")), values(&fixture.path("run/student/model")));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let moved = before.iter().zip(after).map(|(a, b)| (a - b).abs());
        // AdamW moves a weight by at most its rate in each of the 12 steps; a weight of 1 is rounded to 2^-24.
        assert!(moved.clone().all(|by| by <= 12.0 * (RATE + 6e-8)), "{name} jumps");
        if !name.contains("norm") {
            let count = moved.filter(|by| *by > 0.5 * RATE).count();
            assert!(10 * count > 9 * before.len(), "{name}: {count} of {} weights move", before.len());
        }
    }
}

#[test]
fn the_student_is_stored_in_f32_and_differs_from_one_trained_in_f32() {
    let fixture = cached();
    let [exact, rounded] = ["f32", "bf16"].map(|precision| {
        fixture.write_recipe(&format!("precision = \"{precision}\"\n"));
        fixture.ok(&TRAIN);
        outcome(&fixture)
    });
    fixture.write_recipe("");
    fixture.ok(&TRAIN);
    assert!(outcome(&fixture) == exact, "f32 is the default");
    // The students begin with the same weights. Their logits are near 0, so that rounding moves the loss by far less than
    // 2^-9 of it.
    let loss = |(lines, _): &(Vec<Value>, Vec<u8>)| lines[0]["loss"].as_f64().unwrap();
    assert_ne!(loss(&rounded), loss(&exact));
    golden::assert_close(loss(&rounded), loss(&exact), 1.0 / 512.0, 0.0, "the first loss");
    assert_eq!(rounded.1.len(), exact.1.len());
    let is_in_bf16 = |(_, values): &(String, Vec<f32>)| values.iter().all(|x| x.to_bits() & 0xffff == 0);
    fixture.write_recipe("precision = \"bf16\"\n");
    fixture.ok(&TRAIN);
    assert!(!values(&fixture.path("run/student/model")).iter().any(is_in_bf16));
    fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
}

#[test]
fn a_run_in_bf16_that_was_stopped_gives_the_same_bytes() {
    let fixture = cached();
    let cases = [
        "validate_every = 0",
        "gradient_checkpointing = true\nfreeze = [\"embed_tokens\", \"layers.0\"]",
        "lora = { rank = 2, alpha = 4, targets = [\"q_proj\", \"mlp\"] }",
    ];
    for train in cases {
        set(&fixture, &format!("precision = \"bf16\"\n{train}\n"));
        fixture.ok(&TRAIN);
        let whole = outcome(&fixture);
        assert_eq!(whole.0.len(), 12);
        // As if the run was killed after step 10, before its last checkpoint.
        fs::remove_dir_all(fixture.path("run/student/checkpoints/step-00000012")).unwrap();
        fs::remove_dir_all(fixture.path("run/student/model")).unwrap();
        fixture.ok(&TRAIN[..TRAIN.len() - 1]);
        assert!(outcome(&fixture) == whole, "{train}");
    }
}

#[test]
fn another_format_is_refused_by_name() {
    let fixture = cached();
    fixture.write_recipe("precision = \"f16\"\n");
    let error = fixture.fails(&TRAIN);
    assert!(error.contains("unknown value `f16`, expected `f32` or `bf16`"), "{error}");
    fixture.write_recipe("precision = \"bf16\"\n");
    fixture.ok(&TRAIN);
    fixture.write_recipe("");
    let error = fixture.fails(&TRAIN[..TRAIN.len() - 1]);
    assert!(error.contains("[train] precision: \"bf16\" here, nothing wanted"), "{error}");
}
