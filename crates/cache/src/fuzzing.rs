//! Entry points of the fuzz targets in `fuzz/`: each accepts any bytes, and neither panics nor uses much memory.

use crate::codec::Row;
use crate::codec::packed::{self, Model};
use crate::commit::{self, Commit};
use crate::json;
use crate::manifest::{self, Builder, Manifest};
use crate::names::{COMMITS_DIR, MANIFEST_NAME, PARTS_DIR, PLAN_NAME};
use crate::pack::Inputs;
use crate::pins::{ArtifactRef, REFUSE_SPECIAL_TOKENS, Versions};
use crate::plan::{Layout, Plan};
use crate::shard::Shard;
use crate::storage::Storage;
use crate::store::LocalStore;
use crate::version::FORMAT_VERSION;
use bytes::Bytes;
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{
    Fingerprint, GoldSource, LogProbPrecision, Origin, PositionChoice, RowErrors, RowSource, Sample, SampleId,
    Selection, SoftRows, TailRule, TailSource, Truncation,
};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Number of rows of the fixed plan's only unit.
pub(crate) const ROWS: u64 = 6;
const VOCAB: u32 = 40;
/// Number of rows on which the models of [`packed_row`] are trained.
pub(crate) const MODEL_ROWS: u64 = 300;
/// A first byte of at least this value selects a trained model.
pub(crate) const TRAINED: u8 = 128;
/// Tokens of the sample for which packed rows are decoded.
pub(crate) const TOKENS: [u32; 9] = [0, 7, 7, 39, 3, 12, 0, 1, 20];
/// Selected by the first byte of a packed input.
pub(crate) const KEPT: [(Selection, LogProbPrecision); 6] = [
    (Selection::TopK { k: 4 }, LogProbPrecision::F16 {}),
    (Selection::TopP { p: 0.9, k: 6 }, LogProbPrecision::F16 {}),
    (Selection::Sample { n: 6, seed: 0 }, LogProbPrecision::F16 {}),
    (Selection::Dense {}, LogProbPrecision::F16 {}),
    (Selection::TopP { p: 0.9, k: 6 }, LogProbPrecision::Quantised { step: 0.0625 }),
    (Selection::Dense {}, LogProbPrecision::Quantised { step: 0.0625 }),
];
/// Selected by the first byte of an input of [`manifest()`].
pub(crate) const RECORDS: [&str; 4] = [PLAN_NAME, MANIFEST_NAME, COMMITS_DIR, PARTS_DIR];

/// The plan of the cache that inputs claim to belong to.
pub(crate) fn plan(layout: Layout, (selection, values): (Selection, LogProbPrecision)) -> Plan {
    let pin = |name: &str| ArtifactRef { name: name.into(), fingerprint: Fingerprint::of(name.as_bytes()) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 };
    let tail = (selection != (Selection::Dense {})).then_some(tail);
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "fuzz".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout,
        vocab_size: VOCAB,
        max_length: 12,
        precision: "f32".into(),
        batch_tokens: 4096,
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation { selection, always_keep: Vec::new(), values, tail, padding: 0, source: RowSource::FULL },
        teacher: pin("teacher"),
        tokenizer: pin("tokenizer"),
        bos: Some(0),
        end: None,
        dataset: pin("dataset"),
        companions: Vec::new(),
        splits: Plan::splits_of(&[("train".into(), ROWS)]),
        samples_per_unit: ROWS,
    }
}

/// The plan of [`plain`]'s shards, with every possible column.
pub(crate) fn plain_plan() -> Plan {
    plan(Layout::Plain, KEPT[2])
}

/// The plan of other shards of [`plain`], whose source told less.
pub(crate) fn partial_plan() -> Plan {
    let mut plan = plan(Layout::Plain, KEPT[1]);
    plan.keep.source = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
    plan.keep.tail = None;
    plan
}

