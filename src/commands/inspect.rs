//! `logitcask inspect`.

use crate::args::InspectArgs;
use crate::caches;
use crate::output::{counted, say};
use crate::summary::CacheFigures;
use crate::taught::Marks;
use crate::tokenizers;
use anyhow::{Result, bail};
use indicatif::{HumanBytes, HumanCount};
use logitcask_cache::{ArtifactRef, CacheReader, CachedSample, Manifest, Plan};
use logitcask_core::{SampleId, TailSource};
use logitcask_data::TextTokenizer;
use serde::Serialize;

/// Number of kept classes shown per position.
const SHOWN: usize = 5;

/// Default number of positions shown of a sample.
const POSITIONS: usize = 16;

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    figures: CacheFigures,
    plan: &'a Plan,
    manifest: &'a Manifest,
}

/// Shows a cache, or one of its samples.
pub fn run(args: &InspectArgs) -> Result<()> {
    let cache = caches::open(&args.cache)?;
    if let (Some(split), None) = (&args.split, args.sample) {
        let last = cache.len(split)?.saturating_sub(1);
        bail!("--split chooses the split of a sample: also name a sample with --sample 0 to --sample {last}");
    }
    match (args.sample, args.json) {
        (Some(id), _) => show_sample(&cache, args, SampleId(id)),
        (None, true) => {
            let figures = CacheFigures::of(cache.manifest());
            say!(
                "{}",
                serde_json::to_string_pretty(&Report { figures, plan: cache.plan(), manifest: cache.manifest() })?
            );
            Ok(())
        }
        (None, false) => show_cache(&cache),
    }
}

fn show_cache(cache: &CacheReader) -> Result<()> {
    let (plan, manifest) = (cache.plan(), cache.manifest());
    let figures = CacheFigures::of(manifest);
    say!("{}", cache.folder().display());
    say!("  cache id     {}", figures.cache_id);
    say!("  plan         {}", manifest.plan_id);
    say!("  format       version {}, made by {}", plan.format_version, maker(&plan.code_version));
    say!("  teacher      {}, {}", pinned(&plan.teacher), plan.precision);
    say!("  dataset      {}", pinned(&plan.dataset));
    say!("  tokenizer    {}, vocabulary {}", plan.tokenizer.fingerprint.short(), plan.vocab_size);
    if plan.keep.padding > 0 {
        say!(
            "  padding      {} classes after the vocabulary belong to no token: part of log Z and the tail, never kept",
            plan.keep.padding
        );
    }
    say!("  special      special tokens spelled out in texts: {}", plan.special_tokens);
    for (name, value) in &plan.conversations {
        say!("  chats        {name}: {value}");
    }
    if !plan.positions.is_all() {
        say!("  chosen       positions: {}", plan.positions);
    }
    say!("  keeps        {}, layout {}", plan.selection(), plan.layout.name());
    for extra in &plan.extras {
        say!("  column       {extra}");
    }
    if !plan.keep.source.is_full() {
        say!("  source       told {}", plan.keep.source);
    }
    for split in cache.splits() {
        say!("  {split:<12} {}", counted(cache.len(split)?, "samples"));
    }
    say!("  shards       {}, {}", plan.unit_count(), HumanBytes(figures.bytes));
    say!("  positions    {}, {:.1} bytes each", HumanCount(figures.positions), figures.bytes_per_position);
    say!(
        "  kept classes {}, {:.3} bytes each, including all other data",
        HumanCount(figures.entries),
        figures.bytes_per_entry
    );
    say!("  kept mass    {:.4} on average at T = 1", figures.kept_mass);
    say!("  rounding     at most {:.1e} nats, {:.1e} on average", figures.codec_error.worst, figures.codec_error.mean);
    show_log_z_error(plan, &figures);
    Ok(())
}

/// The program that wrote a cache: only ours state a version.
fn maker(code_version: &str) -> String {
    if code_version.is_empty() { "another program".to_owned() } else { format!("logitcask {code_version}") }
}

/// A pin's name, which a plan may leave out, and its fingerprint.
fn pinned(pin: &ArtifactRef) -> String {
    let name = if pin.name.is_empty() { "unnamed" } else { &pin.name };
    format!("{name} ({})", pin.fingerprint.short())
}

