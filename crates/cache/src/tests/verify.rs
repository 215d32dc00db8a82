//! The findings of `verify`, and what it accepts.

use super::*;
use crate::verify::{Finding, Report, Tier, verify};
use crate::{COMMITS_DIR, DATA_DIR, Error, PLAN_NAME, TOKENIZER_NAME, codec, schema};
use arrow_array::RecordBatch;

fn rows(folder: &Path) -> Report {
    verify(folder, Tier::Rows, &mut |_, _| {}).unwrap()
}

fn structure(folder: &Path) -> Report {
    verify(folder, Tier::Structure, &mut |_, _| {}).unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The findings of a report as lines.
fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(Finding::to_string).collect()
}

#[test]
fn a_whole_cache_of_any_kind_has_no_findings() {
    for layout in [Layout::Plain, Layout::Packed] {
        for selection in [TOP_K, TOP_P, SAMPLE, Selection::Dense {}] {
            let folder = tempfile::tempdir().unwrap();
            let plan = Plan { layout, ..plan(selection, &[("train", 10), ("val", 3)], 4) };
            let cache_id = write(folder.path(), &plan).cache_id();
            // Foreign files beside a cache are accepted.
            fs::write(folder.path().join("_runs.jsonl"), b"{}").unwrap();
            fs::write(folder.path().join("README.md"), b"edited").unwrap();
            fs::write(folder.path().join(DATA_DIR).join(".tmp-killed"), b"").unwrap();
            let mut heard = Vec::new();
            let report = verify(folder.path(), Tier::Rows, &mut |done, of| heard.push((done, of))).unwrap();
            assert_eq!(lines(&report), [""; 0]);
            assert_eq!((report.units, report.rows, report.cache_id), (4, 13, Some(cache_id)));
            assert_eq!(heard, [(1, 4), (2, 4), (3, 4), (4, 4)]);
            let report = structure(folder.path());
            assert!(report.is_whole() && report.rows == 0, "{:?}", lines(&report));
        }
    }
}

#[test]
fn a_folder_without_a_cache_is_the_only_error() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("absent")] {
        let error = verify(&path, Tier::Rows, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, Error::NotACache { .. }), "{error}");
    }
    fs::write(folder.path().join(PLAN_NAME), b"").unwrap();
    assert_eq!(rows(folder.path()).findings.len(), 1);
}

#[test]
fn every_finding_is_listed() {
    let (folder, plan) = small();
    let at = |name: &str| folder.path().join(name);
    let shard = at(&plan.shard_name(1));
    let length = fs::metadata(&shard).unwrap().len() as usize;
    flip(&shard, length / 3);
    fs::remove_file(at(&plan.shard_name(0))).unwrap();
    fs::write(at("_commits/00000.json"), b"{}").unwrap();
    fs::write(at(TOKENIZER_NAME), b"{}").unwrap();
    for name in ["data/train-00002-of-00003.parquet", "data/notes.txt", "_commits/00002.json", "copy.parquet"] {
        fs::write(at(name), b"").unwrap();
    }
    let report = rows(folder.path());
    let expected = [
        ("tokenizer.json", "BLAKE3 hash is"),
        ("_commits/00000.json", "missing field"),
        ("data/train-00002-of-00003.parquet", "not of this cache"),
        ("_commits/00002.json", "not of this cache"),
        ("copy.parquet", "not of this cache"),
        ("data/train-00000-of-00002.parquet", "missing"),
        ("data/train-00001-of-00002.parquet", "BLAKE3 hash is"),
    ];
    for (file, what) in expected {
        let found = report.findings.iter().any(|f| f.file == file && f.what.contains(what));
        assert!(found, "{file} {what}: {:#?}", lines(&report));
    }
    assert_eq!(report.notes.iter().map(|note| note.file.as_str()).collect::<Vec<_>>(), ["data/notes.txt"]);
    assert!(lines(&report).iter().all(|line| !line.contains('\n')));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["file"], "tokenizer.json");
    assert_eq!(report.units, 2, "the report goes on to the last unit");
}

