//! Plans, and the constants that outlive this code.

use super::*;
use crate::{COMMITS_DIR, DATA_DIR, PLAN_NAME, TOKENIZER_NAME};
use crate::{plan as limits, schema};

#[test]
fn never_change_these() {
    assert_eq!(FORMAT_VERSION, 1);
    assert_eq!(
        [PLAN_NAME, COMMITS_DIR, DATA_DIR, TOKENIZER_NAME, MANIFEST_NAME],
        ["plan.json", "_commits", "data", "tokenizer.json", "manifest.json"]
    );
    assert_eq!((limits::ROWS_PER_BLOCK, limits::BLOCK_BYTES), (128, 16 << 20));
    let names: Vec<String> = schema::plain(TOP_P).fields().iter().map(|field| field.name().clone()).collect();
    let fixed = ["sample_id", "document", "document_offset", "input_hash", "input_ids", "log_z", "gold_log_probs"];
    assert_eq!(names[..7], fixed);
    assert_eq!(names[7..], ["gold_ranks", "topk_counts", "topk_ids", "topk_log_probs"]);
    assert_eq!(schema::plain(TOP_K).fields().len(), 10);
}

#[test]
fn the_plan_of_one_version_never_hashes_differently() {
    // Plan ids stand in manifests and footers: fields, their order and their spelling are part of the format.
    let id = plan(TOP_P, &[("train", 10), ("val", 2)], 4).id().to_string();
    assert_eq!(id, PLAN_ID);
}
const PLAN_ID: &str = "186f98f18f1a4f91ddb19ac984f1424028454b697a5b9c71c5eceee2884105fb";

#[test]
fn units_cover_every_split_and_name_their_shards() {
    let plan = plan(TOP_K, &[("train", 10), ("empty", 0), ("val", 4)], 4);
    let cut: Vec<_> = plan.units.iter().map(|unit| (unit.split.as_str(), unit.start, unit.end)).collect();
    assert_eq!(cut, [("train", 0, 4), ("train", 4, 8), ("train", 8, 10), ("val", 0, 4)]);
    assert_eq!(plan.shard_name(1), "data/train-00001-of-00003.parquet");
    assert_eq!(plan.shard_name(3), "data/val-00000-of-00001.parquet");
    assert_eq!(plan.shard_names(), (0..4).map(|unit| plan.shard_name(unit)).collect::<Vec<_>>());
    plan.check().unwrap();
}

#[test]
fn blocks_shrink_with_long_rows_but_keep_a_row() {
    let mut plan = plan(TOP_K, &[("train", 1)], 1);
    assert_eq!(plan.rows_per_block(), 128);
    plan.max_length = 1024;
    plan.selection = Selection::TopK { k: 64 };
    // 1024 positions of 16 bytes and 64 entries of 6: 400 KiB a row.
    assert_eq!(plan.rows_per_block(), (16 << 20) / (400 << 10));
    plan.max_length = 1 << 20;
    assert_eq!(plan.rows_per_block(), 1);
}

#[test]
fn impossible_plans_say_why() {
    type Change = fn(&mut Plan);
    let broken: [(&str, Change); 10] = [
        ("format version 2", |p| p.format_version = 2),
        ("1..=40", |p| p.selection = Selection::TopK { k: 41 }),
        ("max_length is 1", |p| p.max_length = 1),
        ("keep fewer classes", |p| p.max_length = u32::MAX),
        ("0 units", |p| p.units.clear()),
        ("`Train` is no name", |p| p.units.iter_mut().for_each(|u| u.split = "Train".into())),
        ("do not stand together", |p| p.units.swap(1, 2)),
        ("samples 5..8 where 4..", |p| p.units[1].start = 5),
        ("samples 3..8 where 4..", |p| p.units[1].start = 3),
        ("samples 4..4 where 4..", |p| p.units[1].end = 4),
    ];
    for (message, change) in broken {
        let mut plan = plan(TOP_K, &[("train", 8), ("val", 4)], 4);
        change(&mut plan);
        let error = plan.check().unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn differences_name_every_field_and_another_cutting() {
    let here = plan(TOP_K, &[("train", 12)], 4);
    assert!(here.differences(&here).is_empty());
    let mut wanted = plan(TOP_P, &[("train", 12)], 6);
    wanted.teacher.fingerprint = Fingerprint::of(b"other weights");
    let differences = here.differences(&wanted);
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert_eq!(differences[0], "selection: top_k k=4 here, top_p p=0.8 k=9 wanted");
    assert!(differences[1].starts_with("teacher: random ("), "{differences:?}");
    assert_eq!(differences[2], "units: train 12 samples by 4 here, train 12 samples by 6 wanted");
    let mut wanted = here.clone();
    (wanted.units[1].end, wanted.units[2].start) = (7, 7);
    assert_eq!(here.differences(&wanted), ["the same samples are cut into other units"]);
}
