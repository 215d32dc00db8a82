//! Tests of the crate, and the small synthetic caches that they use.

mod access;
mod bad;
pub(crate) mod crash;
mod damage;
mod extras;
mod foreign;
mod fuzz_seeds;
mod hostile;
mod identity;
mod order;
mod partial;
mod plans;
mod size;
mod store;
mod vectors;
mod verify;
mod worked;
mod writing;

use crate::manifest::Manifest;
use crate::manifest::{self, Builder};
use crate::names::MANIFEST_NAME;
use crate::pins::{ArtifactRef, REFUSE_SPECIAL_TOKENS, Versions};
use crate::plan::{Layout, Plan};
use crate::ranges::{self, ShardRange};
use crate::version::FORMAT_VERSION;
use crate::{CacheReader, CacheWriter, Commit, LocalStore, Storage, Store, json};
use bytes::Bytes;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{
    ExtraColumn, ExtraValues, Fingerprint, GoldSource, LogProbPrecision, Origin, PositionChoice, RowErrors, RowSource,
    Sample, SampleId, Selection, SoftRows, TailRule, TailSource, Truncation,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const VOCAB: u32 = 40;
const TOKENIZER: &[u8] = b"{\"a\": \"tokenizer\"}";
const TOP_K: Selection = Selection::TopK { k: 4 };
const TOP_P: Selection = Selection::TopP { p: 0.8, k: 9 };
/// As a server tells it: the likeliest classes, and nothing that does not follow from them.
const LOG_PROBS: RowSource = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
/// As an imported cache may: classes normalised to 1 by themselves, without labels.
const RENORMALISED: RowSource = RowSource { log_z: false, gold: GoldSource::None, tail: TailSource::None };
const SAMPLE: Selection = Selection::Sample { n: 7, seed: 0 };
/// A `max_length` at which a block of [`TOP_K`] has four rows. The samples are no longer than usual.
const FOUR_ROWS_A_BLOCK: u32 = 75_000;

fn plan(selection: Selection, splits: &[(&str, u64)], samples_per_unit: u64) -> Plan {
    let pin = |name: &str, bytes| ArtifactRef { name: name.into(), fingerprint: Fingerprint::of(bytes) };
    let splits: Vec<_> = splits.iter().map(|(name, len)| (name.to_string(), *len)).collect();
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "test".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout: Layout::Plain,
        vocab_size: VOCAB,
        max_length: 12,
        precision: "f32".into(),
        batch_tokens: 4096,
        positions: PositionChoice::All {},
        bos: Some(0),
        end: Some(0),
        extras: Vec::new(),
        keep: keep(selection),
        teacher: pin("random", b"weights"),
        tokenizer: pin("none", TOKENIZER),
        dataset: pin("noise", b"text"),
        companions: Vec::new(),
        splits: Plan::splits_of(&splits),
        samples_per_unit,
    }
}

fn keep(selection: Selection) -> Truncation {
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 };
    let tail = (selection != (Selection::Dense {})).then_some(tail);
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail,
        padding: 0,
        source: RowSource::FULL,
    }
}

/// The plan as if a server had told the rows.
fn told(plan: Plan, source: RowSource) -> Plan {
    let tail = plan.keep.tail.filter(|_| source.tail == TailSource::Atoms);
    Plan { keep: Truncation { tail, source, ..plan.keep.clone() }, ..plan }
}

/// Samples of 2 to 12 tokens with rows from random logits at the plan's positions, determined by unit and seed. The row of
/// a position does not depend on which others are chosen.
fn rows_of(plan: &Plan, unit: usize, seed: u64) -> Vec<(Sample, SoftRows)> {
    rows_and_errors(plan, unit, seed).0
}

fn rows_and_errors(plan: &Plan, unit: usize, seed: u64) -> (Vec<(Sample, SoftRows)>, RowErrors) {
    let (unit, mut errors) = (plan.unit(unit), RowErrors::new(&plan.keep));
    let row = |id| measured_row(plan, id, 2 + (id as usize * 7) % 11, seed, &mut errors);
    (unit.ids().map(row).collect(), errors)
}

fn write_unit(writer: &CacheWriter, unit: usize, seed: u64) -> crate::Result<Commit> {
    let (rows, errors) = rows_and_errors(writer.plan(), unit, seed);
    writer.write_unit(unit, &rows, &errors)
}

fn row_of(plan: &Plan, id: u64, length: usize, seed: u64) -> (Sample, SoftRows) {
    measured_row(plan, id, length, seed, &mut RowErrors::new(&plan.keep))
}

