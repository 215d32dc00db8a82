//! Every limit at its edge, and a manifest of more than one part.

use super::*;
use crate::pack::MAX_VOCAB;
use crate::plan::{
    MAX_PART_BLOCKS, MAX_PART_UNITS, MAX_ROW_BYTES, MAX_SAMPLES, MAX_SPLIT_NAME, MAX_SPLITS, MAX_UNIT_BLOCKS, MAX_UNITS,
};
use crate::reader::{MOST_OPEN, MOST_PARTS, MOST_PROOFS, Proofs, are_too_many};
use crate::{Error, MAX_JSON_BYTES, Tier, error_stats, verify};

/// Whether a plan of one split of so many samples is accepted.
fn fits(samples: u64, samples_per_unit: u64) -> bool {
    plan(TOP_K, &[("train", samples)], samples_per_unit).check().is_ok()
}

#[test]
fn plans_are_accepted_up_to_each_limit() {
    assert_eq!((MAX_UNITS, MAX_UNIT_BLOCKS, MAX_SAMPLES), (1 << 32, 32_767, 1 << 53));
    assert!(fits(MAX_UNITS, 1) && !fits(MAX_UNITS + 1, 1));
    // Blocks have 128 rows.
    let most = 128 * MAX_UNIT_BLOCKS;
    assert!(fits(most, most) && !fits(most + 1, most + 1));
    assert!(fits(1, u64::MAX), "a unit is no longer than its split");
    // Samples have 11 positions.
    let most = MAX_SAMPLES / 11;
    let per_unit = 128 * MAX_UNIT_BLOCKS;
    assert!(fits(most, per_unit) && !fits(most + 1, per_unit));

    let packed = |classes: u32| {
        Plan { layout: Layout::Packed, vocab_size: classes, ..plan(TOP_K, &[("train", 1)], 1) }.check().is_ok()
    };
    assert!(packed(MAX_VOCAB) && !packed(MAX_VOCAB + 1));
    // A token takes 20 bytes, 3 atoms 12, and 4 classes 32.
    let of_length = |tokens: u64| Plan { max_length: tokens as u32, ..plan(TOP_K, &[("train", 1)], 1) };
    assert!(of_length(MAX_ROW_BYTES / 64).check().is_ok() && of_length(MAX_ROW_BYTES / 64 + 1).check().is_err());

    let named = |name: &str| plan(TOP_K, &[(name, 1)], 1).check().is_ok();
    assert!(named(&"x".repeat(MAX_SPLIT_NAME)) && !named(&"x".repeat(MAX_SPLIT_NAME + 1)));
    let splits = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
        let splits: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        plan(TOP_K, &splits, 1).check().is_ok()
    };
    assert!(splits(MAX_SPLITS) && !splits(MAX_SPLITS + 1));
}

#[test]
fn the_largest_plan_is_small_and_its_units_are_found_by_arithmetic() {
    let plan = plan(TOP_K, &[("train", MAX_UNITS - 1), ("val", 1)], 1);
    plan.check().unwrap();
    assert!(json::to_bytes(&plan).len() < 2048);
    let last = plan.unit_count() - 1;
    assert_eq!((plan.unit(last).split, plan.unit_of("val", 0)), ("val", Some(last)));
    assert_eq!(plan.shard_name(1), "data/train-0000000001-of-4294967295.parquet");
    assert_eq!(plan.shard_name(last), "data/val-00000-of-00001.parquet");
    assert_eq!((plan.part_count(), plan.units_of_part(plan.part_count() - 1).end), (1 << 20, last + 1));
    // A root of that many parts, each with the largest numbers, is below the limit for JSON files.
    let part = crate::ManifestPart {
        blake3: Fingerprint::of(b""),
        positions: MAX_SAMPLES,
        entries: MAX_SAMPLES,
        bytes: MAX_SAMPLES,
    };
    let root = |parts: usize| {
        let mut root = Builder::new(&plan).finish(plan.id());
        root.parts = vec![part; parts];
        json::to_bytes(&root).len() as u64
    };
    let (one, two) = (root(1), root(2));
    assert!(one + (two - one) * plan.part_count() as u64 <= MAX_JSON_BYTES);
}

#[test]
fn parts_have_fewer_commits_where_shards_have_more_blocks() {
    let per_part = |samples_per_unit: u64| plan(TOP_K, &[("train", 1 << 30)], samples_per_unit).units_per_part();
    let blocks = MAX_PART_BLOCKS / MAX_PART_UNITS as u64;
    assert_eq!((per_part(1), per_part(128 * blocks), per_part(128 * blocks + 1)), (4096, 4096, 3855));
    assert_eq!(per_part(128 * MAX_UNIT_BLOCKS), 2);
    assert_eq!(plan(TOP_K, &[("train", 5)], 128 * MAX_UNIT_BLOCKS).units_per_part(), 4096, "short splits have no such");
}

