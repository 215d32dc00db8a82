//! Compares a cached row at a temperature with a student's logits by a divergence of your own, here the triangular
//! discrimination, and gets its gradient without writing one.
//!
//! Run it with `cargo run --release --example custom_divergence FOLDER`. Without a folder a tiny cache is written first.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod common;

use anyhow::{Context, Result};
use logitcask_core::divergence::{Hellinger, Number, Properties, SumOverClasses, compare};
use logitcask_core::rng::CounterRng;
use logitcask_core::{SampleId, TailPolicy, TemperedRow};

/// Half of the sum of (p - q)² / (p + q): it lies between the squared Hellinger distance and twice that.
struct TriangularDiscrimination;

/// Nothing about it is special: it needs no label and goes with every tail policy.
impl Properties for TriangularDiscrimination {}

impl SumOverClasses for TriangularDiscrimination {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let (p, q) = (log_p.exp(), log_q.exp());
        let difference = p.clone() - q.clone();
        difference.clone() * difference / (p + q) * 0.5
    }
}

fn main() -> Result<()> {
    let (cache, _temporary) = common::open_cache()?;
    let split = common::first_split(&cache)?;
    let cached = cache.get(&split, SampleId(0))?;
    let row = cached.rows.iter().next().context("the sample has no position")?;
    // A student that was not trained: one random logit for each class.
    let mut rng = CounterRng::new("example student", &[]);
    let student: Vec<f64> = (0..cache.plan().vocab_size).map(|_| rng.normal()).collect();

    for temperature in [1.0, 2.0] {
        // The classes that were not kept become one class, on both sides.
        let teacher = TemperedRow::of(&row, temperature, TailPolicy::Bucket);
        let own = compare(TriangularDiscrimination, &student, temperature, &teacher);
        let hellinger = compare(Hellinger {}, &student, temperature, &teacher).loss;
        println!("T = {temperature}: {:.4}, squared Hellinger distance {hellinger:.4}", own.loss);
        println!("  within its bounds: {}", (hellinger..=2.0 * hellinger).contains(&own.loss));
        // d loss / d logit of each class of the student.
        let steepest = own.gradient.iter().fold(0.0f64, |most, slope| most.max(slope.abs()));
        println!("  steepest slope of a logit: {steepest:.5}");
    }
    Ok(())
}
