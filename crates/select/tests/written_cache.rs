//! A cache that is written from logits, with its id and the order of its samples on record: a package for another
//! language, which writes and reads the same, is tested against the same record (data/golden/written_cache.json).
#![allow(clippy::unwrap_used)]

use logitcask_cache::{
    ArtifactRef, CODEC_VERSION, CacheReader, CacheWriter, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Versions,
};
use logitcask_core::{
    Fingerprint, LogProbPrecision, Origin, PositionChoice, RowErrors, RowSource, Sample, SampleId, Selection, SoftRows,
    TailRule, Truncation,
};
use logitcask_select::{RowSelector, SELECTION_VERSION};

const SAMPLES: u64 = 120;
const VOCAB: u64 = 500;
/// So long that a block has four rows, and an epoch two windows.
const MAX_LENGTH: u32 = 28_000;

fn plan() -> Plan {
    let pin = |bytes: &[u8]| ArtifactRef { name: String::new(), fingerprint: Fingerprint::of(bytes) };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: String::new(),
        versions: Versions { selection: SELECTION_VERSION, codec: CODEC_VERSION, ..Versions::FIRST },
        layout: Layout::Plain,
        vocab_size: VOCAB as u32,
        max_length: MAX_LENGTH,
        precision: "f32".to_owned(),
        batch_tokens: u64::from(MAX_LENGTH),
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation {
            selection: Selection::TopK { k: 16 },
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            tail: Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 4 }),
            padding: 0,
            source: RowSource::FULL,
        },
        teacher: pin(b"weights"),
        tokenizer: pin(b"{}"),
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.to_owned(),
        conversations: Default::default(),
        bos: None,
        end: None,
        dataset: pin(b"samples"),
        companions: Vec::new(),
        splits: Plan::splits_of(&[("train".to_owned(), SAMPLES)]),
        samples_per_unit: 50,
    }
}

/// Logit `i` of all rows.
fn logit(i: u64) -> f32 {
    ((i * 2_654_435_761) % 4_093) as f32 / 256.0
}

fn sample(plan: &Plan, number: u64) -> (Sample, SoftRows, RowErrors) {
    let tokens = (0..6).map(|i| ((number * 61 + i * 7) % VOCAB) as u32).collect();
    let sample = Sample::new(SampleId(number), Origin { document: number, offset: 0 }, tokens);
    let (mut rows, mut errors) = (SoftRows::new(&plan.keep), RowErrors::new(&plan.keep));
    let mut selector = RowSelector::new(&plan.keep);
    for (row, &label) in (number * 5..).zip(sample.labels().iter()) {
        let logits: Vec<f32> = (row * VOCAB..(row + 1) * VOCAB).map(logit).collect();
        selector.select(&logits, label, 0.0, &mut rows, &mut errors).unwrap();
    }
    (sample, rows, errors)
}

#[test]
fn a_cache_from_logits_has_the_id_and_the_orders_of_record() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan();
    assert_eq!(plan.rows_per_group(), 4);
    let writer = CacheWriter::open(&folder.path().join("cache"), plan.clone(), b"{}").unwrap();
    for unit in writer.pending().unwrap() {
        let mut errors = RowErrors::new(&plan.keep);
        let mut rows = Vec::new();
        for (sample, soft, theirs) in plan.unit(unit).ids().map(|number| sample(&plan, number)) {
            errors.merge(&theirs);
            rows.push((sample, soft));
        }
        writer.write_unit(unit, &rows, &errors).unwrap();
    }
    writer.finish().unwrap();
    let reader = CacheReader::open(&folder.path().join("cache")).unwrap();
    let order = |seed: u64, epoch: u64| {
        let samples = reader.shuffled("train", seed, epoch, 0).unwrap();
        samples.map(|sample| sample.unwrap().sample.id.0).collect::<Vec<_>>()
    };
    let orders: Vec<_> = [(0, 0), (0, 1), (7, 0)].into_iter().map(|(seed, epoch)| order(seed, epoch)).collect();
    let got = serde_json::json!({ "cache_id": reader.cache_id().to_string(), "orders": orders });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/golden/written_cache.json");
    if std::env::var_os("LOGITCASK_BLESS").is_some() {
        std::fs::write(path, format!("{got}\n")).unwrap();
    }
    let record: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(got, record);
}
