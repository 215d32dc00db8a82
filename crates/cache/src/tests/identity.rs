//! A cache's identity does not depend on the formatting of its files, on who started it, or on the names of its inputs.

use super::*;
use crate::names::COMMITS_DIR;
use crate::{CODEC_VERSION, Claimed, Error, PLAN_NAME, Tier, verify};
use crate::{codec, companions};
use serde_json::Value;

fn small() -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 6), ("val", 2)], 4);
    write(folder.path(), &plan);
    (folder, plan)
}

/// The same JSON as another program may write it: other white space, order of keys and notation of numbers.
fn respelled(json: &[u8]) -> String {
    fn spell(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                out.push('{');
                for (i, (key, value)) in map.iter().rev().enumerate() {
                    *out += if i > 0 { " ,\t" } else { "" };
                    *out += &format!("{key:?} :");
                    spell(value, out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    *out += if i > 0 { "," } else { "" };
                    spell(item, out);
                }
                out.push(']');
            }
            Value::Number(number) if number.is_f64() => *out += &format!("{:e}", number.as_f64().unwrap()),
            other => *out += &other.to_string(),
        }
    }
    let mut out = String::new();
    spell(&serde_json::from_slice(json).unwrap(), &mut out);
    out
}

#[test]
fn a_cache_whose_json_another_program_wrote_anew_is_the_same_cache() {
    let (folder, plan) = small();
    let cache_id = CacheReader::open(folder.path()).unwrap().cache_id();
    let names = [
        PLAN_NAME,
        MANIFEST_NAME,
        "_manifest/00000.json",
        "_commits/00000.json",
        "_commits/00001.json",
        "_commits/00002.json",
    ];
    for name in names {
        let path = folder.path().join(name);
        let text = respelled(&fs::read(&path).unwrap());
        assert!(name == PLAN_NAME || text.contains("e-"), "no small number is spelled otherwise: {text}");
        fs::write(&path, text).unwrap();
    }
    assert_eq!(CacheReader::open(folder.path()).unwrap().cache_id(), cache_id);
    let report = verify(folder.path(), Tier::Rows, &mut |_, _| {}).unwrap();
    assert!(report.is_whole() && report.notes.is_empty(), "{report:?}");
    // It can also be repaired: a lost shard is rebuilt.
    fs::remove_file(folder.path().join(plan.shard_name(1))).unwrap();
    let writer = CacheWriter::open(folder.path(), plan, TOKENIZER).unwrap();
    assert_eq!(writer.pending().unwrap(), [1]);
    write_unit(&writer, 1, 0).unwrap();
    assert_eq!(writer.finish().unwrap().cache_id(), cache_id);
}

#[test]
fn versions_of_the_program_and_names_identify_nothing() {
    let (folder, plan) = small();
    let companions = companions::pins([("generation_config.json", b"{}".as_slice())]);
    let mut renamed = Plan { code_version: "9.9.9".into(), companions, ..plan.clone() };
    for pin in [&mut renamed.teacher, &mut renamed.tokenizer, &mut renamed.dataset] {
        pin.name = "renamed".into();
    }
    assert_eq!(renamed.id(), plan.id());
    assert_eq!(plan.differences(&renamed), [""; 0]);
    let writer = CacheWriter::open(folder.path(), renamed, TOKENIZER).unwrap();
    assert_eq!(*writer.plan(), plan, "the names stay those of whoever began it");
}

#[test]
fn whatever_decides_the_rows_identifies() {
    type Change = fn(&mut Plan);
    let (folder, plan) = small();
    let changes: [(&str, Change); 14] = [
        ("versions: tokenisation 1, forward 1, selection 1, codec 1 here", |p| p.versions.selection += 1),
        ("versions", |p| p.versions.tokenisation += 1),
        ("versions", |p| p.versions.forward += 1),
        ("versions", |p| p.versions.codec += 1),
        ("selection: top_k k=4 here, top_k k=5 wanted", |p| p.keep.selection = Selection::TopK { k: 5 }),
        ("padding: 0 here, 7 wanted", |p| p.keep.padding = 7),
        ("teacher", |p| p.teacher.fingerprint = Fingerprint::of(b"other")),
        ("dataset", |p| p.dataset.fingerprint = Fingerprint::of(b"other")),
        ("special_tokens: refuse here, parse wanted", |p| p.special_tokens = "parse".into()),
        ("conversations: none here, date 2026-07-26 wanted", |p| {
            p.conversations = [("date".to_owned(), "2026-07-26".to_owned())].into();
        }),
        ("added_tokens", |p| p.added_tokens.push(crate::AddedToken { id: 41, content: "<x>".into() })),
        ("precision", |p| p.precision = "bf16".into()),
        ("batch_tokens", |p| p.batch_tokens += 1),
        ("bos and end", |p| p.bos = None),
    ];
    for (difference, change) in changes {
        let mut other = plan.clone();
        change(&mut other);
        assert_ne!(other.id(), plan.id(), "{difference}");
        let error = CacheWriter::open(folder.path(), other, TOKENIZER).unwrap_err();
        assert!(matches!(error, Error::OtherPlan { .. }) && error.to_string().contains(difference), "{error}");
    }
}

/// If this fails, the same rows result in other bytes than before, because of a change of `codec`, `pack` or `schema`,
/// or an update of the Parquet or zstd crate. Increment [`CODEC_VERSION`], and put the new number and hash here.
#[test]
fn the_codec_has_another_version_when_its_bytes_are_others() {
    let hashes = [Layout::Plain, Layout::Packed].map(|layout| {
        let plan = Plan { layout, ..plan(TOP_P, &[("train", 40)], 40) };
        // The plan's id is in the footer, and does not depend on the codec.
        let id = Fingerprint::of(b"");
        Fingerprint::of(&codec::encode(&plan, id, 0, &rows_of(&plan, 0, 0)).unwrap()).short()
    });
    assert_eq!((CODEC_VERSION, hashes.each_ref().map(String::as_str)), (2, ["3fe738bf", "b1116099"]));
}

