//! Several caches in one training run.

use crate::fixture::{Fixture, config, texts};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use logitcask_cache::CacheReader;
use logitcask_core::rng::CounterRng;
use logitcask_core::{Sample, SoftRows};
use logitcask_model::{DeviceChoice, Model, Packing, weights};
use logitcask_train::batch::Batch;
use logitcask_train::loss::{LossAtStep, TermAtStep};
use logitcask_train::target_spec::TargetSpec;
use logitcask_train::update::{gradients, loss_totals};
use serde_json::Value;
use std::fs;

const TRAIN: [&str; 4] = ["train", "recipe.toml", "--device", "cpu"];

/// A fixture with three caches of one teacher: other texts, selections, layouts and positions.
fn three_caches() -> Fixture {
    let fixture = Fixture::new(60);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    for (name, selection, more) in [
        ("packed", "{ kind = \"top_p\", p = 0.6, k = 40 }", "layout = \"packed\"\ntemperature_range = [0.5, 4.0]"),
        ("share", "{ kind = \"sample\", n = 9 }", "positions = { kind = \"share\", share = 0.5 }"),
    ] {
        let mut rng = CounterRng::new("mixture texts", &[name.len() as u64]);
        let mut texts = texts(90);
        rng.shuffle(&mut texts);
        let lines: String = texts[..40].iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
        fs::write(fixture.path(&format!("{name}.jsonl")), lines).unwrap();
        let text = recipe
            .replace("texts.jsonl", &format!("{name}.jsonl"))
            .replace("/cache\"", &format!("/{name}\""))
            .replace("{ kind = \"top_k\", k = 16 }", &format!("{selection}\n{more}"));
        fs::write(fixture.path("other.toml"), text).unwrap();
        fixture.ok(&["cache", "other.toml", "--device", "cpu"]);
    }
    fixture.write_recipe("\n[[data]]\ncache = \"packed\"\nweight = 0.5\n\n[[data]]\ncache = \"share\"\nweight = 1.5\n");
    fixture
}

/// The samples of each source in every step.
fn counts(fixture: &Fixture, run: &str) -> Vec<Vec<u64>> {
    let metrics = fs::read_to_string(fixture.path(run).join("student/metrics.jsonl")).unwrap();
    let counts = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["samples_per_source"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
    };
    metrics.lines().map(counts).collect()
}

#[test]
fn a_mixture_is_taken_by_weight_and_resumes_in_its_middle() {
    let fixture = three_caches();
    let train = |run: &str| {
        fixture.ok(&[&TRAIN[..], &["--out", run]].concat());
        let folder = fixture.path(run).join("student");
        let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        (metrics, fs::read(folder.join("model/model.safetensors")).unwrap())
    };
    let whole = train("run");
    let counts = counts(&fixture, "run");
    assert!(counts.iter().all(|step| step.iter().sum::<u64>() == 4), "{counts:?}");
    let total = |source: usize| counts.iter().map(|step| step[source]).sum::<u64>();
    assert_eq!([total(0), total(1), total(2)], [16, 8, 24], "12 steps of 4 samples by 1 : 0.5 : 1.5");
    // As if the run was killed after step 10.
    fs::remove_dir_all(fixture.path("run/student/checkpoints/step-00000012")).unwrap();
    fs::remove_dir_all(fixture.path("run/student/model")).unwrap();
    assert!(train("run") == whole, "the resumed run differs");
    // Other weights are another run.
    fixture.edit_recipe("weight = 0.5", "weight = 0.25");
    let refused = fixture.fails(&[&TRAIN[..], &["--out", "run"]].concat());
    assert!(refused.contains("data"), "{refused}");
}

