//! How the time for a cache grows with its size: writing, verifying, opening, reading and resuming with 1, 10 and 100
//! times the data, and a teacher that costs almost nothing.
//!
//! `make bench-growth` prints a table of benches/README.md. Every step runs in a separate process, so that its peak
//! memory is measured separately, and checks its result. LOGITCASK_BENCH_FOLDER sets the folder for the caches; the
//! largest takes 0.2 GB, because the teacher repeats itself.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_cache::verify::{Tier, verify};
use logitcask_cache::{
    ArtifactRef, CacheReader, CacheWriter, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Storage, Versions,
};
use logitcask_core::rng::CounterRng;
use logitcask_core::{
    Fingerprint, LogProbPrecision, Origin, PositionChoice, RowSource, Sample, SampleId, Selection, TailRule, Truncation,
};
use logitcask_data::Dataset;
use logitcask_data::batches::TokenBatch;
use logitcask_teach::teacher::{Logits, Outputs};
use logitcask_teach::{Error, Pipeline, Progress, Result, StageSeconds, Teacher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells a child process which step to run: "step|samples|folder".
const CASE: &str = "LOGITCASK_BENCH_CASE";
const VOCAB: usize = 2_048;
const LENGTH: usize = 129;
/// Samples at 1x, and samples in a unit.
const SAMPLES: u64 = 768;
const PER_UNIT: u64 = 128;
/// Steps in the order they run. Resuming comes before the cache is complete.
const STEPS: [&str; 6] = ["all but the last unit", "resume", "open", "first batch", "epoch", "verify"];

/// Windows of random tokens.
struct Random(u64);

impl Dataset for Random {
    fn splits(&self) -> Vec<(String, u64)> {
        vec![("train".to_owned(), self.0)]
    }

    fn len(&self, _: &str) -> u64 {
        self.0
    }

    fn length_of(&self, _: &str, _: SampleId) -> logitcask_data::Result<usize> {
        Ok(LENGTH)
    }

    fn sample(&self, _: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        let mut rng = CounterRng::new("growth", &[id.0]);
        let input_ids = (0..LENGTH).map(|_| rng.below(VOCAB as u64) as u32).collect();
        Ok(Sample::new(id, Origin { document: id.0, offset: 0 }, input_ids))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(b"random")
    }

    fn name(&self) -> &str {
        "random"
    }

    fn max_length(&self) -> usize {
        LENGTH
    }
}

/// A teacher that returns one of 64 fixed rows for each token.
struct Free(Vec<Vec<f32>>);

impl Free {
    fn new() -> Self {
        let row = |row: u64| {
            let mut rng = CounterRng::new("growth teacher", &[row]);
            (0..VOCAB).map(|_| 2.5 * rng.normal() as f32).collect()
        };
        Self((0..64).map(row).collect())
    }
}

impl Teacher for Free {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn workers(&self) -> usize {
        1
    }

    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()> {
        let mut start = 0;
        for sample in &batch.samples {
            let positions = start..start + sample.position_count();
            start = positions.end;
            let tokens = sample.tokens_at_positions();
            let said = tokens.iter().flat_map(|&token| &self.0[token as usize % self.0.len()]);
            each(Outputs {
                positions,
                logits: Logits::Host(said.copied().collect::<Vec<_>>().into()),
                extras: Vec::new(),
            })?;
        }
        Ok(())
    }
}

fn plan(samples: u64) -> Plan {
    let pin = |bytes: &[u8]| ArtifactRef { name: "bench".into(), fingerprint: Fingerprint::of(bytes) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    let selection = Selection::TopK { k: 64 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "bench".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout: Layout::Plain,
        vocab_size: VOCAB as u32,
        max_length: LENGTH as u32,
        precision: "f32".into(),
        batch_tokens: 4_096,
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation {
            selection,
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
        dataset: ArtifactRef { name: "random".into(), fingerprint: Random(samples).fingerprint() },
        companions: Vec::new(),
        splits: Plan::splits_of(&Random(samples).splits()),
        samples_per_unit: PER_UNIT,
    }
}

/// Processes the pending units, up to about `stop_at` of them.
fn fill(samples: u64, folder: &Path, stop_at: usize) {
    let writer = CacheWriter::open(folder, plan(samples), b"{}").unwrap();
    let (dataset, teacher) = (Random(samples), Free::new());
    let pipeline = Pipeline { dataset: &dataset, teacher: &teacher, writer: &writer, batch_tokens: 4_096 };
    // Some units are already in progress when the last requested one starts.
    let (stop, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    let done = pipeline.run(&stop, &mut StageSeconds::default(), &|progress| {
        if let Progress::Committed { committed, .. } = progress {
            seen.store(true, Ordering::Relaxed);
            stop.store(committed + 3 > stop_at, Ordering::Relaxed);
        }
    });
    match done {
        Err(Error::Interrupted { committed, units }) => assert!(committed < units && seen.into_inner()),
        done => {
            done.unwrap();
            writer.finish().unwrap();
        }
    }
}

/// Runs one step and prints its time and the peak memory of this process.
fn take(step: &str, samples: u64, folder: &Path) {
    let clock = Instant::now();
    match step {
        "all but the last unit" => fill(samples, folder, plan(samples).unit_count() - 1),
        "resume" => fill(samples, folder, usize::MAX),
        "open" => assert_eq!(open(folder).len("train").unwrap(), samples),
        "first batch" => {
            let reader = open(folder);
            assert_eq!(reader.shuffled("train", 0, 0, 0).unwrap().take(8).filter(|row| row.is_ok()).count(), 8);
        }
        "epoch" => {
            let rows = open(folder).shuffled("train", 0, 0, 0).unwrap();
            let entries: usize = rows.map(|row| row.unwrap().rows.class_ids.len()).sum();
            assert_eq!(entries as u64, samples * (LENGTH as u64 - 1) * 64);
        }
        _ => assert!(verify(folder, Tier::Rows, &mut |_, _| {}).unwrap().is_whole()),
    }
    let seconds = clock.elapsed().as_secs_f64();
    println!("{seconds} {} {}", status("VmHWM"), status("RssFile"));
}

/// A value of /proc/self/status in MiB, or 0 if it is not available.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Time in seconds and peak memory in MiB, without the mapped pages of the cache.
fn run(step: &str, samples: u64, folder: &Path) -> [f64; 2] {
    let this = std::env::current_exe().unwrap();
    let out = Command::new(this).env(CASE, format!("{step}|{samples}|{}", folder.display())).output().unwrap();
    assert!(out.status.success(), "{step}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    [numbers[0], numbers[1] - numbers[2]]
}

/// The exponent p of the least-squares fit y ∝ x^p.
fn exponent(x: &[f64], y: &[f64]) -> f64 {
    let log = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let (x, y) = (log(x), log(y));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum();
    covariance / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>()
}

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        let mut parts = case.splitn(3, '|');
        let mut next = || parts.next().unwrap();
        return take(next(), next().parse().unwrap(), &PathBuf::from(next()));
    }
    let base = std::env::var("LOGITCASK_BENCH_FOLDER").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let times = [1, 10, 100];
    let measured: Vec<Vec<[f64; 2]>> = times
        .iter()
        .map(|times| {
            let folder = tempfile::tempdir_in(&base).unwrap();
            STEPS.iter().map(|step| run(step, SAMPLES * times, folder.path())).collect()
        })
        .collect();
    println!(
        "{SAMPLES} windows of {} positions at 1x, {VOCAB} classes, 64 kept, {PER_UNIT} windows per shard\n",
        LENGTH - 1
    );
    println!("| | 1x, s | 10x, s | 100x, s | time grows as x^ | peak without mapped pages, MiB: 1x | 10x | 100x |");
    println!("|---|---|---|---|---|---|---|---|");
    for (i, step) in STEPS.iter().enumerate() {
        let of = |what: usize| measured.iter().map(|steps| steps[i][what]).collect::<Vec<f64>>();
        let (seconds, memory) = (of(0), of(1));
        let power = exponent(&times.map(|t| t as f64), &seconds);
        let [a, b, c] = [0, 1, 2].map(|j| format!("{:.3}", seconds[j]));
        println!("| {step} | {a} | {b} | {c} | {power:.2} | {:.0} | {:.0} | {:.0} |", memory[0], memory[1], memory[2]);
    }
}

fn open(folder: &Path) -> CacheReader {
    // SAFETY: only this process knows the folder, and it changes no shard of a finished cache.
    CacheReader::open_with(folder, unsafe { Storage::mapped() }).unwrap()
}