#[test]
fn readers_do_not_miss_commits() {
    let (folder, plan) = small();
    fs::remove_dir_all(folder.path().join(COMMITS_DIR)).unwrap();
    let report = verify(folder.path(), Tier::Rows, &mut |_, _| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.notes.len(), plan.unit_count());
    // Without a manifest, only the commits tell which shards are complete.
    fs::remove_file(folder.path().join(MANIFEST_NAME)).unwrap();
    assert!(!verify(folder.path(), Tier::Rows, &mut |_, _| {}).unwrap().is_whole());
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let plan = plan(TOP_K, &[("train", 1)], 1);
    for theirs in ["text.jsonl", "config.json", "data"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(theirs)).unwrap();
        let error = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap_err();
        assert!(matches!(&error, Error::Occupied { found, .. } if found == theirs), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
    }
    // Hidden files are ignored, and a folder with shards but no plan is still a cache.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".DS_Store"), b"").unwrap();
    CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    fs::remove_file(folder.path().join(PLAN_NAME)).unwrap();
    CacheWriter::open(folder.path(), plan, TOKENIZER).unwrap();
}

#[test]
fn a_unit_is_claimed_by_one_worker_at_a_time_and_by_nobody_once_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 8)], 4);
    let [one, other] = [(); 2].map(|()| CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap());
    let Claimed::Mine(claim) = one.claim(0).unwrap() else { panic!("nobody else is at it") };
    assert!(matches!(other.claim(0).unwrap(), Claimed::Elsewhere));
    assert!(matches!(other.claim(1).unwrap(), Claimed::Mine(_)));
    drop(claim);
    let Claimed::Mine(claim) = other.claim(0).unwrap() else { panic!("it was given back") };
    write_unit(&other, 0, 0).unwrap();
    assert!(matches!(one.claim(0).unwrap(), Claimed::Committed));
    drop(claim);
    assert!(matches!(one.claim(0).unwrap(), Claimed::Committed));
    write_unit(&one, 1, 0).unwrap();
    one.finish().unwrap();
    let hidden = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().starts_with('.');
    assert!(!fs::read_dir(folder.path().join(COMMITS_DIR)).unwrap().any(hidden), "no claim is left behind");
}

#[test]
fn a_shard_that_is_cut_or_gone_is_told_by_its_length() {
    let (folder, plan) = small();
    let cache = CacheReader::open(folder.path()).unwrap();
    cache.check_lengths().unwrap();
    let shard = folder.path().join(plan.shard_name(1));
    let good = fs::read(&shard).unwrap();
    fs::write(&shard, &good[..good.len() - 1]).unwrap();
    assert!(matches!(cache.check_lengths().unwrap_err(), Error::Size { path, .. } if path == shard));
    fs::remove_file(&shard).unwrap();
    assert!(matches!(cache.check_lengths().unwrap_err(), Error::Io { path, .. } if path == shard));
}

#[test]
fn splits_that_hubs_take_for_one_are_refused() {
    let mut plan = plan(TOP_K, &[("a-b", 2), ("a_b", 2)], 2);
    let error = plan.check().unwrap_err().to_string();
    assert!(error.contains("one name to dataset hubs"), "{error}");
    plan.splits.pop();
    plan.check().unwrap();
}

#[test]
fn integers_that_json_readers_round_are_refused() {
    let plan = plan(SAMPLE, &[("train", 1)], 1);
    let mut keep = plan.keep.clone();
    keep.selection = Selection::Sample { n: 7, seed: (1 << 53) + 1 };
    for bad in [Plan { batch_tokens: u64::MAX, ..plan.clone() }, Plan { keep, ..plan }] {
        assert!(bad.check().unwrap_err().to_string().contains("2^53"));
    }
}

#[test]
fn a_card_names_each_splits_own_shards_and_nothing_yaml_takes_for_another_type() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &plan(TOP_K, &[("train", 2), ("train-hard", 2), ("no", 2)], 2));
    let card = fs::read_to_string(folder.path().join(crate::card::CARD_NAME)).unwrap();
    for (split, name) in [("train", "train"), ("train_hard", "train-hard"), ("no", "no")] {
        let lines = format!("  - split: \"{split}\"\n    path: \"data/{name}-?????-of-?????.parquet\"\n");
        assert!(card.contains(&lines), "{card}");
    }
}

#[test]
fn a_card_states_each_columns_type_and_each_splits_samples_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_P, &[("train", 5), ("val-2", 1)], 2);
    write(folder.path(), &plan);
    let card = fs::read_to_string(folder.path().join(crate::card::CARD_NAME)).unwrap();
    for lines in [
        "- name: document_offset\n    dtype: uint32\n",
        "- name: topk_counts\n    list: uint16\n",
        "- name: log_z\n    list: float32\n",
        "- name: tail_logits\n    list: int16\n",
    ] {
        assert!(card.contains(lines), "{card}");
    }
    let commits = commits(folder.path(), &plan);
    let bytes = |split: &str| commits.iter().filter(|c| c.split == split).map(|c| c.bytes).sum::<u64>();
    for (name, split, samples) in [("train", "train", 5), ("val_2", "val-2", 1)] {
        let size = bytes(split);
        let lines = format!("- name: \"{name}\"\n    num_bytes: {size}\n    num_examples: {samples}\n");
        assert!(card.contains(&lines), "{card}");
    }
}
