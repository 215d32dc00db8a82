//! What teaching costs beside plain labels: the head with its loss, and a whole training step; time and peak memory.
//!
//! `make bench-step`, DEVICE=cpu or wgpu; prints tables of benches/README.md. Every case runs in a process of its own, so
//! that its peak is its own, and proves its answer first.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsAccumulator, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use logitcask_core::rng::CounterRng;
use logitcask_core::{Gold, SoftRow, Tail};
use logitcask_model::{CausalLm, DeviceChoice, Head, Model, ModelConfig, Sequences, weights};
use logitcask_train::batch::Batch;
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{head_loss, student};
use logitcask_train::loss::positions::total;
use logitcask_train::loss::{ChunkLoss, DeviceTargets, LossAtStep, TermAtStep, token_losses};
use logitcask_train::target_batch::TargetBatch;
use logitcask_train::target_spec::TargetSpec;
use logitcask_train::update::{gradients, loss_totals};
use rayon::prelude::*;
use std::process::Command;
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which case a process measures: "vocabulary kind".
const CASE: &str = "LOGITCASK_BENCH_CASE";
const KEPT: usize = 64;
const HIDDEN: usize = 96;
/// The recipes' students: windows of about 181 tokens.
const POSITIONS: usize = 180;
/// The first passes warm kernels and allocator up.
const WARM: usize = 2;

/// Eight, as in the recipes; on other devices four, so that the composed loss fits the smallest of their buffers.
fn windows(device: &Device) -> usize {
    if *device == Device::flex() { 8 } else { 4 }
}

fn main() {
    let device = std::env::var("DEVICE").ok().filter(|name| name != "auto").unwrap_or("cpu".into());
    let device: DeviceChoice = device.parse().unwrap();
    if let Ok(case) = std::env::var(CASE) {
        let (vocab_size, kind) = case.split_once(' ').unwrap();
        return measure(kind, vocab_size.parse().unwrap(), device);
    }
    let (opened, name) = device.open().unwrap();
    println!("{name}: {} windows of {POSITIONS} positions, hidden {HIDDEN}, {KEPT} classes kept", windows(&opened));
    let run = |kind: &str, vocab_size: usize| {
        let this = std::env::current_exe().unwrap();
        let out = Command::new(this).env(CASE, format!("{vocab_size} {kind}")).output().unwrap();
        assert!(out.status.success(), "{kind}: {}", String::from_utf8_lossy(&out.stderr));
        print!("{}", String::from_utf8_lossy(&out.stdout));
    };
    println!("\n| head and loss, forward and backward | classes | ms | peak, MiB above the start |\n|---|---|---|---|");
    for vocab_size in [2_048, 32_000] {
        ["labels", "composed", "pieces"].iter().for_each(|kind| run(kind, vocab_size));
    }
    println!(
        "\n| training step | classes | labels alone, ms | distilled, ms | ratio | of the best |\n|---|---|---|---|---|---|"
    );
    [2_048, 32_000].iter().for_each(|&vocab_size| run("step", vocab_size));
    println!("\n| a run of steps | classes | peak, MiB above the model |\n|---|---|---|");
    for vocab_size in [2_048, 32_000] {
        ["run of labels", "run of distilled"].iter().for_each(|kind| run(kind, vocab_size));
    }
}

fn measure(kind: &str, vocab_size: usize, device: DeviceChoice) {
    let (device, _) = device.open().unwrap();
    match kind {
        "step" => whole_step(vocab_size, &device),
        "run of labels" => run_alone(LABELS, vocab_size, &device),
        "run of distilled" => run_alone(DISTILLED, vocab_size, &device),
        kind => loss_alone(kind, vocab_size, &device),
    }
}

fn distilled() -> LossAtStep {
    LossAtStep { alpha: 0.9, ..LossAtStep::teacher(TermAtStep::FORWARD_KL) }
}

/// One window's tokens and what a teacher said about them.
fn window(number: u64, vocab_size: usize) -> Batch {
    let mut rng = CounterRng::new("step bench", &[number]);
    let mut token = || rng.below(vocab_size as u64) as u32;
    let tokens: Vec<u32> = (0..=POSITIONS).map(|_| token()).collect();
    let gold_ids = tokens[1..].to_vec();
    let stride = (vocab_size / KEPT) as u32;
    let class_ids: Vec<Vec<u32>> =
        (0..POSITIONS).map(|_| (0..KEPT as u32).map(|i| i * stride + token() % stride).collect()).collect();
    let log_probs: Vec<f32> = (0..KEPT).map(|i| -1.0 - 0.15 * i as f32).collect();
    let rows: Vec<SoftRow> = class_ids
        .iter()
        .map(|class_ids| SoftRow {
            class_ids,
            log_probs: &log_probs,
            gold: Gold { log_prob: -3.0, rank: 5 },
            tail: Tail { joined: &[-4.0, -5.0, -6.0, -7.0, -8.0], ..Tail::default() },
            ..SoftRow::default()
        })
        .collect();
    Batch {
        sequences: Sequences::in_rows(1, tokens.len()),
        tokens,
        sample_ids: vec![number],
        sources: Vec::new(),
        positions: (0..POSITIONS as u32).collect(),
        targets: Some(TargetBatch::of_rows(&rows, &gold_ids, &TargetSpec::default())),
        second: None,
        vectors: None,
        gold_ids,
    }
}

