//! Opening a cache of many shards, streaming it in order and shuffled, and students beside each other on one cache.
//!
//! `make bench-reader`; prints the tables of benches/README.md. LOGITCASK_BENCH_FOLDER keeps the streamed caches for others to
//! read.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_cache::{
    ArtifactRef, CacheReader, CacheWriter, CachedSample, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Storage,
    Versions,
};
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{
    Fingerprint, LogProbPrecision, Origin, PositionChoice, RowErrors, RowSource, Sample, SampleId, Selection, SoftRows,
    TailRule, Truncation,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The cache that a process streams, where it is a student beside others.
const STUDENT: &str = "LOGITCASK_BENCH_STUDENT";
const VOCAB: u32 = 1000;
/// Samples of the caches that are streamed: four windows of a shuffled epoch.
const SAMPLES: u64 = 8_192;

fn plan(samples: u64, per_unit: u64, layout: Layout) -> Plan {
    let pin = |bytes: &[u8]| ArtifactRef { name: "bench".into(), fingerprint: Fingerprint::of(bytes) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "bench".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout,
        vocab_size: VOCAB,
        max_length: 128,
        precision: "f32".into(),
        batch_tokens: 1,
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation {
            selection: Selection::TopK { k: 64 },
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            tail: Some(tail),
            padding: 0,
            source: RowSource::FULL,
        },
        teacher: pin(b"teacher"),
        tokenizer: pin(b"{}"),
        bos: None,
        end: None,
        dataset: pin(b"dataset"),
        companions: Vec::new(),
        splits: Plan::splits_of(&[("train".into(), samples)]),
        samples_per_unit: per_unit,
    }
}

/// A few different samples, which stand for all: decoding does not know the difference.
fn some_rows(plan: &Plan, length: usize) -> Vec<(Sample, SoftRows)> {
    let of = |seed: u64| {
        let mut rng = CounterRng::new("bench", &[seed]);
        let input_ids: Vec<u32> = (0..length).map(|_| rng.below(u64::from(VOCAB)) as u32).collect();
        let sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, input_ids);
        let mut rows = SoftRows::new(&plan.keep);
        for &gold in sample.labels().iter() {
            let logits: Vec<f32> = (0..VOCAB).map(|_| 3.0 * rng.normal() as f32).collect();
            select_reference(&logits, gold, &plan.keep, 0.0, &mut rows, &mut RowErrors::new(&plan.keep));
        }
        (sample, rows)
    };
    (0..16).map(of).collect()
}

fn write(folder: &Path, plan: &Plan, length: usize) {
    let rows = some_rows(plan, length);
    let writer = CacheWriter::open(folder, plan.clone(), b"{}").unwrap();
    for unit in 0..plan.unit_count() {
        let numbered = |id: u64| {
            let (sample, soft) = &rows[id as usize % rows.len()];
            (Sample { id: SampleId(id), ..sample.clone() }, soft.clone())
        };
        let unit_rows: Vec<_> = plan.unit(unit).ids().map(numbered).collect();
        writer.write_unit(unit, &unit_rows, &RowErrors::new(&plan.keep)).unwrap();
    }
    writer.finish().unwrap();
}

