//! Files that are truncated, damaged, swapped or forged.

use super::*;
use crate::codec;
use crate::schema;
use crate::shard::Shard;
use crate::{Error, PLAN_NAME, TOKENIZER_NAME};
use arrow_array::RecordBatch;

/// Six samples of equal length, so that columns of any two can be swapped.
fn even(plan: &Plan, seed: u64) -> Vec<(Sample, SoftRows)> {
    (0..6).map(|id| row_of(plan, id, 9, seed)).collect()
}

#[test]
fn a_flipped_byte_anywhere_is_a_checksum_error() {
    let (folder, plan) = small();
    let path = folder.path().join(plan.shard_name(0));
    let good = fs::read(&path).unwrap();
    let footer = ranges_of(&good)[0].bytes as usize;
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let error = CacheReader::open(folder.path()).unwrap().get("train", SampleId(0)).unwrap_err();
        let file = if at < footer { "row group 0 (samples 0 to 5): the BLAKE3" } else { "footer: the BLAKE3" };
        assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains(file), "{error}");
    }
}

#[test]
fn a_shard_cut_short_is_refused() {
    let (folder, plan) = small();
    let path = folder.path().join(plan.shard_name(0));
    let good = fs::read(&path).unwrap();
    for len in [0, 4, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        let error = CacheReader::open(folder.path()).unwrap().get("train", SampleId(0)).unwrap_err();
        assert!(matches!(error, Error::Size { got, .. } if got == len as u64), "{error}");
        // Even if the manifest matches the truncated file.
        forge(folder.path(), &plan, 0, &good[..len]);
        assert!(matches!(
            CacheReader::open(folder.path()).unwrap().get("train", SampleId(0)),
            Err(Error::Parquet { .. } | Error::Malformed { .. })
        ));
        forge(folder.path(), &plan, 0, &good);
    }
}

#[test]
fn damage_that_a_manifest_vouches_for_never_panics() {
    let (folder, plan) = small();
    let mut commit = commits(folder.path(), &plan)[0].clone();
    let path = folder.path().join(&commit.shard);
    let good = fs::read(&path).unwrap();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= [0x01, 0x80, 0xff][at % 3];
        fs::write(&path, &bad).unwrap();
        // The place of the ranges stays that of the whole shard.
        let mut start = 0;
        for range in &mut commit.ranges {
            let end = start + range.bytes as usize;
            range.blake3 = Fingerprint::of(&bad[start..end]);
            start = end;
        }
        let read = Shard::open(&stored(folder.path()), (&plan, plan.id()), 0, &commit, None)
            .and_then(|shard| shard.read(&plan, 0, 0..6));
        refused += usize::from(read.is_err());
    }
    // The others change bytes that are not read, or a value that remains plausible.
    assert!(refused > good.len() / 3, "{refused} of {} damaged shards were refused", good.len());
}

#[test]
fn damage_under_the_compression_never_panics() {
    use parquet::basic::Compression;
    let mut refused = 0;
    let mut tried = 0;
    for plan in [bad::make::top_k(), bad::make::sample(), bad::make::packed()] {
        let good = bad::make::shard_with(&plan, &|p| {
            schema::columns(&plan).fields().iter().fold(p, |p, field| {
                let list = vec![field.name().clone(), "list".into(), "element".into()];
                p.set_column_compression(list.into(), Compression::UNCOMPRESSED)
            })
        });
        for (at, with) in (0..good.len()).flat_map(|at| [0x01, 0x40, 0x80, 0xff].map(|with| (at, with))) {
            let mut bad = good.clone();
            bad[at] ^= with;
            let shard = Shard::of_bytes("bad".into(), bad.into(), (&plan, plan.id()), 0);
            // Reading only the second row makes the decoder skip the first by its claimed length.
            for rows in [0..2, 1..2] {
                refused += usize::from(shard.as_ref().map_or(true, |shard| shard.read(&plan, 0, rows).is_err()));
                tried += 1;
            }
        }
    }
    assert!(tried > 50_000 && refused > tried / 3, "{refused} of {tried}");
}

#[test]
fn columns_swapped_between_two_samples_are_refused_by_name() {
    // Enough kept classes that labels are often among them, which ties rows to their input.
    let plan = plan(Selection::TopP { p: 0.95, k: 20 }, &[("train", 6)], 6);
    let folder = tempfile::tempdir().unwrap();
    let rows = even(&plan, 0);
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    writer.write_unit(0, &rows, &RowErrors::new(&plan.keep)).unwrap();
    writer.finish().unwrap();
    let mut swapped = rows.clone();
    swapped.swap(2, 4);
    let honest = codec::to_batch(&plan, &rows, None, true).unwrap();
    let other = codec::to_batch(&plan, &swapped, None, true).unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&[schema::SAMPLE_ID], "says it is sample 4"),
        (&[schema::INPUT_HASH_LOW, schema::INPUT_HASH_HIGH], "another input"),
        (&[schema::INPUT_HASH_HIGH], "another input"),
        (&[schema::INPUT_IDS], "another input"),
        (&[schema::INPUT_IDS, schema::INPUT_HASH_LOW, schema::INPUT_HASH_HIGH], "another input"),
        (&[schema::GOLD_RANKS], "another input"),
        (&[schema::TOPK_COUNTS, schema::TOPK_IDS, schema::TOPK_LOG_PROBS], "another input"),
        (&[schema::TOPK_COUNTS], "belong there"),
    ];
    let forge_batch = |batch: RecordBatch| {
        forge(folder.path(), &plan, 0, &codec::write(&plan, plan.id(), 0, std::iter::once(Ok(batch))).unwrap());
    };
    for (names, message) in cases {
        let column =
            |name: &str| if names.contains(&name) { &other } else { &honest }.column_by_name(name).unwrap().clone();
        let columns = honest.schema().fields().iter().map(|field| column(field.name())).collect();
        forge_batch(RecordBatch::try_new(honest.schema(), columns).unwrap());
        let error = read_error(folder.path(), "train").unwrap_or_else(|| panic!("{names:?} went unnoticed"));
        assert!(error.contains("row 2 (sample 2)") && error.contains(message), "{names:?}: {error}");
        assert!(error.contains("train-00000-of-00001.parquet"), "{error}");
    }
    // Swaps the whole rows, then only the teacher's columns.
    forge_batch(other);
    assert!(read_error(folder.path(), "train").unwrap().contains("row 2 (sample 2): the row says it is sample 4"));
    let mut soft = rows.clone();
    (soft[2].1, soft[4].1) = (rows[4].1.clone(), rows[2].1.clone());
    forge_batch(codec::to_batch(&plan, &soft, None, true).unwrap());
    assert!(read_error(folder.path(), "train").unwrap().contains("row 2 (sample 2)"));
    forge_batch(honest);
    assert_eq!(read_error(folder.path(), "train"), None);
}

