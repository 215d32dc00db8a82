//! Brings one cached row to several temperatures: its log Z and the probability of the classes that were not kept.
//!
//! Run it with `cargo run --release --example log_z_at_a_temperature FOLDER`. Without a folder a tiny cache is written first.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod common;

use anyhow::{Context, Result, ensure};
use logitcask_core::math::log_sum_exp;
use logitcask_core::{SampleId, SoftRow, TailSource};

fn main() -> Result<()> {
    let (cache, _temporary) = common::open_cache()?;
    // A server's log-probabilities have no log Z, and a tail of which only the mass is known has no temperature but 1.
    let source = cache.plan().keep.source;
    let is_told = source.log_z && source.tail == TailSource::Atoms;
    ensure!(is_told, "log Z at a temperature does not follow from what the cache's source told: {source}");
    let split = common::first_split(&cache)?;
    let cached = cache.get(&split, SampleId(0))?;
    let row = cached.rows.iter().next().context("the sample has no position")?;
    println!("{} classes kept of {}, log Z = {:.4}", row.class_ids.len(), cache.plan().vocab_size, row.log_z);

    // The tail's atoms answer for the temperatures that the plan names; a dense cache needs none, it has no tail.
    if let Some(tail) = cache.plan().keep.tail {
        let (low, high) = (tail.lowest_temperature, tail.highest_temperature);
        println!("{} atoms stand for all others at T = {low} to {high}", tail.atoms);
    }
    println!("{:>6} {:>10} {:>10} {:>10} {:>10}", "T", "log Z", "by hand", "tail", "entropy");
    for temperature in [0.75, 1.0, 2.0, 10.0] {
        let log_z = row.log_z_at(temperature);
        let by_hand = log_z_by_hand(&row, temperature);
        let (tail, entropy) = (row.tail_mass(temperature), row.entropy(temperature));
        println!("{temperature:>6} {log_z:>10.4} {by_hand:>10.4} {tail:>10.4} {entropy:>10.4}");
    }

    // How far such a log Z is from that of the full row was measured at every position when the cache was written.
    for error in &cache.manifest().totals.log_z_error {
        println!("measured error of log Z at T = {:.3}: {:.1e} nats at worst", error.temperature, error.worst);
    }
    Ok(())
}

/// log Z at a temperature T is the log-sum-exp of the raw logits over T. With b = 1 / T and the raw logit of a class being
/// log p + log Z(1), that is b log Z(1) + log of the sum of e^(b log p) over all classes. The kept classes are known one by
/// one; an atom (x, w) of the tail adds e^(w + (b - reference) x).
fn log_z_by_hand(row: &SoftRow<'_>, temperature: f64) -> f64 {
    let b = 1.0 / temperature;
    // Classes that were drawn at random are not counted: they are some of the tail's.
    let kept = row.certain().iter().map(|&log_prob| b * f64::from(log_prob));
    let tail = row.tail.atoms.iter().map(|atom| atom.log_term(b, row.tail.reference));
    b * f64::from(row.log_z) + log_sum_exp(&kept.chain(tail).collect::<Vec<_>>())
}
