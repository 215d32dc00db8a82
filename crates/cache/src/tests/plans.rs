//! Plans, and the constants of the format that must never change.

use super::*;
use crate::{COMMITS_DIR, DATA_DIR, PARTS_DIR, PLAN_NAME, TOKENIZER_NAME};
use crate::{plan as limits, schema};
use logitcask_core::TailAtom;

#[test]
fn never_change_these() {
    assert_eq!(FORMAT_VERSION, 2);
    assert_eq!(
        [PLAN_NAME, COMMITS_DIR, DATA_DIR, TOKENIZER_NAME, MANIFEST_NAME, PARTS_DIR],
        ["plan.json", "_commits", "data", "tokenizer.json", "manifest.json", "_manifest"]
    );
    assert_eq!((limits::ROWS_PER_ROW_GROUP, limits::ROW_GROUP_BYTES), (128, 20 << 20));
    let columns = |layout, selection| -> Vec<String> {
        let plan = Plan { layout, ..plan(selection, &[("train", 1)], 1) };
        schema::columns(&plan).fields().iter().map(|field| field.name().clone()).collect()
    };
    let common = ["sample_id", "document", "document_offset", "input_hash_low", "input_hash_high", "input_ids"];
    let scalars = ["log_z", "gold_log_probs", "gold_ranks"];
    let tail = ["tail_logits", "tail_log_weights"];
    for (layout, selection, kept) in [
        (Layout::Plain, TOP_K, &["topk_ids", "topk_log_probs"][..]),
        (Layout::Plain, TOP_P, &["topk_counts", "topk_ids", "topk_log_probs"]),
        (Layout::Plain, SAMPLE, &["drawn_counts", "topk_ids", "topk_log_probs"]),
    ] {
        assert_eq!(columns(layout, selection), [&common[..], &scalars, &tail, kept].concat());
    }
    assert_eq!(columns(Layout::Packed, TOP_P), [&common[..], &["packed", "packed_model"]].concat());
    assert_eq!(columns(Layout::Plain, Selection::Dense {})[8..], ["gold_ranks", "topk_log_probs"]);
    assert_eq!((logitcask_core::tail::ATOM_STEP, schema::ROWS_PER_PAGE), (1.0 / 512.0, 32));
}

#[test]
fn never_change_the_numbers_either() {
    assert_eq!((limits::MAX_PART_UNITS, limits::MAX_PART_BLOCKS), (4096, 65_536));
    assert_eq!(crate::card::CARD_NAME, "README.md");
    // Log-probabilities: the allowed steps, the number of codes, and the value of a code.
    let accepted =
        |step: f64| Truncation { values: LogProbPrecision::Quantised { step }, ..keep(TOP_K) }.check(VOCAB).is_ok();
    let steps: Vec<f64> = (0..10).map(|i| 0.5f64.powi(i)).filter(|step| accepted(*step)).collect();
    assert_eq!(steps, [0.5, 0.25, 0.125, 0.0625, 0.03125]);
    assert!([0.1, 0.3, 0.75].into_iter().all(|step| !accepted(step)));
    let quantised = LogProbPrecision::Quantised { step: 0.0625 };
    assert_eq!((quantised.max_code(), quantised.value(2207)), (2207, -127.9375));
    assert_eq!([-1.0, -2.0, -3.0].map(|lp| quantised.code(lp)), [Some(128), Some(192), Some(208)]);
    assert_eq!(
        (
            LogProbPrecision::F16 {}.max_code(),
            LogProbPrecision::F16 {}.code(-1.0),
            LogProbPrecision::F16 {}.value(0x7bff)
        ),
        (0x7bff, Some(0x3c00), -65504.0)
    );
    // Tail atoms: their number, their unit, the empty atom, and the inverse temperature at which their weights are
    // given.
    let rule = |atoms| TailRule { lowest_temperature: 0.25, highest_temperature: 4.0, atoms };
    assert_eq!((1..20).filter(|atoms| rule(*atoms).check().is_ok()).max(), Some(8));
    assert_eq!((rule(2).reference(), rule(2).knots()), (1.0, (0.25, 1.25)));
    assert_eq!(rule(2).grid(), [0.25, 0.875, 1.5, 2.125, 2.75, 3.375, 4.0]);
    let atom = TailAtom::new(-2.0, 0.5);
    assert_eq!((atom.log_prob, atom.log_weight, TailAtom::NONE.log_prob), (-1024, 256, -32768));
    assert_eq!(atom.log_term(2.0, 1.0), 0.5 - 2.0);
    // Inputs: BLAKE3 in key-derivation mode, context "logitcask input v1".
    assert_eq!(logitcask_core::InputHash::of(&[1, 2, 3]).to_string(), INPUT_HASH);
}
const INPUT_HASH: &str = "4a4946896af4c610a386b92c33eb9f33";