fn measured_row(plan: &Plan, id: u64, length: usize, seed: u64, errors: &mut RowErrors) -> (Sample, SoftRows) {
    let mut rng = CounterRng::new("cache test", &[seed, id]);
    let input_ids: Vec<u32> = (0..length).map(|_| rng.below(u64::from(plan.vocab_size)) as u32).collect();
    let mut sample = Sample::new(SampleId(id), Origin { document: id / 3, offset: id as u32 % 3 }, input_ids);
    let labels = sample.labels().into_owned();
    plan.positions.apply("train", &mut sample);
    let chosen: Vec<usize> = sample.position_indices().collect();
    let mut rows = SoftRows::new(&plan.keep);
    for (position, gold) in labels.into_iter().enumerate() {
        let logits: Vec<f32> = (0..plan.vocab_size + plan.keep.padding).map(|_| 2.0 * rng.normal() as f32).collect();
        let sampling_offset = rng.uniform();
        if !chosen.contains(&position) {
            continue;
        }
        select_reference(&logits, gold, &plan.keep, sampling_offset, &mut rows, errors);
    }
    rows.extras = plan.extras.iter().map(|extra| vectors(extra, &sample, &mut rng)).collect();
    (sample, rows)
}

/// Random numbers of an extra column.
fn vectors(extra: &ExtraColumn, sample: &Sample, rng: &mut CounterRng) -> ExtraValues {
    let numbers = (0..extra.len(sample.position_count())).map(|_| extra.precision.round(3.0 * rng.normal() as f32));
    ExtraValues { per_position: extra.per_position(), values: numbers.collect() }
}

fn write(folder: &Path, plan: &Plan) -> Manifest {
    let writer = CacheWriter::open(folder, plan.clone(), TOKENIZER).unwrap();
    for unit in writer.pending().unwrap() {
        write_unit(&writer, unit, 0).unwrap();
    }
    writer.finish().unwrap()
}

/// A cache of one split with two units of six samples each.
fn small() -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 12)], 6);
    write(folder.path(), &plan);
    (folder, plan)
}

fn local(folder: &Path) -> LocalStore {
    LocalStore::new(folder, Storage::READ)
}

/// The store as [`Shard::open`] takes it.
fn stored(folder: &Path) -> Arc<dyn Store> {
    Arc::new(local(folder))
}

/// Every commit of a cache, as its manifest lists them.
fn commits(folder: &Path, plan: &Plan) -> Vec<Commit> {
    // Unchecked: some are not what the plan allows.
    let read = |part| json::read::<Vec<Commit>>(&local(folder), &manifest::part_name(part)).unwrap();
    (0..plan.part_count()).flat_map(read).collect()
}

/// Writes a manifest of these commits over the existing one; returns its root.
fn vouch(folder: &Path, plan: &Plan, commits: &[Commit]) -> Manifest {
    let mut builder = Builder::new(plan);
    for (part, commits) in commits.chunks(plan.units_per_part()).enumerate() {
        builder.add(commits);
        fs::write(folder.join(manifest::part_name(part)), json::to_lines(commits)).unwrap();
    }
    let root = builder.finish(plan.id());
    fs::write(folder.join(MANIFEST_NAME), json::to_bytes(&root)).unwrap();
    root
}

/// The ranges of a shard, or two made-up ones where it is none.
fn ranges_of(bytes: &[u8]) -> Vec<ShardRange> {
    ranges::of(&Bytes::copy_from_slice(bytes)).unwrap_or_else(|_| {
        let range = |bytes: &[u8]| ShardRange { bytes: bytes.len() as u64, blake3: Fingerprint::of(bytes) };
        let (first, rest) = bytes.split_at(bytes.len().min(1));
        [range(first), range(rest)].into()
    })
}

/// Replaces the bytes of a shard, and writes a manifest with their hash.
fn forge(folder: &Path, plan: &Plan, unit: usize, bytes: &[u8]) {
    let mut commits = commits(folder, plan);
    commits[unit].bytes = bytes.len() as u64;
    commits[unit].ranges = ranges_of(bytes);
    fs::write(folder.join(&commits[unit].shard), bytes).unwrap();
    vouch(folder, plan, &commits);
}

/// Reads the whole split and returns the first error.
fn read_error(folder: &Path, split: &str) -> Option<String> {
    let reader = CacheReader::open(folder).unwrap();
    reader.in_order(split).unwrap().find_map(|sample| sample.err()).map(|e| e.to_string())
}