#[test]
fn bytes_are_looked_at_only_where_that_was_asked_for() {
    let (folder, plan) = small();
    let shard = folder.path().join(plan.shard_name(1));
    // This byte is in a page's data, not in the footer or a header.
    flip(&shard, 60);
    assert_eq!(lines(&structure(folder.path())), [""; 0]);
    assert!(!rows(folder.path()).is_whole());
    // This one is in the footer.
    let length = fs::metadata(&shard).unwrap().len() as usize;
    flip(&shard, length - 6);
    let report = structure(folder.path());
    assert!(report.findings.iter().all(|f| f.unit == Some(1)) && !report.is_whole(), "{:?}", lines(&report));
}

#[test]
fn bad_rows_are_named_though_every_hash_fits() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(TOP_K, &[("train", 10)], 10);
    plan.max_length = FOUR_ROWS_A_BLOCK;
    write(folder.path(), &plan);
    let good = rows_of(&plan, 0, 0);
    let blocks = good.chunks(4).map(|block| {
        let batch = codec::to_batch(&plan, block, None, true).unwrap();
        let mut other = block.to_vec();
        if block[0].0.id.0 == 4 {
            // Samples 5 and 6 get the tokens of another sample, with the hash of these tokens.
            (other[1].0.input_ids, other[2].0.input_ids) = (good[9].0.input_ids.clone(), good[9].0.input_ids.clone());
        }
        let other = codec::to_batch(&plan, &other, None, true).unwrap();
        let column = |name: &String| if name == schema::INPUT_IDS { &other } else { &batch }.column_by_name(name);
        let columns = batch.schema().fields().iter().map(|f| column(f.name()).unwrap().clone()).collect();
        Ok(RecordBatch::try_new(batch.schema(), columns).unwrap())
    });
    let bytes = codec::write(&plan, plan.id(), 0, blocks).unwrap();
    forge(folder.path(), &plan, 0, &bytes);
    fs::remove_file(folder.path().join("_commits/00000.json")).unwrap();
    let report = rows(folder.path());
    let shard: Vec<_> = report.findings.iter().filter(|f| f.file.starts_with(DATA_DIR)).collect();
    assert_eq!(shard.len(), 1, "{:#?}", lines(&report));
    assert_eq!((shard[0].rows.clone(), shard[0].unit), (Some(5..7), Some(0)));
    let line = shard[0].to_string();
    assert!(line.starts_with("data/train-00000-of-00001.parquet, rows 5 to 6: row 5 (sample 5): "), "{line}");
    assert!(line.contains("another input") && report.rows == 8, "{line}");
}

#[test]
fn counts_are_taken_from_the_rows() {
    type Change = fn(&mut Commit);
    let changes: [(&str, Change); 3] =
        [("positions", |c| c.positions -= 1), ("entries", |c| c.entries -= 1), ("kept mass", |c| c.kept_mass += 1e-9)];
    for (what, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(TOP_P, &[("train", 12)], 6);
        write(folder.path(), &plan);
        let mut commits = commits(folder.path(), &plan);
        change(&mut commits[1]);
        fs::write(folder.path().join("_commits/00001.json"), json::to_bytes(&commits[1])).unwrap();
        vouch(folder.path(), &plan, &commits);
        let report = rows(folder.path());
        let files: Vec<_> = report.findings.iter().map(|f| (f.file.as_str(), f.what.contains("kept mass"))).collect();
        assert_eq!(
            files,
            [("_manifest/00000.json", true), ("_commits/00001.json", true)],
            "{what}: {:#?}",
            lines(&report)
        );
        assert!(structure(folder.path()).is_whole());
    }
}

