//! Memory and rate of tokenising 1, 10 and 100 times a corpus, in memory and to disk, and of reading it from disk.
//!
//! `make bench-prepare` prints a table of benches/README.md. Every step runs in a separate process, so that its peak
//! memory is measured separately. LOGITCASK_BENCH_FOLDER sets the folder for corpus and datasets, which take 3 GB.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_core::SampleId;
use logitcask_core::rng::CounterRng;
use logitcask_data::{Dataset, DatasetConfig, Preparation, TextDataset, TextTokenizer, read_documents};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells a child process which step to run: "step|corpus|folder".
const CASE: &str = "LOGITCASK_BENCH_CASE";
/// Bytes of text at 1x.
const BYTES: u64 = 8 << 20;
const MAX_LENGTH: usize = 256;
const STEPS: [&str; 4] = ["in memory", "prepare", "open", "epoch"];

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        let [step, corpus, folder] = case.split('|').collect::<Vec<_>>().try_into().unwrap();
        return run(step, Path::new(corpus), Path::new(folder));
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var("LOGITCASK_BENCH_FOLDER").map_or(temporary.path().to_owned(), PathBuf::from);
    println!("| | text, MB | time, s | MB/s | peak memory, MiB |\n|---|---|---|---|---|");
    for times in [1, 10, 100] {
        let corpus = folder.join(format!("corpus-{times}.jsonl"));
        write_corpus(&corpus, times * BYTES);
        let megabytes = corpus.metadata().unwrap().len() as f64 / 1e6;
        for step in STEPS {
            let case = format!("{step}|{}|{}", corpus.display(), folder.display());
            let output = Command::new(std::env::current_exe().unwrap()).env(CASE, case).output().unwrap();
            assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8(output.stdout).unwrap();
            let [seconds, peak] = said.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<f64>>()[..] else {
                unreachable!("{said}")
            };
            println!("| {step}, {times}x | {megabytes:.0} | {seconds:.3} | {:.1} | {peak:.0} |", megabytes / seconds);
        }
    }
}

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Documents of sentences of the demo's corpus, in random order.
fn write_corpus(path: &Path, bytes: u64) {
    let config =
        DatasetConfig { split_column: Some("split".into()), ..DatasetConfig::at(&root("data/demo/corpus.parquet")) };
    let texts = read_documents(&config).unwrap().documents;
    let sentences: Vec<&str> =
        texts.iter().flat_map(|text| text.content.text().unwrap().split_inclusive(". ")).collect();
    let (mut out, mut written) = (BufWriter::new(File::create(path).unwrap()), 0);
    let mut rng = CounterRng::new("prepare bench", &[0]);
    while written < bytes {
        let count = 5 + rng.below(60);
        let text: String = (0..count).map(|_| sentences[rng.below(sentences.len() as u64) as usize]).collect();
        written += text.len() as u64;
        writeln!(out, "{}", serde_json::json!({ "text": text })).unwrap();
    }
    out.flush().unwrap();
}

/// Runs a step and prints its time and the peak memory.
fn run(step: &str, corpus: &Path, folder: &Path) {
    let config = DatasetConfig::at(corpus);
    let tokenizer = TextTokenizer::from_json_file(&root("data/demo/teacher/tokenizer.json"), None).unwrap();
    let preparation = || Preparation::new(&config, &tokenizer, MAX_LENGTH, folder).unwrap();
    let clock = Instant::now();
    match step {
        "in memory" => assert!(TextDataset::load(&config, &tokenizer, MAX_LENGTH).unwrap().len("train") > 0),
        "prepare" => assert!(preparation().run(&|_| {}).unwrap().len("train") > 0),
        "open" => assert!(preparation().open().unwrap().unwrap().length_of("train", SampleId(0)).unwrap() > 1),
        _ => {
            let dataset = preparation().open().unwrap().unwrap();
            let tokens = |id| dataset.sample("train", SampleId(id)).unwrap().input_ids.len();
            assert!((0..dataset.len("train")).map(tokens).sum::<usize>() > 0);
        }
    }
    println!("{} {}", clock.elapsed().as_secs_f64(), peak());
}

/// Peak memory in MiB, or 0 if it is not available.
fn peak() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