#[test]
fn shards_of_another_unit_or_shape_are_refused() {
    let (folder, plan) = small();
    let shard = |unit| fs::read(folder.path().join(plan.shard_name(unit))).unwrap();
    let (first, second) = (shard(0), shard(1));
    let error = |bytes: &[u8]| {
        forge(folder.path(), &plan, 0, bytes);
        read_error(folder.path(), "train").unwrap()
    };
    let text = error(&second);
    assert!(text.contains("logitcask.unit = 1, the plan says 0"), "{text}");

    let rows = rows_of(&plan, 0, 0);
    let text = error(&codec::encode(&plan, plan.id(), 0, &rows[..5]).unwrap());
    assert!(text.contains("row groups of [5] rows, 6 rows belong in the shard"), "{text}");
    let mut wider = plan.clone();
    wider.keep = keep(TOP_P);
    let text = error(&codec::encode(&wider, wider.id(), 0, &rows_of(&wider, 0, 0)).unwrap());
    assert!(text.contains("logitcask."), "{text}");
    forge(folder.path(), &plan, 0, &first);
    assert_eq!(read_error(folder.path(), "train"), None);
}

#[test]
fn a_changed_manifest_is_refused() {
    let (folder, _) = small();
    let path = folder.path().join(MANIFEST_NAME);
    let good = fs::read_to_string(&path).unwrap();
    let changes = [
        ("\"rows\": 12", "\"rows\": 13", "totals that the plan does not allow"),
        ("\"entries\": ", "\"entries\": 1", "totals are not the sums"),
        ("\"plan_id\": \"", "\"plan_id\": \"0", "64 lowercase hex digits"),
        ("\"entries\"", "\"more\": 1, \"entries\"", "unknown field"),
        ("\"format_version\": 2", "\"format_version\": 1", "format version 1, but this build reads version 2"),
        ("\"positions\": ", "\"positions\": 18446744073709551615", "floating point"),
    ];
    for (from, to, message) in changes {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = CacheReader::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("manifest.json"), "{from} -> {to}: {error}");
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(CacheReader::open(folder.path()).unwrap_err().to_string().contains("EOF"));
}

#[test]
fn a_changed_part_is_refused_at_its_first_use() {
    let (folder, plan) = small();
    let path = folder.path().join("_manifest/00000.json");
    let good = fs::read_to_string(&path).unwrap();
    let error = || {
        let reader = CacheReader::open(folder.path()).unwrap();
        let errors = [reader.commit(1).unwrap_err(), reader.get("train", SampleId(0)).unwrap_err()];
        assert_eq!(errors[0].to_string(), errors[1].to_string());
        errors[0].to_string()
    };
    let hash = commits(folder.path(), &plan)[0].ranges[0].blake3.to_string();
    let other = Fingerprint::of(b"other").to_string();
    let changes = [
        ("\"rows\":6", "\"rows\":7", "counts that the plan does not allow"),
        ("data/train-00000", "../train-00000", "the plan says"),
        ("data/train-00000-of-00002", "/etc/passwd", "the plan says"),
        ("\"entries\"", "\"more\": 1, \"entries\"", "unknown field"),
        (&hash, &other, ": the file was changed or damaged"),
    ];
    for (from, to, message) in changes {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = error();
        assert!(error.contains(message) && error.contains("_manifest/00000.json"), "{from} -> {to}: {error}");
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(error().contains("cut off"));
    fs::remove_file(&path).unwrap();
    assert!(error().contains("_manifest/00000.json: cannot open the file"));
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (folder, plan) = small();
    let open = || CacheReader::open(folder.path()).map(|_| ());
    let [tokenizer, manifest, plan_path] = [TOKENIZER_NAME, MANIFEST_NAME, PLAN_NAME].map(|n| folder.path().join(n));
    fs::write(&tokenizer, b"{}").unwrap();
    assert!(matches!(open(), Err(Error::Checksum { path, .. }) if path == tokenizer));
    fs::write(&tokenizer, TOKENIZER).unwrap();

    let mut other = plan.clone();
    other.precision = "bf16".into();
    fs::write(&plan_path, json::to_bytes(&other)).unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("the plan beside it"), "{error}");
    other.precision = plan.precision.clone();
    other.splits[0].samples = 0;
    fs::write(&plan_path, json::to_bytes(&other)).unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("split `train` without samples was given") && error.contains(PLAN_NAME), "{error}");

    fs::remove_file(&manifest).unwrap();
    fs::remove_file(&plan_path).unwrap();
    assert!(matches!(open(), Err(Error::NotACache { .. })));
}