fn labels_alone(batch: &Batch) -> Batch {
    Batch { targets: None, ..batch.clone() }
}

/// A line of /proc/self/status in MiB; 0 where there is none.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The head's product and the loss of all windows in one batch.
fn loss_alone(kind: &str, vocab_size: usize, device: &Device) {
    let windows: Vec<Batch> = (0..windows(device) as u64).map(|number| window(number, vocab_size)).collect();
    let whole = joined(&windows);
    let n = whole.positions.len();
    let numbers = |stream, count: usize| {
        let mut rng = CounterRng::new("step bench tensors", &[stream]);
        (0..count).map(|_| 0.2 * rng.normal() as f32).collect::<Vec<_>>()
    };
    let device = device.clone().autodiff();
    let tensor = |stream, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(numbers(stream, shape[0] * shape[1]), shape), &device).require_grad()
    };
    let (hidden, head) = (tensor(0, [n, HIDDEN]), tensor(1, [HIDDEN, vocab_size]));
    let batch = if kind == "labels" { labels_alone(&whole) } else { whole.clone() };
    let loss = if kind == "labels" { LossAtStep::LABELS } else { distilled() };
    let pass = |kind: &str| match kind {
        "composed" => composed(&hidden, &head, &batch, &loss),
        _ => in_pieces(&hidden, &head, &batch, &loss, ((64 << 20) / (4 * vocab_size)).max(1)),
    };
    let start = status("VmHWM");
    let mut seconds = Vec::new();
    let mut last = 0.0;
    for _ in 0..WARM + 7 {
        let clock = Instant::now();
        last = pass(kind);
        seconds.push(clock.elapsed().as_secs_f64());
    }
    let peak = status("VmHWM") - start;
    // Last, so that the other way's memory is not this one's.
    let other = pass(if kind == "composed" { "pieces" } else { "composed" });
    assert!((last - other).abs() < 1e-3 * other.abs(), "{kind}: {last}, the other way {other}");
    println!("| {kind} | {vocab_size} | {:.1} | {peak:.0} |", 1e3 * median(seconds.split_off(WARM)));
}

/// All windows as the rows of one batch.
fn joined(windows: &[Batch]) -> Batch {
    let [_, width] = windows[0].sequences.shape();
    let shift = |(row, window): (usize, &Batch)| {
        let first = (row * width) as u32;
        window.positions.iter().map(move |p| p + first).collect::<Vec<_>>()
    };
    let targets: Vec<&TargetBatch> = windows.iter().map(|w| w.targets.as_ref().unwrap()).collect();
    let all = |of: &dyn Fn(&TargetBatch) -> Vec<f32>| targets.iter().flat_map(|t| of(t)).collect::<Vec<f32>>();
    let first = targets[0];
    Batch {
        sequences: Sequences::in_rows(windows.len(), width),
        tokens: windows.iter().flat_map(|w| w.tokens.clone()).collect(),
        sample_ids: (0..windows.len() as u64).collect(),
        sources: Vec::new(),
        positions: windows.iter().enumerate().flat_map(shift).collect(),
        gold_ids: windows.iter().flat_map(|w| w.gold_ids.clone()).collect(),
        targets: Some(TargetBatch {
            class_ids: targets.iter().flat_map(|t| t.class_ids.clone()).collect(),
            log_probs: all(&|t| t.log_probs.clone()),
            tail_logits: all(&|t| t.tail_logits.clone()),
            tail_log_weights: all(&|t| t.tail_log_weights.clone()),
            gold_log_probs: all(&|t| t.gold_log_probs.clone()),
            ..first.clone()
        }),
        second: None,
        vectors: None,
    }
}

/// Sum of the absolute gradients: what proves an answer, and waits for the device.
fn judged(hidden: Tensor<2>, head: Tensor<2>) -> f64 {
    let sum = |x: Tensor<2>| f64::from(x.abs().sum().into_scalar::<f32>());
    sum(hidden) + sum(head)
}

fn in_pieces(hidden: &Tensor<2>, head: &Tensor<2>, batch: &Batch, loss: &LossAtStep, piece: usize) -> f64 {
    let sums =
        head_loss(hidden.clone(), &Head::new(head.clone(), false), batch, &TokenDecisions::default(), loss, piece);
    let grads = sums.surrogate.unwrap().backward();
    judged(hidden.grad(&grads).unwrap(), sums.of_head.unwrap())
}

