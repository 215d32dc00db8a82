//! Relational knowledge distillation: PyTorch, our own f64, and the tensors; and a run that uses a cached column.

use crate::fixture::Fixture;
use crate::golden::{self, assert_close, floats};
use burn::tensor::{Tensor, TensorData};
use logitcask_cache::CacheReader;
use logitcask_core::{HiddenPositions, Origin, Sample, SampleId};
use logitcask_model::{DeviceChoice, Packing};
use logitcask_train::batch::Batch;
use logitcask_train::loss::RelationalLoss;
use logitcask_train::source::Source;
use serde_json::Value;
use std::fs;

type Vectors = Vec<Vec<f64>>;

fn distance_of(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn huber(x: f64) -> f64 {
    if x.abs() < 1.0 { x * x / 2.0 } else { x.abs() - 0.5 }
}

/// Equations 4 to 6 of arXiv 1904.05068, as a mean over all pairs.
fn slow_distance(teacher: &Vectors, student: &Vectors) -> f64 {
    let n = teacher.len();
    let relative = |vectors: &Vectors| -> Vectors {
        let all: Vectors = vectors.iter().map(|a| vectors.iter().map(|b| distance_of(a, b)).collect()).collect();
        let mean = all.iter().flatten().sum::<f64>() / (n * (n - 1)) as f64;
        all.into_iter().map(|row| row.into_iter().map(|distance| distance / mean).collect()).collect()
    };
    let (teacher, student) = (relative(teacher), relative(student));
    let pairs = teacher.iter().flatten().zip(student.iter().flatten());
    pairs.map(|(teacher, student)| huber(student - teacher)).sum::<f64>() / (n * n) as f64
}

/// Equations 7 to 9, as a mean over all triples.
fn slow_angle(teacher: &Vectors, student: &Vectors) -> f64 {
    let n = teacher.len();
    let cosine = |vectors: &Vectors, at: usize, a: usize, b: usize| -> f64 {
        let [a, b] = [a, b].map(|other| {
            let length = distance_of(&vectors[other], &vectors[at]);
            let direction = |i: usize| if length > 0.0 { (vectors[other][i] - vectors[at][i]) / length } else { 0.0 };
            (0..vectors[at].len()).map(direction).collect::<Vec<f64>>()
        });
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    };
    let mut sum = 0.0;
    for at in 0..n {
        for a in 0..n {
            for b in 0..n {
                sum += huber(cosine(student, at, a, b) - cosine(teacher, at, a, b));
            }
        }
    }
    sum / (n * n * n) as f64
}

fn matrix(value: &Value) -> Vectors {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn tensor(vectors: &Vectors) -> Tensor<2> {
    let numbers: Vec<f32> = vectors.iter().flatten().map(|&x| x as f32).collect();
    let shape = [vectors.len(), vectors[0].len()];
    Tensor::from_data(TensorData::new(numbers, shape), &DeviceChoice::Cpu.open().unwrap().0)
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let golden = golden::read("relations.json");
    for case in golden["cases"].as_array().unwrap() {
        let (teacher, student) = (matrix(&case["teacher"]), matrix(&case["student"]));
        for (kind, slow) in [("distance", slow_distance as fn(&Vectors, &Vectors) -> f64), ("angle", slow_angle)] {
            let what = format!("{} {kind}", case["name"]);
            let wanted = case[kind]["loss"].as_f64().unwrap();
            assert_close(slow(&teacher, &student), wanted, 1e-12, 1e-14, &what);
            let weight = |of: &str| if of == kind { 1.0 } else { 0.0 };
            let pooling = HiddenPositions::Mean;
            let loss = RelationalLoss { distance: weight("distance"), angle: weight("angle"), pooling };
            let leaf = tensor(&student).autodiff().require_grad();
            let value = loss.compare(tensor(&teacher), leaf.clone());
            let gradient = leaf.grad(&value.clone().backward()).unwrap().try_into_vec_as::<f32>().unwrap();
            let value = value.detach().without_autodiff().try_into_vec_as::<f32>().unwrap()[0];
            assert_close(f64::from(value), wanted, 2e-5, 1e-7, &what);
            let wanted: Vec<f64> = matrix(&case[kind]["gradient"]).concat();
            let largest = wanted.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            for (got, wanted) in gradient.iter().zip(wanted) {
                assert_close(f64::from(*got), wanted, 1e-4, 1e-4 * largest, &what);
            }
        }
    }
}

#[test]
fn samples_with_the_same_vector_have_finite_gradients() {
    let vectors = vec![vec![1.0, 2.0], vec![1.0, 2.0], vec![0.0, 1.0], vec![3.0, 1.0]];
    let loss = RelationalLoss { distance: 1.0, angle: 1.0, pooling: HiddenPositions::Mean };
    let leaf = tensor(&vectors).autodiff().require_grad();
    let grads = loss.compare(tensor(&vec![vec![0.5; 3]; 4]), leaf.clone()).backward();
    let gradient = leaf.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
    assert!(gradient.iter().all(|x| x.is_finite()), "{gradient:?}");
}

#[test]
fn a_students_vector_is_pooled_like_its_teachers_in_padded_and_packed_batches() {
    let sample = |id: u64, length: u32| {
        (Sample::new(SampleId(id), Origin { document: id, offset: 0 }, (0..length).collect()), Vec::new())
    };
    let samples = [sample(0, 4), sample(1, 2), sample(2, 3)];
    // One number per position: 1 to 3, 4, and 5 to 6.
    let hidden = tensor(&(1..=6).map(|x| vec![f64::from(x), 1.0]).collect());
    for (pooling, student) in [
        (HiddenPositions::Mean, [[2.0, 1.0], [4.0, 1.0], [5.5, 1.0]]),
        (HiddenPositions::Last, [[3.0, 1.0], [4.0, 1.0], [6.0, 1.0]]),
    ] {
        let teacher: Vectors = vec![vec![1.0, 0.5], vec![-2.0, 4.0], vec![0.0, 0.25]];
        let student: Vectors = student.map(|vector| vector.to_vec()).to_vec();
        let wanted = 3.0 * slow_distance(&teacher, &student) + 2.0 * slow_angle(&teacher, &student);
        let packed = |packing| Batch::packed(&samples, None, packing).unwrap();
        for batch in [Batch::new(&samples, None).unwrap(), packed(Packing::OneRow), packed(Packing::FilledRows)] {
            let vectors = Some(teacher.concat().iter().map(|&x| x as f32).collect());
            let loss = RelationalLoss { distance: 3.0, angle: 2.0, pooling };
            let got = loss.loss(hidden.clone(), &Batch { vectors, ..batch }).unwrap().try_into_vec_as::<f32>().unwrap();
            assert_close(f64::from(got[0]), wanted, 1e-5, 1e-6, "pooled");
        }
    }
}

const TRAIN: [&str; 4] = ["train", "recipe.toml", "--device", "cpu"];

const COLUMN: &str = "
[cache.extras.pooled]
from = { kind = \"hidden\", positions = \"mean\" }
[cache.extras.hidden]
from = { kind = \"hidden\" }
";

/// A cached fixture whose parts of a step have eight samples.
fn cached(relations: &str) -> Fixture {
    let fixture = Fixture::new(60);
    fixture.write_recipe(&format!("{COLUMN}\n[loss.relations]\n{relations}\n"));
    fixture.edit_recipe("batch_size = 4", "batch_size = 16");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture
}

#[test]
fn a_student_learns_relations_from_a_cached_column() {
    let fixture = cached("column = \"pooled\"\ndistance = 10.0\nangle = 20.0");
    fixture.edit_recipe("steps = 12", "steps = 40");
    fixture.ok(&[&TRAIN[..], &["--out", "run"]].concat());
    let metrics = fs::read_to_string(fixture.path("run/student/metrics.jsonl")).unwrap();
    let of = |line: &str| -> (f64, f64) {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["relations"].as_f64().unwrap(), line["loss"].as_f64().unwrap())
    };
    let steps: Vec<(f64, f64)> = metrics.lines().map(of).collect();
    let mean = |steps: &[(f64, f64)]| steps.iter().map(|step| step.0).sum::<f64>() / steps.len() as f64;
    assert!(mean(&steps[32..]) < 0.9 * mean(&steps[..4]), "{steps:?}");
    assert!(steps.iter().all(|(relations, loss)| *relations > 0.0 && loss > relations), "{steps:?}");
    // In parts or in one piece, a step reads the same vectors.
    let reader = CacheReader::open(&fixture.path("cache")).unwrap();
    let mut samples = Source::Cache(reader).with_vectors("pooled").unwrap().in_order("train").unwrap();
    let (_, rows) = samples.next().unwrap().unwrap();
    assert_eq!(rows[0].extras[0].values.len(), 32);
    let labels = fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--control", "--out", "control"]);
    assert!(!labels.is_empty());
}

#[test]
fn what_a_cache_or_a_step_cannot_relate_is_refused_by_name() {
    let fixture = cached("column = \"pooled\"");
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    for (from, to, wanted) in [
        ("column = \"pooled\"", "column = \"pool\"", "[cache.extras.pool]"),
        ("column = \"pooled\"", "column = \"hidden\"", "a vector for each position"),
        ("column = \"pooled\"", "column = \"pooled\"\nangle = -1.0", "0 or more"),
        ("column = \"pooled\"", "column = \"pooled\"\nangle = 0.0\ndistance = 0.0", "above 0"),
        ("accumulate = 2", "accumulate = 8", "at least 3 samples"),
        ("warmup = 2", "warmup = 2\nmax_length = 20", "max_length"),
    ] {
        fs::write(fixture.recipe(), recipe.replace(from, to)).unwrap();
        let error = fixture.fails(&TRAIN);
        assert!(error.contains(wanted) && error.contains("relations"), "{wanted}: {error}");
    }
}
