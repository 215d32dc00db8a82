//! Opening caches of one to ten million shards, and finding one of the shards: time and peak memory.
//!
//! `make bench-open`; prints a table of benches/README.md. The manifests are made up and there are no shards. Of the parts
//! only the one with the unit that is looked up is written, since no other is read. Every case runs in a process of its
//! own, so that its peak is its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_cache::{
    ArtifactRef, CacheReader, CodecError, Commit, FORMAT_VERSION, Layout, LogZError, Manifest, ManifestPart, Plan,
    REFUSE_SPECIAL_TOKENS, ShardRange, Totals, Versions,
};
use logitcask_core::{Fingerprint, LogProbPrecision, PositionChoice, RowSource, Selection, TailRule, Truncation};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The cache that a process opens.
const CASE: &str = "LOGITCASK_BENCH_CASE";
/// As by default: eight blocks of 128 rows.
const SAMPLES_PER_UNIT: u64 = 1024;
const POSITIONS: u64 = 255;
const KEPT: u64 = 64;
const TOKENIZER: &[u8] = b"{}";

fn plan(shards: u64) -> Plan {
    let pin = |bytes: &[u8]| ArtifactRef { name: "bench".into(), fingerprint: Fingerprint::of(bytes) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "bench".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout: Layout::Packed,
        vocab_size: 32_000,
        max_length: POSITIONS as u32 + 1,
        precision: "f32".into(),
        batch_tokens: 1,
        extras: Vec::new(),
        keep: Truncation {
            selection: Selection::TopK { k: KEPT as u32 },
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            tail: Some(tail),
            padding: 0,
            source: RowSource::FULL,
        },
        teacher: pin(b"teacher"),
        tokenizer: pin(TOKENIZER),
        bos: None,
        end: None,
        dataset: pin(b"dataset"),
        companions: Vec::new(),
        positions: PositionChoice::All {},
        splits: Plan::splits_of(&[("train".into(), shards * SAMPLES_PER_UNIT)]),
        samples_per_unit: SAMPLES_PER_UNIT,
    }
}

/// A commit as of a real unit; the hashes are made up.
fn commit(plan: &Plan, unit: usize) -> Commit {
    let range = plan.unit(unit);
    let hash = |number: u64| Fingerprint::of(&[unit as u64, number].map(u64::to_le_bytes).concat());
    let groups = range.samples().div_ceil(plan.rows_per_group());
    let ranges: Vec<_> = (0..=groups).map(|n| ShardRange { bytes: 4_000_000 + n, blake3: hash(n) }).collect();
    let inverse = |i: usize, grid: &[f64]| (1e6 / grid[i]).round() / 1e6;
    let grid = plan.keep.tail.unwrap().grid();
    let error = |i| LogZError { temperature: inverse(i, &grid), worst: 0.001_046_082, mean: 0.000_271_897 };
    Commit {
        unit: unit as u32,
        split: range.split.to_owned(),
        start: range.start,
        end: range.end,
        shard: plan.shard_name(unit),
        rows: range.samples(),
        positions: range.samples() * POSITIONS,
        entries: range.samples() * POSITIONS * KEPT,
        bytes: ranges.iter().map(|range| range.bytes).sum(),
        ranges,
        kept_mass: 0.947_347_862,
        log_z_error: (0..grid.len()).map(error).collect(),
        codec_error: CodecError { worst: 0.003_906_25, mean: 0.000_812_345 },
    }
}

fn hash(value: &impl Serialize) -> Fingerprint {
    Fingerprint::of(&serde_json_canonicalizer::to_vec(value).unwrap())
}

/// Writes a cache of so many shards as far as it is read; returns the lengths of its root and of the part in the middle.
fn write(folder: &Path, shards: u64) -> [usize; 2] {
    let plan = plan(shards);
    let per_part = plan.units_per_part();
    let middle = plan.unit_count() / 2 / per_part;
    let units = middle * per_part..plan.unit_count().min((middle + 1) * per_part);
    let commits: Vec<Commit> = units.map(|unit| commit(&plan, unit)).collect();
    let sum = |of: fn(&Commit) -> u64| commits.iter().map(of).sum::<u64>();
    // Every part is said to have the numbers of this one.
    let part = ManifestPart {
        blake3: hash(&commits),
        positions: sum(|commit| commit.positions),
        entries: sum(|commit| commit.entries),
        bytes: sum(|commit| commit.bytes),
    };
    let parts = plan.part_count() as u64;
    let Commit { kept_mass, log_z_error, codec_error, .. } = commits[0].clone();
    let totals = Totals {
        rows: shards * SAMPLES_PER_UNIT,
        positions: parts * part.positions,
        entries: parts * part.entries,
        bytes: parts * part.bytes,
        kept_mass,
        log_z_error,
        codec_error,
    };
    let root =
        Manifest { format_version: FORMAT_VERSION, plan_id: plan.id(), totals, parts: vec![part; parts as usize] };
    let json = [serde_json::to_vec_pretty(&root).unwrap(), serde_json::to_vec(&commits).unwrap()];
    fs::create_dir(folder.join("_manifest")).unwrap();
    fs::write(folder.join("plan.json"), serde_json::to_vec_pretty(&plan).unwrap()).unwrap();
    fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
    fs::write(folder.join("manifest.json"), &json[0]).unwrap();
    fs::write(folder.join(format!("_manifest/{middle:05}.json")), &json[1]).unwrap();
    json.map(|bytes| bytes.len())
}

/// A line of /proc/self/status in MiB; 0 where there is none.
fn status(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Opens the cache and looks a unit up; prints seconds and the peak of memory after each.
fn open(folder: &Path) {
    let before = status("VmHWM");
    let clock = Instant::now();
    let reader = CacheReader::open(folder).unwrap();
    let opened = (clock.elapsed().as_secs_f64(), status("VmHWM") - before);
    let unit = reader.plan().unit_count() / 2;
    let clock = Instant::now();
    assert_eq!(reader.commit(unit).unwrap(), commit(reader.plan(), unit));
    let found = (clock.elapsed().as_secs_f64(), status("VmHWM") - before);
    println!("{} {} {} {}", 1e3 * opened.0, opened.1, 1e3 * found.0, found.1);
}

fn main() {
    if let Ok(folder) = std::env::var(CASE) {
        return open(Path::new(&folder));
    }
    println!(
        "| shards | root, KiB | open, ms | peak memory, MiB | a part, KiB | first look-up, ms | peak memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for shards in [1, 1_000, 100_000, 10_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let [root, part] = write(folder.path(), shards).map(|bytes| bytes.div_ceil(1024));
        // The best of five processes.
        let run = |_| {
            let child = Command::new(std::env::current_exe().unwrap()).env(CASE, folder.path()).output().unwrap();
            let text = String::from_utf8(child.stdout).unwrap();
            text.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<f64>>()
        };
        let runs: Vec<Vec<f64>> = (0..5).map(run).collect();
        let best = |column: usize| runs.iter().map(|run| run[column]).fold(f64::INFINITY, f64::min);
        let [open, opened, find, found] = [0, 1, 2, 3].map(best);
        println!("| {shards} | {root} | {open:.1} | {opened:.1} | {part} | {find:.1} | {found:.1} |");
    }
}