#[test]
fn files_of_json_are_read_up_to_their_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("plan.json")).unwrap();
    // Files without contents on disk: one is read and is no JSON, the other is not even read.
    for (length, message) in [(MAX_JSON_BYTES, "expected value"), (MAX_JSON_BYTES + 1, "larger than 268435456 bytes")] {
        file.set_len(length).unwrap();
        let error = Plan::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn readers_keep_up_to_each_limit() {
    assert!(!are_too_many(MOST_OPEN, 0) && are_too_many(MOST_OPEN + 1, 0));
    assert!(!are_too_many(2, Storage::MOST_READ) && are_too_many(2, Storage::MOST_READ + 1));
    assert!(!are_too_many(1, u64::MAX), "a single larger shard is kept alone");

    let mut proofs = Proofs::default();
    (0..MOST_PROOFS).for_each(|unit| drop(proofs.of(unit)));
    drop(proofs.of(0));
    assert_eq!(proofs.len(), MOST_PROOFS);
    drop(proofs.of(MOST_PROOFS));
    assert_eq!(proofs.len(), 1);
}

#[test]
fn parts_that_were_not_used_for_long_are_dropped_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    // Units of so many blocks that a part has two of them. There are no shards.
    let per_unit = 128 * MAX_UNIT_BLOCKS;
    let plan = plan(TOP_K, &[("train", per_unit * 2 * (MOST_PARTS as u64 + 1))], per_unit);
    let hash = Fingerprint::of(b"");
    let commit = |unit: usize| Commit {
        unit: unit as u32,
        split: "train".into(),
        start: plan.unit(unit).start,
        end: plan.unit(unit).end,
        shard: plan.shard_name(unit),
        rows: per_unit,
        positions: per_unit,
        entries: 4 * per_unit,
        bytes: 2,
        ranges: vec![ShardRange { bytes: 1, blake3: hash }; 2],
        kept_mass: 0.5,
        log_z_error: error_stats::of(&RowErrors::new(&plan.keep), plan.keep.tail).0,
        codec_error: error_stats::of(&RowErrors::new(&plan.keep), plan.keep.tail).1,
    };
    let commits: Vec<Commit> = (0..plan.unit_count()).map(commit).collect();
    for folder_of_files in ["_manifest", "data"] {
        fs::create_dir(folder.path().join(folder_of_files)).unwrap();
    }
    fs::write(folder.path().join("plan.json"), json::to_bytes(&plan)).unwrap();
    fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
    vouch(folder.path(), &plan, &commits);
    let reader = CacheReader::open(folder.path()).unwrap();
    for unit in (0..plan.unit_count()).chain([0]) {
        assert_eq!(reader.commit(unit).unwrap(), commits[unit]);
    }
    assert_eq!((plan.part_count(), reader.parts_in_memory()), (MOST_PARTS + 1, MOST_PARTS));
}

#[test]
fn a_manifest_of_several_parts_is_written_read_verified_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let count = MAX_PART_UNITS as u64 + 3;
    let plan = plan(TOP_K, &[("train", count - 1), ("val", 1)], 1);
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    // One shard in three places: its unit and sample are others there, which nobody notices before it is read.
    let first = write_unit(&writer, 0, 0).unwrap();
    let shard = fs::read(folder.path().join(&first.shard)).unwrap();
    for unit in 1..plan.unit_count() {
        if unit >= MAX_PART_UNITS {
            write_unit(&writer, unit, 0).unwrap();
            continue;
        }
        let range = plan.unit(unit);
        let commit = Commit {
            unit: unit as u32,
            split: range.split.to_owned(),
            start: range.start,
            end: range.end,
            shard: plan.shard_name(unit),
            ..first.clone()
        };
        fs::write(folder.path().join(&commit.shard), &shard).unwrap();
        fs::write(folder.path().join(crate::commit::name(unit)), json::to_bytes(&commit)).unwrap();
    }
    let manifest = writer.finish().unwrap();
    assert_eq!((manifest.parts.len(), manifest.totals.rows), (2, count));
    let reader = CacheReader::open(folder.path()).unwrap();
    assert_eq!(reader.cache_id(), manifest.cache_id());
    let last = plan.unit_count() - 1;
    assert_eq!(reader.get("val", SampleId(0)).unwrap().sample.id, SampleId(0));
    assert_eq!(reader.commit(last).unwrap().unit, last as u32);
    let structure = || verify(folder.path(), Tier::Structure, &mut |_, _| {}).unwrap();
    // The copies say that they are of the first unit; nothing is wrong with the second part.
    assert!(structure().findings.iter().all(|finding| finding.unit.is_some_and(|unit| unit < MAX_PART_UNITS)));

    let part = folder.path().join("_manifest/00001.json");
    let good = fs::read(&part).unwrap();
    fs::write(&part, String::from_utf8(good.clone()).unwrap().replace("\"unit\":4098", "\"unit\":4097")).unwrap();
    let reader = CacheReader::open(folder.path()).unwrap();
    assert!(reader.get("train", SampleId(0)).is_ok(), "the other part is whole");
    assert!(reader.get("val", SampleId(0)).unwrap_err().to_string().contains("_manifest/00001.json"));
    assert!(structure().findings.iter().any(|finding| finding.file == "_manifest/00001.json"));
    // Two parts in each other's places.
    let other = fs::read(folder.path().join("_manifest/00000.json")).unwrap();
    fs::write(&part, other).unwrap();
    let error = CacheReader::open(folder.path()).unwrap().get("val", SampleId(0)).unwrap_err();
    assert!(matches!(&error, Error::Malformed { path, .. } if *path == part), "{error}");
    // Made again from the commits.
    fs::remove_file(&part).unwrap();
    assert_eq!(writer.finish().unwrap(), manifest);
    assert_eq!(fs::read(&part).unwrap(), good);
}