#[test]
fn never_change_the_footer() {
    let footer = |plan: &Plan| schema::constants(plan, plan.id(), 3);
    let mut plan = Plan { layout: Layout::Packed, ..plan(TOP_P, &[("train", 1)], 1) };
    plan.keep.values = LogProbPrecision::Quantised { step: 0.0625 };
    let id = plan.id().to_string();
    let reference = plan.keep.tail.unwrap().reference().to_string();
    let expected = [
        ("logitcask.format_version", "2"),
        ("logitcask.plan_id", &id),
        ("logitcask.unit", "3"),
        ("logitcask.layout", "packed"),
        ("logitcask.vocab_size", "40"),
        ("logitcask.selection", "top_p"),
        ("logitcask.k", "9"),
        ("logitcask.p", "0.8"),
        ("logitcask.value_step", "0.0625"),
        ("logitcask.tail_atoms", "3"),
        ("logitcask.tail_reference", &reference),
        ("logitcask.tail_step", "0.001953125"),
    ];
    assert_eq!(footer(&plan), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let keys = |selection| -> Vec<(String, String)> {
        footer(&super::plan(selection, &[("train", 1)], 1))
            .into_iter()
            .filter(|(key, _)| key.ends_with(['k', 'n']))
            .collect()
    };
    for (selection, name, k) in [(TOP_K, "top_k", "4"), (SAMPLE, "sample", "7"), (Selection::Dense {}, "dense", "40")] {
        let expected = [("logitcask.format_version", "2"), ("logitcask.selection", name), ("logitcask.k", k)];
        assert_eq!(keys(selection), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let types: Vec<String> = schema::columns(&super::plan(SAMPLE, &[("train", 1)], 1))
        .fields()
        .iter()
        .map(|field| field.data_type().to_string().replace("non-null ", "").replace(", field: 'element'", ""))
        .collect();
    let scalars = ["UInt64", "UInt64", "UInt32", "UInt64", "UInt64"];
    let lists = ["UInt32", "Float32", "Float32", "UInt32", "Int16", "Int16", "UInt16", "UInt32", "Float32"];
    assert_eq!(types, [&scalars.map(str::to_owned)[..], &lists.map(|of| format!("List({of})"))].concat());
}

#[test]
fn the_plan_of_one_version_never_hashes_differently() {
    // Manifests and footers contain plan ids, so the names, order and spelling of a plan's fields are part of the
    // format.
    let id = plan(TOP_P, &[("train", 10), ("val", 2)], 4).id().to_string();
    assert_eq!(id, PLAN_ID);
}
const PLAN_ID: &str = "0ed740c4a36afa893af811a0398a2735bb032fc6ca00d7c4b027a9ba87380600";

#[test]
fn units_cover_every_split_and_name_their_shards() {
    let plan = plan(TOP_K, &[("train", 10), ("empty", 0), ("val", 4)], 4);
    let units = (0..plan.unit_count()).map(|unit| plan.unit(unit));
    let cut: Vec<_> = units.map(|unit| (unit.split, unit.start, unit.end)).collect();
    assert_eq!(cut, [("train", 0, 4), ("train", 4, 8), ("train", 8, 10), ("val", 0, 4)]);
    assert_eq!((plan.units("train"), plan.units("val"), plan.units("empty")), (Some(0..3), Some(3..4), None));
    assert_eq!([0, 7, 9].map(|id| plan.unit_of("train", id)), [Some(0), Some(1), Some(2)]);
    assert_eq!((plan.unit_of("train", 10), plan.unit_of("val", 3), plan.unit_of("x", 0)), (None, Some(3), None));
    assert_eq!(plan.shard_name(1), "data/train-00001-of-00003.parquet");
    assert_eq!(plan.shard_name(3), "data/val-00000-of-00001.parquet");
    let many = super::plan(TOP_K, &[("train", 1_000_000)], 1);
    assert_eq!(many.shard_name(7), "data/train-0000007-of-1000000.parquet");
    for (file, is_its) in [
        ("data/train-00002-of-00003.parquet", true),
        ("data/train-00003-of-00003.parquet", false),
        ("data/train-00000-of-00002.parquet", false),
        ("data/other-00000-of-00003.parquet", false),
        ("data/train-2-of-3.parquet", false),
        ("_commits/00003.json", true),
        ("_commits/00004.json", false),
        ("_commits/3.json", false),
        ("_manifest/00000.json", true),
        ("_manifest/00001.json", false),
    ] {
        assert_eq!(plan.names(file), is_its, "{file}");
    }
    plan.check().unwrap();
}

#[test]
fn blocks_shrink_with_long_rows_but_keep_a_row() {
    let mut plan = plan(TOP_K, &[("train", 1)], 1);
    assert_eq!(plan.rows_per_group(), 128);
    plan.max_length = 1024;
    plan.keep.selection = Selection::TopK { k: 4 * 9 };
    // 1024 positions of 20 bytes, 3 atoms of 4 and 36 entries of 8: 320 KiB a row.
    assert_eq!(plan.rows_per_group(), (20 << 20) / (320 << 10));
    plan.max_length = 1 << 20;
    assert_eq!(plan.rows_per_group(), 1);
}

#[test]
fn impossible_plans_say_why() {
    type Change = fn(&mut Plan);
    let broken: [(&str, Change); 8] = [
        ("format_version = 1", |p| p.format_version = 1),
        ("1 to 40", |p| p.keep.selection = Selection::TopK { k: 41 }),
        ("max_length = 1", |p| p.max_length = 1),
        ("keep fewer classes", |p| p.max_length = u32::MAX),
        ("0 splits", |p| p.splits.clear()),
        ("a split named `Train`", |p| p.splits[0].name = "Train".into()),
        ("split `train` twice", |p| p.splits[1].name = "train".into()),
        ("split `val` without samples", |p| p.splits[1].samples = 0),
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
}