#[test]
fn the_loss_of_a_mixed_batch_is_the_sum_of_its_parts_with_and_without_padding() {
    let fixture = three_caches();
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = weights::init(&config(), 3, &device.autodiff());
    let loss = LossAtStep { alpha: 0.7, ..LossAtStep::teacher(TermAtStep::FORWARD_KL) };
    let samples = |name: &str| -> Vec<(Sample, Vec<SoftRows>)> {
        let cache = CacheReader::open(&fixture.path(name)).unwrap();
        let rows = cache.in_order("train").unwrap().take(3).map(|cached| cached.unwrap());
        rows.map(|cached| (cached.sample, vec![cached.rows])).collect()
    };
    let of = |samples: &[(Sample, Vec<SoftRows>)]| {
        let spec = Some(TargetSpec::default());
        let of = |batch| loss_and_gradient(&model, &batch, &loss);
        let padded = of(Batch::new(samples, spec.as_ref()).unwrap());
        for packing in [Packing::OneRow, Packing::FilledRows] {
            let packed = of(Batch::packed(samples, spec.as_ref(), packing).unwrap());
            let close = |a: f64, b: f64, what: &str| {
                assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-2), "{what}: {a}, {packing:?} {b}")
            };
            close(padded.0, packed.0, "loss");
            padded.1.iter().zip(&packed.1).for_each(|(a, b)| close(*a, *b, "gradient"));
        }
        (padded.0, samples.iter().map(|(sample, _)| sample.position_count()).sum::<usize>())
    };
    let apart = ["cache", "packed", "share"].map(samples);
    let parts = apart.each_ref().map(|samples| of(samples));
    let (mixed, positions) = of(&apart.concat());
    let sum: f64 = parts.iter().map(|(loss, _)| loss).sum();
    assert_eq!(positions, parts.iter().map(|(_, positions)| positions).sum::<usize>());
    assert!((mixed - sum).abs() < 1e-5 * sum.abs(), "{mixed}, the parts {sum}");
}

/// The sum of a batch's losses, and for every parameter the norm of its gradient.
fn loss_and_gradient(model: &Model, batch: &Batch, loss: &LossAtStep) -> (f64, Vec<f64>) {
    struct Norms<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Norms<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).unwrap();
            self.1.push(f64::from(gradient.square().sum().into_scalar::<f32>()).sqrt());
        }
    }
    let mut sums = loss_totals(model, batch, loss);
    let gradients = gradients(model, &mut sums, 1).unwrap();
    let mut norms = Norms(&gradients, Vec::new());
    model.visit(&mut norms);
    (f64::from(sums.loss.unwrap().into_scalar::<f32>()), norms.1)
}

#[test]
fn what_cannot_be_mixed_is_refused_by_name() {
    let fixture = three_caches();
    let train = || fixture.fails(&[&TRAIN[..], &["--out", "run"]].concat());
    fixture.edit_recipe("warmup = 2", "warmup = 2\npruning = { share = 0.5, stages = 1, every = 1 }");
    let refused = train();
    assert!(refused.contains("[train] pruning") && refused.contains("[[data]]"), "{refused}");
    fixture.write_recipe("\n[[data]]\ncache = \"packed\"\nweight = 0\n");
    assert!(train().contains("weight = 0 must be a number above 0"), "{}", train());
    fixture.write_recipe("\n[[data]]\ncache = \"nowhere\"\n");
    assert!(train().contains("nowhere"), "{}", train());
    // Temperatures must lie in the range of every cache.
    fixture.write_recipe("\n[[data]]\ncache = \"packed\"\n");
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\ntemperature = 6.0");
    assert!(train().contains("temperature"), "{}", train());
    // A cache of another tokenizer.
    let other = Fixture::new(40);
    let tokenizer = logitcask_data::train_byte_level_bpe(texts(10).into_iter(), 290).unwrap();
    crate::fixture::write_teacher(&other.path("teacher"), 2, 300, tokenizer.json());
    other.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.write_recipe(&format!("\n[[data]]\ncache = \"{}\"\n", other.path("cache").display()));
    let refused = train();
    assert!(refused.contains("can only be mixed if they have the same tokens"), "{refused}");
}
