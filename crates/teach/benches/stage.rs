//! The cost of stage 1 compared with its teacher's forward pass alone: the same batches on the same workers, with and
//! without selection, encoding and writing.
//!
//! `make bench-stage` prints a table of benches/README.md. The first teacher is stories15M, which `make
//! fetch-stories15m` downloads; the others have random weights and show how the relative cost falls with the teacher's
//! size. Both variants take turns, and the best time of each counts.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_cache::{ArtifactRef, CacheWriter, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Versions};
use logitcask_core::rng::CounterRng;
use logitcask_core::{
    Fingerprint, LogProbPrecision, Origin, PositionChoice, RowSource, Sample, SampleId, Selection, TailRule, Truncation,
};
use logitcask_data::Dataset;
use logitcask_data::batches::{TokenBatch, batch_by_length};
use logitcask_model::{Device, Model, ModelConfig, Precision, PretrainedModel, weights};
use logitcask_teach::{LocalTeacher, Pipeline, StageSeconds, Teacher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/models/stories15M/stories15M.bin");
/// Positions of a window.
const POSITIONS: usize = 255;
/// Tokens of a batch, which is one window. With fewer batches, the time would depend on the worker that gets the last
/// one.
const BATCH_TOKENS: usize = 256;

/// Windows of random tokens.
struct Random {
    samples: u64,
    vocab_size: usize,
}

impl Dataset for Random {
    fn splits(&self) -> Vec<(String, u64)> {
        vec![("train".to_owned(), self.samples)]
    }

    fn len(&self, _: &str) -> u64 {
        self.samples
    }

    fn length_of(&self, _: &str, _: SampleId) -> logitcask_data::Result<usize> {
        Ok(POSITIONS + 1)
    }

    fn sample(&self, _: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        let mut rng = CounterRng::new("stage", &[id.0]);
        let input_ids = (0..=POSITIONS).map(|_| rng.below(self.vocab_size as u64) as u32).collect();
        Ok(Sample::new(id, Origin { document: id.0, offset: 0 }, input_ids))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(b"random")
    }

    fn name(&self) -> &str {
        "random"
    }

    fn max_length(&self) -> usize {
        POSITIONS + 1
    }
}

fn plan(dataset: &Random) -> Plan {
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
        vocab_size: dataset.vocab_size as u32,
        max_length: POSITIONS as u32 + 1,
        precision: "f32".into(),
        batch_tokens: BATCH_TOKENS as u64,
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
        dataset: ArtifactRef { name: "random".into(), fingerprint: dataset.fingerprint() },
        companions: Vec::new(),
        splits: Plan::splits_of(&dataset.splits()),
        samples_per_unit: (dataset.samples / 8).max(4),
    }
}

/// The time of the teacher's forward pass alone in seconds, on as many workers as it asks for, each with one thread as
/// in stage 1.
fn forward_alone(teacher: &LocalTeacher, batches: &[TokenBatch]) -> f64 {
    let (clock, next) = (Instant::now(), AtomicUsize::new(0));
    let work = || {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            teacher.outputs(batch, &mut |_| Ok(())).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..teacher.workers() {
            scope.spawn(|| rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(work));
        }
    });
    clock.elapsed().as_secs_f64()
}

/// The time of all of stage 1 in seconds, with a new temporary folder.
fn stage(teacher: &LocalTeacher, dataset: &Random) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let clock = Instant::now();
    let writer = CacheWriter::open(folder.path(), plan(dataset), b"{}").unwrap();
    Pipeline { dataset, teacher, writer: &writer, batch_tokens: BATCH_TOKENS }
        .run(&AtomicBool::new(false), &mut StageSeconds::default(), &|_| {})
        .unwrap();
    let manifest = writer.finish().unwrap();
    assert_eq!(manifest.totals.entries, dataset.samples * POSITIONS as u64 * 64);
    clock.elapsed().as_secs_f64()
}

fn measure(name: &str, model: Model, samples: u64, turns: usize) {
    let teacher = LocalTeacher::new(model);
    let dataset = Random { samples, vocab_size: teacher.vocab_size() };
    let windows: Vec<Sample> = (0..samples).map(|id| dataset.sample("train", SampleId(id)).unwrap()).collect();
    let batches = batch_by_length(&windows, BATCH_TOKENS);
    let mut best = [f64::INFINITY; 2];
    for _ in 0..turns {
        best[0] = best[0].min(forward_alone(&teacher, &batches));
        best[1] = best[1].min(stage(&teacher, &dataset));
    }
    let [alone, whole] = best.map(|seconds| (samples * POSITIONS as u64) as f64 / seconds);
    println!("| {name} | {} | {alone:.0} | {whole:.0} | {:.3} |", dataset.vocab_size, alone / whole);
}

/// A model with random weights.
fn init(hidden: usize, intermediate: usize, layers: usize, heads: usize, vocab_size: usize) -> Model {
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads
    }))
    .unwrap();
    weights::init(&config.resolved(vocab_size, POSITIONS + 1).unwrap(), 0, &Device::flex())
}

fn main() {
    println!("windows of {POSITIONS} positions, 64 classes kept, 5 atoms, f16; best of a few by turns\n");
    println!("| teacher | classes | forward alone, positions/s | stage 1, positions/s | time of stage 1 / forward |");
    println!("|---|---|---|---|---|");
    if Path::new(STORIES).exists() {
        let files = PretrainedModel::open(Path::new(STORIES)).unwrap();
        measure("stories15M", files.load(&Device::flex(), Precision::F32).unwrap(), 256, 5);
    }
    // Every unit has at least one batch.
    measure("110 M, random", init(768, 2_048, 12, 12, 32_000), 64, 2);
    measure("1.2 B, random", init(2_048, 8_192, 16, 32, 32_000), 16, 2);
}