/// Parses a plan, or the manifest's root, a part of it or a commit of the plan of [`plain`], as selected by the first
/// byte.
///
/// # Errors
/// If the temporary folder cannot be written.
pub fn manifest(data: &[u8]) -> io::Result<()> {
    let Some((record, bytes)) = data.split_first() else { return Ok(()) };
    let (folder, plan) = (tempfile::tempdir()?, plain_plan());
    let store = &LocalStore::new(folder.path(), Storage::READ);
    let name = match RECORDS[usize::from(*record) % RECORDS.len()] {
        COMMITS_DIR => commit::name(0),
        PARTS_DIR => manifest::part_name(0),
        name => name.to_owned(),
    };
    let path = folder.path().join(&name);
    fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
    fs::write(path, bytes)?;
    // The hash does not depend on the spelling: the value that any other program parses has the same hash.
    let hash = || serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|value| json::hash(&value));
    match RECORDS[usize::from(*record) % RECORDS.len()] {
        PLAN_NAME => {
            if let Ok(read) = Plan::read_from(store) {
                // Everything else that is computed from a plan before any shard is opened.
                let (units, _) = (read.unit_count(), read.differences(&plan));
                for unit in [0, units / 2, units - 1] {
                    let (name, unit_of) = (read.shard_name(unit), read.unit(unit));
                    assert!(!name.contains("..") && !name.starts_with('/') && read.names(&name), "{name}");
                    assert_eq!(read.unit_of(unit_of.split, unit_of.end - 1), Some(unit));
                }
                assert!(read.rows_per_group() > 0 && read.units_of_part(read.part_count() - 1).end == units);
            }
        }
        MANIFEST_NAME => {
            if let Ok(read) = Manifest::read(store, &plan) {
                assert_eq!(Some(read.cache_id()), hash());
                assert_eq!(read.totals.rows, ROWS);
            }
        }
        PARTS_DIR => {
            if let Ok((commits, part)) = manifest::read_part(store, &plan, 0) {
                assert_eq!((Some(part.blake3), commits[0].rows), (hash(), ROWS));
            }
        }
        _ => {
            if let Ok(Some(read)) = Commit::read(store, &plan, 0) {
                let mut builder = Builder::new(&plan);
                builder.add(&[read]);
                builder.finish(plan.id()).cache_id();
            }
        }
    }
    Ok(())
}

/// Reads a shard of one of two small plain caches, whose hash counts as verified: all rows at once, then each row
/// individually.
pub fn plain(data: &[u8]) {
    [plain_plan(), partial_plan()].iter().for_each(|plan| plain_of(plan, data));
}

fn plain_of(plan: &Plan, data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(shard) = Shard::of_bytes(PathBuf::from("fuzz.parquet"), bytes, (plan, plan.id()), 0) else { return };
    let all = shard.read(plan, 0, 0..ROWS);
    for row in 0..ROWS {
        let one = shard.read(plan, 0, row..row + 1);
        if let (Ok(all), Ok(one)) = (&all, &one) {
            // Compares debug output, since NaN is not equal to itself; rows with NaN are rejected, which this would
            // reveal.
            assert_eq!(format!("{one:?}"), format!("{:?}", &all[row as usize..=row as usize]));
            assert_eq!(one[0].sample.id, SampleId(row));
        }
    }
}

/// Decodes a row for [`TOKENS`]. The first byte selects what is kept: from [`TRAINED`] on with a trained model, below
/// with a model from the input, whose length precedes it in two bytes (little-endian).
pub fn packed_row(data: &[u8]) {
    static MODELS: [OnceLock<Model>; KEPT.len()] = [const { OnceLock::new() }; KEPT.len()];
    let Some((&number, rest)) = data.split_first() else { return };
    let kept = usize::from(number % TRAINED) % KEPT.len();
    let plan = plan(Layout::Packed, KEPT[kept]);
    let inputs = Inputs { tokens: &TOKENS[..TOKENS.len() - 1], labels: &TOKENS[1..] };
    let decoded = if number >= TRAINED {
        MODELS[kept].get_or_init(|| packed::train(&plan, &rows(&plan, MODEL_ROWS))).decode(inputs, rest)
    } else {
        let Some((length, rest)) = rest.split_first_chunk() else { return };
        let (model, row) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        packed::model_of(&plan, model).and_then(|model| model.decode(inputs, row))
    };
    if let Ok(rows) = decoded {
        assert_eq!((rows.counts.len(), rows.log_z.len()), (inputs.tokens.len(), inputs.tokens.len()));
        assert!(rows.counts.iter().all(|count| u32::from(*count) <= plan.max_kept()), "{:?}", rows.counts);
        assert_eq!(rows.class_ids.len(), rows.codes.len());
    }
}

/// Creates rows of `plan`; the first [`ROWS`] have [`TOKENS`], others random tokens.
pub(crate) fn rows(plan: &Plan, count: u64) -> Vec<Row> {
    let row = |id| {
        let mut rng = CounterRng::new("fuzz rows", &[id]);
        let mut input_ids = TOKENS;
        if id >= ROWS {
            input_ids.fill_with(|| rng.below(1 + rng.clone().below(VOCAB.into())) as u32);
        }
        let origin = Origin { document: id, offset: 0 };
        let sample = Sample::new(SampleId(id), origin, input_ids.to_vec());
        let mut rows = SoftRows::new(&plan.keep);
        for &gold in sample.labels().iter() {
            let logits: Vec<f32> = (0..plan.vocab_size).map(|_| 2.0 * rng.normal() as f32).collect();
            let sampling_offset = rng.uniform();
            select_reference(&logits, gold, &plan.keep, sampling_offset, &mut rows, &mut RowErrors::new(&plan.keep));
        }
        (sample, rows)
    };
    (0..count).map(row).collect()
}

/// Runs the target of this name.
#[cfg(test)]
pub(crate) fn run(target: &str, data: &[u8]) {
    match target {
        "manifest" => manifest(data).unwrap(),
        "plain" => plain(data),
        "packed_row" => packed_row(data),
        other => panic!("no target is named `{other}`"),
    }
}
