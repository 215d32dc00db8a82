//! Takes one training step of a small Llama student from a cache, on the CPU, and shows that its loss falls.
//!
//! Run it with `cargo run --release --example student_step FOLDER`. Without a folder a tiny cache is written first. A whole
//! run, with schedules, checkpoints and validation, is [`logitcask_train::Trainer`]; this is what it does inside.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod common;

use anyhow::{Context, Result};
use burn::optim::AdamWConfig;
use logitcask_core::TailPolicy;
use logitcask_core::temperature::TemperaturePair;
use logitcask_model::{DeviceChoice, ModelConfig, weights};
use logitcask_train::Source;
use logitcask_train::batch::Batch;
use logitcask_train::loss::{LossAtStep, LossTotals, TermAtStep};
use logitcask_train::source::DistillSample;
use logitcask_train::target_spec::TargetSpec;
use logitcask_train::update::{gradients, loss_totals};

fn main() -> Result<()> {
    let (cache, _temporary) = common::open_cache()?;
    let split = common::first_split(&cache)?;
    let (vocab_size, max_length) = (cache.plan().vocab_size as usize, cache.plan().max_length as usize);

    // Four samples with what the teacher said about them, padded to a rectangle.
    let samples = Source::Cache(cache).shuffled(&split, 0, 0, 0)?.take(4);
    let samples: Vec<DistillSample> = samples.collect::<Result<_, _>>()?;
    let batch = Batch::new(&samples, Some(&TargetSpec::default()))?;
    let positions = batch.positions.len();
    println!("{} samples, {positions} positions", batch.sequences.count());

    // Forward KL at T = 2 on both sides, times T squared; the classes that were not kept are one class.
    let loss = LossAtStep::teacher(TermAtStep {
        temperatures: TemperaturePair::same(2.0),
        tail: TailPolicy::Bucket,
        ..TermAtStep::FORWARD_KL
    });

    // The shape is what a recipe's [student] says; the cache knows the number of classes and the longest sample.
    let shape: ModelConfig = serde_json::from_value(serde_json::json!({
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    }))?;
    let shape = shape.resolved(vocab_size, max_length)?;
    let (device, _) = DeviceChoice::Cpu.open()?;
    let student = weights::init(&shape, 0, &device.autodiff());
    println!("student of {} parameters", shape.parameters());

    // Forward, loss, backward, optimizer. The sums are over positions, so the gradient is divided by their number.
    let mut optimizer = AdamWConfig::new().init();
    let mut sums = loss_totals(&student, &batch, &loss);
    let before = mean(&sums, positions)?;
    let grads = gradients(&student, &mut sums, positions)?;
    let student = optimizer.step(1e-2, student, grads);

    let after = mean(&loss_totals(&student, &batch, &loss), positions)?;
    println!("loss before the step: {before:.4}");
    println!("loss after the step: {after:.4}");
    println!("the loss fell: {}", after < before);
    Ok(())
}

/// The mean loss over the positions of a batch.
fn mean(sums: &LossTotals, positions: usize) -> Result<f64> {
    let loss = sums.loss.clone().context("the batch has no position")?;
    Ok(f64::from(loss.into_scalar::<f32>()) / positions as f64)
}