/// Shows the error of log Z at a few temperatures.
fn show_log_z_error(plan: &Plan, figures: &CacheFigures) {
    match plan.keep.source.tail {
        TailSource::Atoms => {}
        TailSource::Mass => say!("  tail         its probability at T = 1 alone: no log Z at another temperature"),
        TailSource::None => say!("  tail         unknown: rows are renormalised over the kept classes, or not used"),
    }
    let Some(tail) = plan.keep.tail else { return };
    say!(
        "  tail         {} atoms for T = {} to {}; error of log Z in nats, over all rows:",
        tail.atoms,
        tail.lowest_temperature,
        tail.highest_temperature
    );
    say!("               {:>8} {:>9} {:>9}", "T", "worst", "mean");
    // Every second temperature lies between two at which the tail atoms are exact, where the error is largest.
    for error in figures.log_z_error.iter().rev().skip(1).step_by(2) {
        say!("               {:>8.3} {:>9.1e} {:>9.1e}", error.temperature, error.worst, error.mean);
    }
}

fn show_sample(cache: &CacheReader, args: &InspectArgs, id: SampleId) -> Result<()> {
    let tokenizer = tokenizers::of_cache(cache)?;
    let split = args.split.as_deref().unwrap_or("train");
    let columns: Vec<&str> = cache.plan().extras.iter().map(|extra| extra.name.as_str()).collect();
    let row = cache.with_extras(&columns)?.get(split, id)?;
    let sample = &row.sample;
    say!(
        "{} sample {}: {}, document {} from its token {}, input hash {}",
        split,
        id.0,
        counted(sample.input_ids.len() as u64, "tokens"),
        sample.origin.document,
        sample.origin.offset,
        sample.input_hash()
    );
    let marks = Marks::of_output();
    match marks.write(sample, &tokenizer)? {
        Some(text) => say!("{text}\n({})\n", marks.legend),
        None => say!("{}\n", tokenizer.decode(&sample.input_ids)?.trim()),
    }
    show_positions(&row, &tokenizer, args.positions.unwrap_or(POSITIONS));
    for (extra, numbers) in cache.plan().extras.iter().zip(&row.rows.extras) {
        let first: Vec<String> = numbers.values.iter().take(SHOWN).map(|number| format!("{number:.4}")).collect();
        say!("{}: {} numbers, {} ...", extra.name, numbers.values.len(), first.join(" "));
    }
    Ok(())
}

/// Shows so many positions of a sample, from the first one on that is cached.
fn show_positions(row: &CachedSample, tokenizer: &TextTokenizer, count: usize) {
    say!(
        "{:>4}  {:<14} {:<14} {:>8} {:>5}  {:>7} {:>7}  kept, largest first",
        "pos",
        "token",
        "next token",
        "log p",
        "rank",
        "log Z",
        "mass"
    );
    let mut cached = row.sample.position_indices().zip(row.rows.iter()).peekable();
    // A conversation may begin with a long prompt, of which nothing is cached.
    let first = cached.peek().map_or(0, |(position, _)| *position);
    if first > 0 {
        say!("{:>4}  positions 0 to {} are not cached", "", first - 1);
    }
    for position in first..row.sample.next_tokens().min(first + count) {
        let [token, next] = [position, position + 1].map(|index| tokenizer.token_text(row.sample.input_ids[index]));
        let Some((_, soft)) = cached.next_if(|(cached, _)| *cached == position) else {
            say!("{position:>4}  {token:<14} {next:<14} not cached");
            continue;
        };
        let kept: Vec<String> = soft
            .class_ids
            .iter()
            .zip(soft.log_probs)
            .take(SHOWN)
            .map(|(&id, lp)| format!("{} {:.2}", tokenizer.token_text(id), lp.exp()))
            .collect();
        // What the source did not tell is shown as missing.
        let known = |is_known: bool, number: String| if is_known { number } else { "-".to_owned() };
        let is_gold = soft.gold.is_known();
        say!(
            "{position:>4}  {token:<14} {next:<14} {:>8} {:>5}  {:>7} {:>7.4}  {}",
            known(is_gold, format!("{:.3}", soft.gold.log_prob)),
            known(is_gold, soft.gold.rank.to_string()),
            known(!soft.log_z.is_nan(), format!("{:.2}", soft.log_z)),
            soft.kept_mass(),
            kept.join(" | ")
        );
    }
}