#[test]
fn whoever_contradicts_the_shard_is_named() {
    let (folder, plan) = small();
    let change = |name: &str, from: &str, to: &str| {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    let hash = commits(folder.path(), &plan)[0].ranges[0].blake3.to_string();
    let other = Fingerprint::of(b"other").to_string();
    for name in ["_manifest/00000.json", "_commits/00000.json"] {
        change(name, &hash, &other);
        let report = rows(folder.path());
        assert!(report.findings.iter().all(|f| f.file == name) && !report.is_whole(), "{:#?}", lines(&report));
        change(name, &other, &hash);
    }
    // Fields that no shard determines are protected by the cache_id in the card: here the worst error of the better
    // unit.
    let manifest = Manifest::read(&local(folder.path()), &plan).unwrap();
    let mut commits = commits(folder.path(), &plan);
    let better = usize::from(commits[1].codec_error.worst < commits[0].codec_error.worst);
    commits[better].codec_error.worst += 1e-9;
    let changed = vouch(folder.path(), &plan, &commits);
    assert_eq!(changed.totals, manifest.totals, "a sum would give it away");
    let files = |report: &Report| report.findings.iter().map(|f| f.file.clone()).collect::<Vec<_>>();
    assert_eq!(files(&rows(folder.path())), ["_manifest/00000.json"]);
    // The root alone differs from part and commits.
    let root = Manifest { parts: manifest.parts.clone(), ..changed };
    commits[better].codec_error.worst -= 1e-9;
    vouch(folder.path(), &plan, &commits);
    let mut wrong = root.clone();
    wrong.parts[0].blake3 = Fingerprint::of(b"other");
    fs::write(folder.path().join(MANIFEST_NAME), json::to_bytes(&wrong)).unwrap();
    assert_eq!(files(&rows(folder.path())), [MANIFEST_NAME]);
}

#[test]
fn an_unfinished_cache_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 12)], 4);
    let writer = CacheWriter::open(folder.path(), plan, TOKENIZER).unwrap();
    write_unit(&writer, 1, 0).unwrap();
    let lines = lines(&rows(folder.path()));
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(
        lines[0].starts_with("_commits/00000.json: missing") && lines[1].starts_with("_commits/00002.json: missing")
    );
    assert!(lines[2].starts_with("manifest.json: missing: 1 of 3 units are committed"), "{lines:#?}");
}

#[test]
fn without_a_plan_the_hashes_are_still_checked() {
    for text in [&b"not json"[..], b""] {
        let (folder, plan) = small();
        fs::write(folder.path().join(PLAN_NAME), text).unwrap();
        flip(&folder.path().join(plan.shard_name(1)), 60);
        let report = rows(folder.path());
        let files: Vec<_> = report.findings.iter().map(|f| f.file.clone()).collect();
        assert_eq!(files, [PLAN_NAME.to_owned(), plan.shard_name(1)], "{:#?}", lines(&report));
        // The manifest may be missing too.
        fs::remove_file(folder.path().join(MANIFEST_NAME)).unwrap();
        assert_eq!(rows(folder.path()), Report { cache_id: None, ..report });
    }
    // A plan that can be read, but is not the original one.
    let (folder, mut plan) = small();
    plan.precision = "f23".into();
    fs::write(folder.path().join(PLAN_NAME), json::to_bytes(&plan)).unwrap();
    let lines = lines(&rows(folder.path()));
    assert!(lines.len() == 1 && lines[0].contains("the plan was changed"), "{lines:#?}");
}

#[test]
fn untrusted_records_open_no_file_outside() {
    let (folder, plan) = small();
    let mut commits = commits(folder.path(), &plan);
    commits[0].shard = "../../secret".into();
    commits[1].shard = "data/../../x-00000-of-00001.parquet".into();
    vouch(folder.path(), &plan, &commits);
    fs::remove_file(folder.path().join(PLAN_NAME)).unwrap();
    fs::remove_dir_all(folder.path().join(COMMITS_DIR)).unwrap();
    // The plan is missing, so files with the names of shards are not shards.
    assert_eq!(lines(&rows(folder.path())), ["plan.json: missing"]);
}
