//! Opens a cache, reads it in order and shuffled, and prints what the teacher said at one position.
//!
//! Run it with `cargo run --release --example open_a_cache FOLDER`. Without a folder a tiny cache is written first.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod common;

use anyhow::{Context, Result};
use logitcask_core::SampleId;
use logitcask_data::TextTokenizer;

fn main() -> Result<()> {
    // Opening reads the plan and the manifest's root alone. A row group is read and checked when a sample of it is asked for.
    let (cache, _temporary) = common::open_cache()?;
    let plan = cache.plan();
    println!("cache {} of teacher `{}`", cache.cache_id().short(), plan.teacher.name);
    for split in cache.splits() {
        println!("split {split}: {} samples", cache.len(split)?);
    }
    let split = common::first_split(&cache)?;

    // Every sample by ascending id. An item is a result, for its shard may turn out to be damaged.
    let (mut samples, mut positions) = (0, 0);
    for cached in cache.in_order(&split)? {
        samples += 1;
        positions += cached?.rows.len();
    }
    println!("in order: {samples} samples with {positions} positions");

    // The order depends on a seed and an epoch alone; the last number skips samples, so that a run can be resumed.
    let (seed, epoch, skip) = (7, 0, 0);
    let shuffled = cache.shuffled(&split, seed, epoch, skip)?.take(6);
    let ids: Vec<u64> = shuffled.map(|cached| cached.map(|cached| cached.sample.id.0)).collect::<Result<_, _>>()?;
    println!("shuffled: {ids:?} ...");

    // One sample, and the tokenizer that made its tokens.
    let cached = cache.get(&split, SampleId(0))?;
    let added: Vec<(u32, String)> = plan.added_tokens.iter().map(|token| (token.id, token.content.clone())).collect();
    let tokenizer = TextTokenizer::from_json_bytes(&std::fs::read(cache.tokenizer_path())?, &added, plan.end)?;

    // The row at position i speaks of the token that follows token i.
    let position = cached.rows.len() / 2;
    let row = cached.rows.iter().nth(position).context("the sample has no such position")?;
    println!("after {:?}:", tokenizer.decode(&cached.sample.input_ids[..=position])?);
    println!("{:>16} {:>8} {:>8} {:>8}", "kept class", "id", "p", "logit");
    for (&id, &log_prob) in row.class_ids.iter().zip(row.log_probs) {
        // Log-probabilities are at T = 1 over the whole vocabulary, so log Z gives the raw logit back.
        let (p, logit) = (log_prob.exp(), log_prob + row.log_z);
        println!("{:>16} {id:>8} {p:>8.4} {logit:>8.3}", tokenizer.token_text(id));
    }
    println!("all others together: p = {:.4}", row.tail_mass(1.0));
    let label = cached.sample.labels()[position];
    let (p, rank) = (row.gold.log_prob.exp(), row.gold.rank);
    println!("label `{}`: p = {p:.6}, {rank} classes before it", tokenizer.token_text(label));
    Ok(())
}