/// The same composed of tensor operations over all positions, autodiff doing the rest.
fn composed(hidden: &Tensor<2>, head: &Tensor<2>, batch: &Batch, loss: &LossAtStep) -> f64 {
    let device = hidden.device();
    let n = batch.gold_ids.len();
    let ids: Vec<i64> = batch.gold_ids.iter().map(|&id| i64::from(id)).collect();
    let gold = Tensor::<2, Int>::from_data(TensorData::new(ids, [n, 1]), &device);
    let teacher = batch.targets.as_ref().map(|targets| DeviceTargets::new(targets, &device));
    let logits = hidden.clone().matmul(head.clone());
    let piece = ChunkLoss::new(loss, &TokenDecisions::default(), teacher.as_ref(), &logits);
    let student = student(logits, gold, teacher.as_ref(), &piece);
    let grads = total(&token_losses(&student, teacher.as_ref(), &piece), &piece, &student).backward();
    judged(hidden.grad(&grads).unwrap(), head.grad(&grads).unwrap())
}

/// The sides that are compared.
const LABELS: usize = 0;
const DISTILLED: usize = 1;

/// The recipes' student, and the windows and the loss of each side.
fn recipe(vocab_size: usize, device: &Device) -> (ModelConfig, [(Vec<Batch>, LossAtStep); 2]) {
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "hidden_size": HIDDEN, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2
    }))
    .unwrap();
    let taught: Vec<Batch> = (0..windows(device) as u64).map(|number| window(number, vocab_size)).collect();
    let bare: Vec<Batch> = taught.iter().map(labels_alone).collect();
    let config = config.resolved(vocab_size, POSITIONS + 1).unwrap();
    (config, [(bare, LossAtStep::LABELS), (taught, distilled())])
}

/// One side alone, for what memory it takes.
fn run_alone(side: usize, vocab_size: usize, device: &Device) {
    let (config, sides) = recipe(vocab_size, device);
    let (parts, loss) = &sides[side];
    let mut model = weights::init(&config, 0, &device.clone().autodiff());
    let mut optimizer = AdamWConfig::new().init();
    let start = status("VmRSS");
    for _ in 0..13 {
        model = step(model, &mut optimizer, parts, loss, device == &Device::flex());
    }
    let name = if side == LABELS { "labels alone" } else { "distilled" };
    println!("| {name} | {vocab_size} | {:.0} |", status("VmHWM") - start);
}

/// Forward to optimizer, by turns on labels alone and distilled.
fn whole_step(vocab_size: usize, device: &Device) {
    let (config, sides) = recipe(vocab_size, device);
    let side_by_side = device == &Device::flex();
    let mut models = [0, 1].map(|_| Some(weights::init(&config, 0, &device.clone().autodiff())));
    let mut optimizers = [0, 1].map(|_| AdamWConfig::new().init());
    let mut seconds = [Vec::new(), Vec::new()];
    for turn in 0..WARM + 30 {
        // Now this one first, now that one: whoever comes second finds the allocator as the first one left it.
        for side in [turn % 2, 1 - turn % 2] {
            let (parts, loss) = &sides[side];
            let clock = Instant::now();
            let model = models[side].take().unwrap();
            models[side] = Some(step(model, &mut optimizers[side], parts, loss, side_by_side));
            seconds[side].push(clock.elapsed().as_secs_f64());
        }
    }
    let seconds = seconds.map(|mut seconds| seconds.split_off(WARM));
    let best = seconds.each_ref().map(|seconds| seconds.iter().copied().fold(f64::INFINITY, f64::min));
    let [labels, distilled] = seconds.map(|seconds| 1e3 * median(seconds));
    let ratios = [distilled / labels, best[1] / best[0]];
    println!("| {HIDDEN} x 3 | {vocab_size} | {labels:.1} | {distilled:.1} | {:.3} | {:.3} |", ratios[0], ratios[1]);
}

fn step(
    model: Model,
    optimizer: &mut ModuleOptimizer,
    parts: &[Batch],
    loss: &LossAtStep,
    side_by_side: bool,
) -> Model {
    let backward = |part: &Batch| {
        let fork = model.clone().fork(&model.device());
        let mut sums = loss_totals(&fork, part, loss);
        let grads = gradients(&fork, &mut sums, parts.len() * POSITIONS).unwrap();
        (grads, f64::from(sums.loss.unwrap().into_scalar::<f32>()))
    };
    let done: Vec<_> = match side_by_side {
        true => parts.par_iter().map(backward).collect(),
        false => parts.iter().map(backward).collect(),
    };
    let mut accumulator = GradientsAccumulator::new();
    for (grads, value) in done {
        assert!(value.is_finite() && value > 0.0);
        accumulator.accumulate(&model, grads);
    }
    let model = optimizer.step(1e-4, model, accumulator.grads());
    // Waits for the device.
    assert!(model.state_dict().all(|(_, _, values)| values[0].is_finite()));
    model
}
