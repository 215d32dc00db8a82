//! Writes a cache of your own logits: whatever gives a row of logits for each token can be the teacher.
//!
//! Run it with `cargo run --release --example write_a_cache FOLDER`. Without a folder the cache is written into a temporary
//! one and removed at the end. A run that was killed goes on where it stopped.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::Result;
use logitcask_cache::{
    ArtifactRef, CacheWriter, FORMAT_VERSION, Layout, Manifest, Plan, REFUSE_SPECIAL_TOKENS, Tier, Versions, verify,
};
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{
    Fingerprint, LogProbPrecision, PositionChoice, RowErrors, RowSource, SampleId, Selection, SoftRows, TailRule,
    Truncation,
};
use logitcask_data::{Dataset, DatasetConfig, TextDataset, TextTokenizer};
use std::path::{Path, PathBuf};

/// The corpus and the tokenizer of the repository's demo.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo");
/// A sample has at most so many tokens.
const MAX_LENGTH: u32 = 64;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map_or_else(|| temporary.path().join("cache"), PathBuf::from);
    let totals = write(&folder)?.totals;
    println!("wrote {} samples, {} positions, {} bytes", totals.rows, totals.positions, totals.bytes);
    println!("the kept classes hold {:.3} of the probability on average", totals.kept_mass);
    // Reads everything back and checks all that must hold of a cache and its rows.
    let report = verify(&folder, Tier::Rows, &mut |_, _| {})?;
    println!("verified {} rows, {} findings", report.rows, report.findings.len());
    Ok(())
}

/// The teacher. Here its logits are random and depend on the last token alone; yours may come from any model.
fn teacher_logits(context: &[u32], classes: u32) -> Vec<f32> {
    let last = context.last().copied().unwrap_or_default();
    let mut rng = CounterRng::new("example teacher", &[u64::from(last)]);
    (0..classes).map(|_| 3.0 * rng.normal() as f32).collect()
}

/// Writes the cache into `folder`, which must be empty, new, or hold a part of this same cache.
pub fn write(folder: &Path) -> Result<Manifest> {
    // Samples are windows of tokens in a fixed order; a few documents are enough here.
    let tokenizer = TextTokenizer::from_json_file(&Path::new(DEMO).join("teacher/tokenizer.json"), Some(0))?;
    let corpus = DatasetConfig::at(&Path::new(DEMO).join("corpus.parquet"));
    let corpus = DatasetConfig { max_documents: Some(8), ..corpus };
    let dataset = TextDataset::load(&corpus, &tokenizer, MAX_LENGTH as usize)?;

    let plan = plan(&tokenizer, &dataset);
    let writer = CacheWriter::open(folder, plan.clone(), tokenizer.json())?;
    for unit in writer.pending()? {
        let range = plan.unit(unit);
        // What rounding and the summary of the tail cost is measured beside every full row, and stated in the manifest.
        let (mut rows, mut errors) = (Vec::new(), RowErrors::new(&plan.keep));
        for id in range.ids().map(SampleId) {
            let sample = dataset.sample(range.split, id)?;
            let mut soft = SoftRows::new(&plan.keep);
            for (position, &label) in sample.labels().iter().enumerate() {
                let logits = teacher_logits(&sample.input_ids[..=position], plan.vocab_size);
                // It matters to `Selection::Sample` alone.
                let offset = plan.keep.selection.sampling_offset(range.split, id, position);
                // `logitcask_select::RowSelector` does the same much faster.
                select_reference(&logits, label, &plan.keep, offset, &mut soft, &mut errors);
            }
            rows.push((sample, soft));
        }
        // From here on the unit is durable.
        writer.write_unit(unit, &rows, &errors)?;
    }
    Ok(writer.finish()?)
}

/// Everything that decides the cache's bytes.
fn plan(tokenizer: &TextTokenizer, dataset: &TextDataset) -> Plan {
    let pin = |name: &str, fingerprint| ArtifactRef { name: name.to_owned(), fingerprint };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: String::new(),
        versions: Versions::FIRST,
        layout: Layout::Plain,
        vocab_size: tokenizer.vocab_size(),
        max_length: MAX_LENGTH,
        precision: "f32".to_owned(),
        batch_tokens: u64::from(MAX_LENGTH),
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation {
            selection: Selection::TopK { k: 16 },
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            tail: Some(tail),
            padding: 0,
            source: RowSource::FULL,
        },
        // Any bytes that stand for this teacher and no other.
        teacher: pin("random logits", Fingerprint::of(b"example teacher, version 1")),
        tokenizer: pin("tokenizer.json", tokenizer.fingerprint()),
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.to_owned(),
        conversations: Default::default(),
        bos: tokenizer.bos(),
        end: tokenizer.eos(),
        dataset: pin(dataset.name(), dataset.fingerprint()),
        companions: Vec::new(),
        splits: Plan::splits_of(&dataset.splits()),
        samples_per_unit: 16,
    }
}