/// A line of a file under /proc/self in MiB; 0 where there is none.
fn memory(file: &str, key: &str) -> f64 {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn main() {
    if let Ok(folder) = std::env::var(STUDENT) {
        return student(Path::new(&folder));
    }
    opening();
    let kept = std::env::var("LOGITCASK_BENCH_FOLDER").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let base = kept.unwrap_or_else(|_| scratch.path().to_owned());
    let folder = |layout: Layout| base.join(format!("reader-{}", layout.name()));
    for layout in [Layout::Plain, Layout::Packed] {
        if !folder(layout).exists() {
            write(&folder(layout), &plan(SAMPLES, 128, layout), 128);
        }
    }
    streaming(&folder);
    side_by_side(&folder(Layout::Plain));
}

fn opening() {
    println!(
        "| shards | manifest, KiB | open, ms | memory of the open reader, MiB | first sample, ms | first batch, ms |"
    );
    println!("|---|---|---|---|---|---|");
    for shards in [10, 100, 1_000, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(shards, 1, Layout::Plain);
        write(folder.path(), &plan, 3);
        let before = memory("status", "RssAnon");
        let start = Instant::now();
        let reader = open(folder.path());
        let open = start.elapsed().as_secs_f64();
        let memory = memory("status", "RssAnon") - before;
        let start = Instant::now();
        assert_eq!(reader.get("train", SampleId(shards - 1)).unwrap().rows.len(), 2);
        let first = start.elapsed().as_secs_f64();
        let start = Instant::now();
        assert_eq!(reader.shuffled("train", 1, 0, 0).unwrap().take(8).filter(|row| row.is_ok()).count(), 8);
        let batch = start.elapsed().as_secs_f64();
        let manifest = std::fs::metadata(folder.path().join("manifest.json")).unwrap().len();
        let [open, first, batch] = [open, first, batch].map(|seconds| 1e3 * seconds);
        println!("| {shards} | {} | {open:.1} | {memory:.1} | {first:.2} | {batch:.2} |", manifest / 1024);
    }
}

/// Entries of an epoch, and seconds.
fn epoch(rows: impl Iterator<Item = logitcask_cache::Result<CachedSample>>) -> (u64, f64) {
    let start = Instant::now();
    let entries = rows.map(|row| row.unwrap().rows.class_ids.len() as u64).sum();
    (entries, start.elapsed().as_secs_f64())
}

fn streaming(folder: &dyn Fn(Layout) -> PathBuf) {
    println!("\n{SAMPLES} samples of 128 positions, 64 classes kept, one thread, best of 5 by turns\n");
    println!(
        "| layout | shards, MiB | in order, M entries/s | shuffled, M entries/s | time shuffled / in order | first batch after \
         open, ms |"
    );
    println!("|---|---|---|---|---|---|");
    for layout in [Layout::Plain, Layout::Packed] {
        let start = Instant::now();
        let reader = open(&folder(layout));
        assert_eq!(reader.shuffled("train", 1, 0, 0).unwrap().take(8).filter(|row| row.is_ok()).count(), 8);
        let first = 1e3 * start.elapsed().as_secs_f64();
        let mut best = [f64::INFINITY; 2];
        let mut entries = 0;
        for turn in 0..5 {
            let ordered = epoch(reader.in_order("train").unwrap());
            let shuffled = epoch(reader.shuffled("train", 1, turn, 0).unwrap());
            assert_eq!(ordered.0, shuffled.0);
            entries = ordered.0;
            best = [best[0].min(ordered.1), best[1].min(shuffled.1)];
        }
        let [ordered, shuffled] = best.map(|seconds| entries as f64 / seconds / 1e6);
        let bytes = reader.manifest().totals.bytes as f64 / f64::from(1 << 20);
        let (name, ratio) = (layout.name(), ordered / shuffled);
        println!("| {name} | {bytes:.0} | {ordered:.1} | {shuffled:.1} | {ratio:.2} | {first:.1} |");
    }
}

/// Streams an epoch, and says how long it took and what memory the process has: its own, and its share of common pages.
fn student(folder: &Path) {
    let reader = open(folder);
    let (entries, seconds) = epoch(reader.shuffled("train", 1, 0, 0).unwrap());
    let own = memory("status", "RssAnon");
    let (mapped, share) = (memory("status", "RssFile"), memory("smaps_rollup", "Pss_File"));
    println!("{entries} {seconds} {own} {mapped} {share}");
    drop(reader);
    // The others measure their share of the common pages while this process has its own.
    _ = std::io::stdin().read_line(&mut String::new());
}

fn side_by_side(folder: &Path) {
    println!(
        "\n| students | M entries/s of all | own memory, MiB each | mapped pages, MiB each | of these its share, MiB |"
    );
    println!("|---|---|---|---|---|");
    for students in [1, 2, 4] {
        let start = |_| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.env(STUDENT, folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let clock = Instant::now();
        let mut children: Vec<_> = (0..students).map(start).collect();
        let told: Vec<String> = children
            .iter_mut()
            .map(|child| {
                let mut line = String::new();
                BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
                line
            })
            .collect();
        let seconds = clock.elapsed().as_secs_f64();
        children.iter_mut().for_each(|child| assert!(child.stdin.take().is_some() && child.wait().unwrap().success()));
        let numbers = |line: &String| line.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<f64>>();
        let told: Vec<Vec<f64>> = told.iter().map(numbers).collect();
        let sum = |i: usize| told.iter().map(|of| of[i]).sum::<f64>();
        let each = |i: usize| sum(i) / f64::from(students);
        let rate = sum(0) / seconds / 1e6;
        println!("| {students} | {rate:.1} | {:.0} | {:.0} | {:.0} |", each(2), each(3), each(4));
    }
}

fn open(folder: &Path) -> CacheReader {
    // SAFETY: this process alone knows the folder, and changes no shard of a finished cache.
    CacheReader::open_with(folder, unsafe { Storage::mapped() }).unwrap()
}
