//! Evaluates a divergence of your own, here Rényi's, between a cached row at a temperature and a student's logits.
//!
//! Run it with `cargo run --release --example custom_divergence FOLDER`. Without a folder a tiny cache is written first.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod common;

use anyhow::{Context, Result};
use logitcask_core::divergence::{Remainder, compare};
use logitcask_core::math::log_sum_exp;
use logitcask_core::rng::CounterRng;
use logitcask_core::{Divergence, SampleId, TailPolicy, TemperedRow};

fn main() -> Result<()> {
    let (cache, _temporary) = common::open_cache()?;
    let split = common::first_split(&cache)?;
    let cached = cache.get(&split, SampleId(0))?;
    let row = cached.rows.iter().next().context("the sample has no position")?;
    // A student that was not trained: one random logit for each class.
    let mut rng = CounterRng::new("example student", &[]);
    let student: Vec<f64> = (0..cache.plan().vocab_size).map(|_| rng.normal()).collect();

    for temperature in [1.0, 2.0] {
        // The classes that were not kept become one class, on both sides: the sum over all terms is then 1 on both.
        let teacher = TemperedRow::of(&row, temperature, TailPolicy::Bucket);
        let terms = terms(&teacher, &student, temperature);
        let mass: f64 = terms.iter().map(|(log_p, _)| log_p.exp()).sum();
        println!("T = {temperature}: {} terms that hold {mass:.4} of the teacher's probability", terms.len());
        for alpha in [0.5, 0.999_999, 2.0] {
            println!("  Rényi at alpha = {alpha}: {:.4} nats", renyi(&terms, alpha));
        }
        // It comes with its gradient with respect to each of the student's logits.
        let forward_kl = compare(Divergence::ForwardKl {}, &student, temperature, &teacher);
        println!("  forward KL, its limit at alpha = 1: {:.4} nats", forward_kl.loss);
        let difference = (renyi(&terms, 0.999_999) - forward_kl.loss).abs();
        println!("  the two differ by less than 1e-3: {}", difference < 1e-3);
    }
    Ok(())
}

/// Rényi's divergence of order alpha: log of the sum of p^alpha q^(1 - alpha), over alpha - 1.
fn renyi(terms: &[(f64, f64)], alpha: f64) -> f64 {
    let log_terms: Vec<f64> = terms.iter().map(|(log_p, log_q)| alpha * log_p + (1.0 - alpha) * log_q).collect();
    log_sum_exp(&log_terms) / (alpha - 1.0)
}

/// Teacher's and student's log-probability of each kept class, and of all other classes together.
fn terms(teacher: &TemperedRow, student: &[f64], temperature: f64) -> Vec<(f64, f64)> {
    let scaled: Vec<f64> = student.iter().map(|logit| logit / temperature).collect();
    let log_z = log_sum_exp(&scaled);
    let log_q = |id: u32| scaled[id as usize] - log_z;
    let mut terms: Vec<(f64, f64)> =
        teacher.class_ids.iter().zip(&teacher.log_probs).map(|(&id, &log_p)| (log_p, log_q(id))).collect();
    // A dense row has no others.
    if let Remainder::Bucket { log_mass } = teacher.rest {
        let others = (0..student.len() as u32).filter(|id| !teacher.class_ids.contains(id));
        terms.push((log_mass, log_sum_exp(&others.map(log_q).collect::<Vec<_>>())));
    }
    terms
}
