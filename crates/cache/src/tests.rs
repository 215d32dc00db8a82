//! Promises of the crate, and the small synthetic caches they are tested on.

mod hostile;
mod order;
mod plans;
mod writing;

use crate::manifest::{MANIFEST_NAME, Manifest};
use crate::plan::{FORMAT_VERSION, Layout, Pin, Plan};
use crate::{CacheReader, CacheWriter, json};
use half::f16;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{Fingerprint, Origin, Sample, SampleId, Selection, SoftRows};
use std::fs;
use std::path::Path;

const VOCAB: u32 = 40;
const TOKENIZER: &[u8] = b"{\"a\": \"tokenizer\"}";
const TOP_K: Selection = Selection::TopK { k: 4 };
const TOP_P: Selection = Selection::TopP { p: 0.8, k: 9 };
/// At this `max_length` a block of [`TOP_K`] has four rows; samples stay as short as ever.
const FOUR_ROWS_A_BLOCK: u32 = 100_000;

fn plan(selection: Selection, splits: &[(&str, u64)], samples_per_unit: u64) -> Plan {
    let pin = |name: &str, bytes| Pin { name: name.into(), fingerprint: Fingerprint::of(bytes) };
    let splits: Vec<_> = splits.iter().map(|(name, len)| (name.to_string(), *len)).collect();
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "test".into(),
        layout: Layout::Plain,
        vocab_size: VOCAB,
        max_length: 12,
        precision: "f32".into(),
        batch_tokens: 4096,
        bos: Some(0),
        end: Some(0),
        selection,
        teacher: pin("random", b"weights"),
        tokenizer: pin("none", TOKENIZER),
        dataset: pin("noise", b"text"),
        units: Plan::units_of(&splits, samples_per_unit),
    }
}

/// Samples of 2 to 12 tokens and what a teacher of random logits says about them; the same for the same unit and seed.
fn rows_of(plan: &Plan, unit: usize, seed: u64) -> Vec<(Sample, SoftRows)> {
    let unit = &plan.units[unit];
    (unit.start..unit.end).map(|id| row_of(plan, id, 2 + (id as usize * 7) % 11, seed)).collect()
}

fn row_of(plan: &Plan, id: u64, length: usize, seed: u64) -> (Sample, SoftRows) {
    let mut rng = CounterRng::new("cache test", &[seed, id]);
    let input_ids: Vec<u32> = (0..length).map(|_| rng.below(u64::from(plan.vocab_size)) as u32).collect();
    let sample = Sample { id: SampleId(id), origin: Origin { document: id / 3, offset: id as u32 % 3 }, input_ids };
    let mut rows = SoftRows::default();
    for &gold in sample.gold_ids() {
        let logits: Vec<f32> = (0..plan.vocab_size).map(|_| 2.0 * rng.normal() as f32).collect();
        select_reference(&logits, gold, plan.selection, &mut rows);
    }
    (sample, rows)
}

fn write(folder: &Path, plan: &Plan) -> Manifest {
    let writer = CacheWriter::open(folder, plan.clone(), TOKENIZER).unwrap();
    for unit in writer.pending().unwrap() {
        writer.write_unit(unit, &rows_of(plan, unit, 0)).unwrap();
    }
    writer.finish().unwrap()
}

/// A cache of two units of six samples in one split.
fn small() -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 12)], 6);
    write(folder.path(), &plan);
    (folder, plan)
}

fn as_stored(mut rows: SoftRows) -> SoftRows {
    for value in rows.log_probs.iter_mut().chain(&mut rows.gold_log_probs) {
        *value = f16::from_f32(*value).to_f32();
    }
    rows
}

/// Puts other bytes in the place of a shard, and a manifest beside them that vouches for them.
fn forge(folder: &Path, plan: &Plan, unit: usize, bytes: &[u8]) {
    let mut shards = Manifest::read(folder, plan).unwrap().shards;
    shards[unit].bytes = bytes.len() as u64;
    shards[unit].blake3 = Fingerprint::of(bytes);
    fs::write(folder.join(&shards[unit].shard), bytes).unwrap();
    fs::write(folder.join(MANIFEST_NAME), json::to_bytes(&Manifest::new(plan, shards))).unwrap();
}

/// What reading the whole split says: nothing, or its first error.
fn read_error(folder: &Path, split: &str) -> Option<String> {
    let reader = CacheReader::open(folder).unwrap();
    reader.in_order(split).unwrap().find_map(|sample| sample.err()).map(|e| e.to_string())
}
