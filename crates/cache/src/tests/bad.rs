//! `data/bad`: for every MUST of the format a small cache that violates it, and the reader's error.

pub(super) mod make;

use super::*;
use crate::{CodecError, ManifestPart, PARTS_DIR};
use logitcask_core::Positions;
use make::{Batch, always, batch, claim_pages, claim_values, log_probs, packed, quantised, rows_of_base, sample};
use make::{chosen, top_k, top_p, two_units};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// How an intact cache is made invalid.
enum Make {
    /// Changes the rows before they are written; the manifest matches them.
    Rows(fn() -> Plan, fn(&mut Vec<(Sample, SoftRows)>)),
    /// Changes the columns before they are written; the manifest matches them.
    Columns(fn() -> Plan, fn(&Plan, Batch) -> Batch),
    /// Replaces the shard; the manifest matches it.
    Shard(fn() -> Plan, fn(&Plan) -> Vec<u8>),
    /// Replaces every occurrence of a text in a file; no hash is updated.
    Text(&'static str, &'static str, &'static str),
    /// Changes the plan.
    Plan(fn(&mut Plan)),
    /// Changes the only commit; the manifest's root matches it.
    Commit(fn(&mut Commit)),
    /// Makes any other change to the folder.
    Files(fn(&Path, &Plan)),
}

use Make::{Columns, Files, Rows, Shard, Text};

const ROWS: &[(&str, &str, Make)] = &[
    ("row-log-probs-unsorted", "log-probabilities are not sorted", Rows(top_k, |r| r[1].1.log_probs.swap(0, 3))),
    (
        "row-ties-unsorted",
        "ties to the lower id",
        Rows(top_k, |r| {
            let highest = r[1].1.class_ids[0].max(r[1].1.class_ids[1]);
            r[1].1.class_ids[1] = r[1].1.class_ids[0].min(r[1].1.class_ids[1]);
            r[1].1.class_ids[0] = highest;
            r[1].1.log_probs[1] = r[1].1.log_probs[0];
        }),
    ),
    (
        "row-class-outside-vocabulary",
        "class 40 is outside the vocabulary of 40",
        Rows(top_k, |r| r[1].1.class_ids[2] = 40),
    ),
    ("row-class-twice", "is kept twice", Rows(top_k, |r| r[1].1.class_ids[2] = r[1].1.class_ids[0])),
    (
        "row-always-kept-missing",
        "is always kept, and missing here",
        Rows(always, |r| {
            let other = (0..VOCAB).find(|id| *id != 7 && !r[1].1.class_ids.contains(id)).unwrap();
            let place = r[1].1.class_ids.iter().position(|id| *id == 7).unwrap();
            r[1].1.class_ids[place] = other;
        }),
    ),
    ("row-value-nan", "is not a finite number", Rows(top_k, |r| r[1].1.log_probs[1] = f32::NAN)),
    ("row-log-z-infinite", "is not a finite number", Rows(top_k, |r| r[1].1.log_z[0] = f32::INFINITY)),
    (
        "row-log-z-too-small",
        "log_z is below their log-sum-exp",
        Rows(top_k, |r| r[1].1.log_probs[..4].copy_from_slice(&[-0.5, -0.75, -1.0, -1.25])),
    ),
    (
        "row-log-z-too-large",
        "log_z is too large",
        Rows(top_k, |r| {
            r[1].1.log_probs.iter_mut().for_each(|lp| *lp = half::f16::from_f32(*lp - 8.0).to_f32());
        }),
    ),
    ("row-value-off-grid", "is none that Quantised", Rows(quantised, |r| r[1].1.log_probs[3] -= 0.001)),
    ("row-no-class", "no class was kept", Rows(top_p, |r| r[1].1.counts[0] = 0)),
    ("row-too-many-classes", "classes kept, 1 to 9 belong here", Rows(top_p, |r| r[1].1.counts[0] = 10)),
    ("row-too-many-drawn", "are said to be drawn at random", Rows(sample, |r| r[1].1.drawn[0] = 8)),
    (
        "row-ids-missing",
        "column `class_ids` holds 11 values, 12 belong there",
        Rows(top_k, |r| _ = r[1].1.class_ids.pop()),
    ),
    ("row-values-missing", "column `log_probs` holds 11 values, 12", Rows(top_k, |r| _ = r[1].1.log_probs.pop())),
    ("row-log-z-missing", "column `log_z` holds 2 values, 3", Rows(top_k, |r| _ = r[1].1.log_z.pop())),
    ("row-ranks-too-many", "column `gold_ranks` holds 4 values, 3", Rows(top_k, |r| r[1].1.gold_ranks.push(1))),
    ("row-tail-missing", "column `tail` holds 5 values, 6 belong there", Rows(top_k, |r| _ = r[1].1.tail.pop())),
    ("row-tail-unsorted", "tail atoms are not sorted", Rows(top_k, |r| r[1].1.tail.swap(0, 1))),
    (
        "row-tail-does-not-fit",
        "of the probability, 1 belongs there",
        Rows(top_k, |r| r[1].1.tail[0].log_weight += 1024),
    ),
    (
        "row-label-elsewhere",
        "this row belongs to another input",
        Rows(top_k, |r| {
            let rank = &mut r[1].1.gold_ranks[0];
            *rank = if *rank == 0 { 39 } else { 0 };
        }),
    ),
    ("row-label-said-to-be-kept", "at 0, but the kept classes lack it", Rows(log_probs, |r| r[1].1.gold_ranks[0] = 0)),
    (
        "row-label-said-to-be-outside",
        "outside them, but the kept classes hold it at 0",
        Rows(log_probs, |r| r[1].1.class_ids[0] = r[1].0.input_ids[1]),
    ),
    (
        "row-mass-above-one",
        "1 at most belongs there",
        Rows(log_probs, |r| r[1].1.log_probs[..4].copy_from_slice(&[-0.5, -0.75, -1.0, -1.25])),
    ),
    ("row-token-outside-vocabulary", "token 40 is outside the vocabulary", Rows(top_k, |r| r[1].0.input_ids[1] = 40)),
    ("row-one-token", "1 tokens, 2 to 12 belong in a sample", Rows(top_k, |r| r[1].0.input_ids.truncate(1))),
    ("row-too-long", "13 tokens, 2 to 12 belong in a sample", Rows(top_k, |r| r[1].0.input_ids = vec![1; 13])),
    (
        "row-position-beyond-the-last",
        "`positions` must hold at least one position, in ascending order, each below",
        Rows(chosen, |r| r[1].0.positions = Positions::Chosen(vec![0, 60])),
    ),
    (
        "row-positions-unsorted",
        "`positions` must hold at least one position, in ascending order",
        Rows(chosen, |r| r[1].0.positions = Positions::Chosen(vec![1, 0])),
    ),
    (
        "row-of-other-positions",
        "this row belongs to another input",
        Rows(chosen, |r| {
            let other = if r[1].0.positions == Positions::Chosen(vec![0, 1]) { vec![1, 2] } else { vec![0, 1] };
            r[1].0.positions = Positions::Chosen(other);
        }),
    ),
    ("row-in-another-place", "the row says it is sample 1", Rows(top_k, |r| r.swap(0, 1))),
    (
        "row-of-another-input",
        "the tokens are another input's",
        Columns(top_k, |plan, good| {
            let mut other = rows_of_base(plan);
            other[1].0.input_ids = vec![1, 2, 3, 4];
            batch(&good, &make::to_batch(plan, &other), &["input_ids"])
        }),
    ),
    (
        "row-tail-uneven",
        "tail logits with 5 weights",
        Columns(top_k, |plan, good| {
            let mut other = rows_of_base(plan);
            other[1].1.tail.pop();
            batch(&good, &make::to_batch(plan, &other), &["tail_log_weights"])
        }),
    ),
];

const SHARDS: &[(&str, &str, Make)] = &[
    (
        "shard-changed",
        "the file was changed or damaged",
        Files(|folder, plan| {
            let path = folder.join(plan.shard_name(0));
            let mut bytes = fs::read(&path).unwrap();
            bytes[40] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
    ),
    (
        "shard-cut",
        "the file was truncated or changed",
        Files(|folder, plan| {
            let path = folder.join(plan.shard_name(0));
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
    ),
    ("shard-is-no-parquet", "Invalid Parquet file", Shard(top_k, |_| b"a shard, I promise".to_vec())),
    (
        "shard-of-another-unit",
        "logitcask.unit = 1, the plan says 0",
        Shard(two_units, |plan| {
            let mut rows = rows_of_base(plan);
            rows.iter_mut().for_each(|(sample, _)| sample.id.0 += 2);
            crate::codec::encode(plan, plan.id(), 1, &rows).unwrap()
        }),
    ),
    (
        "shard-lacks-a-row",
        "row groups of [1] rows, 2 rows belong in the shard",
        Shard(top_k, |plan| crate::codec::encode(plan, plan.id(), 0, &rows_of_base(plan)[..1]).unwrap()),
    ),
    ("shard-lacks-a-column", "the format has", Shard(top_k, make::without_ranks)),
    (
        "bomb-values",
        "column `class_ids` holds 200000 values, 12 belong there",
        Rows(top_k, |r| r[1].1.class_ids = vec![3; 200_000]),
    ),
    (
        "bomb-page-bytes",
        "claims to decompress to 2147483647 bytes",
        Shard(top_k, |plan| claim_values(plan, 3, i32::MAX)),
    ),
    ("bomb-page-values", "claims 2147483647 values", Shard(top_k, |plan| claim_values(plan, i32::MAX, 12))),
    ("bomb-pages", "bytes claim to list 2147483647 pages", Shard(top_k, claim_pages)),
    ("packed-cut-short", "packed: ", Columns(packed, |_, good| make::change_packed(&good, |value| _ = value.pop()))),
    ("packed-with-more", "packed: ", Columns(packed, |_, good| make::change_packed(&good, |value| value.push(0)))),
    ("packed-without-model", "model", Columns(packed, |_, good| make::without_model(&good))),
];

const FOLDERS: &[(&str, &str, Make)] = &[
    (
        "plan-missing",
        "this is not a cache: the folder has no plan.json",
        Files(|folder, _| fs::remove_file(folder.join("plan.json")).unwrap()),
    ),
    (
        "plan-of-another-version",
        "format version 1, but this build reads version 2: make the cache again with `logitcask cache RECIPE --replace`",
        Text("plan.json", "_version\": 2", "_version\": 1"),
    ),
    ("plan-unknown-field", "unknown field `colour`", Text("plan.json", "\"layout\"", "\"colour\": 1,\n  \"layout\"")),
    ("plan-split-empty", "split `train` without samples", Make::Plan(|plan| plan.splits[0].samples = 0)),
    ("plan-split-outside", "a split named `../train`", Make::Plan(|plan| plan.splits[0].name = "../train".into())),
    ("plan-unit-empty", "samples_per_unit = 0 was given", Make::Plan(|plan| plan.samples_per_unit = 0)),
    ("plan-huge-samples", "keep fewer classes or cut shorter samples", Make::Plan(|plan| plan.max_length = u32::MAX)),
    (
        "plan-huge-unit",
        "a shard has at most 32767 blocks of 128 rows",
        Make::Plan(|plan| (plan.splits[0].samples, plan.samples_per_unit) = (1 << 40, 1 << 40)),
    ),
    (
        "plan-too-many-units",
        "so that there are at most 4294967296 units",
        Make::Plan(|plan| (plan.splits[0].samples, plan.samples_per_unit) = (1 << 40, 1)),
    ),
    (
        "plan-too-many-samples",
        "at most 9007199254740992 positions",
        Make::Plan(|plan| (plan.splits[0].samples, plan.samples_per_unit) = (1 << 51, 1 << 20)),
    ),
    (
        "plan-keeps-nothing",
        "keep.selection.k = 0 was given",
        Make::Plan(|plan| plan.keep.selection = Selection::TopK { k: 0 }),
    ),
    (
        "plan-with-atoms-of-a-mass",
        "the source told no shape of the tail",
        Make::Plan(|plan| plan.keep.source.tail = TailSource::Mass),
    ),
    ("plan-without-tail", "needs a tail", Make::Plan(|plan| plan.keep.tail = None)),
    (
        "plan-step-unknown",
        "keep.values.step = 0.1 was given, but it must be one of 0.03125",
        Make::Plan(|plan| plan.keep.values = LogProbPrecision::Quantised { step: 0.1 }),
    ),
    ("tokenizer-of-another", "the file was changed or damaged", Text("tokenizer.json", "tokenizer", "detokenizer")),
    (
        "manifest-missing",
        "so the cache is incomplete",
        Files(|folder, _| {
            fs::remove_file(folder.join(MANIFEST_NAME)).unwrap();
        }),
    ),
    (
        "manifest-of-another-version",
        "format version 1, but this",
        Text("manifest.json", "_version\": 2", "_version\": 1"),
    ),
    (
        "manifest-of-another-plan",
        "the plan beside it is",
        Files(|folder, plan| {
            let commits = commits(folder, plan);
            vouch(folder, &Plan { precision: "bf16".into(), ..plan.clone() }, &commits);
        }),
    ),
    ("manifest-absolute-path", "the plan says", Make::Commit(|commit| commit.shard = "/etc/passwd".into())),
    (
        "manifest-parent-path",
        "the plan says",
        Make::Commit(|commit| commit.shard = "../data/train-00000-of-00001.parquet".into()),
    ),
    ("manifest-huge-counts", "counts that the plan does not allow", Make::Commit(|commit| commit.entries = 1 << 53)),
    (
        "manifest-wrong-totals",
        "totals are not the sums",
        Files(|folder, plan| {
            let mut manifest = Manifest::read(&local(folder), plan).unwrap();
            manifest.totals.entries += 1;
            fs::write(folder.join(MANIFEST_NAME), json::to_bytes(&manifest)).unwrap();
        }),
    ),
    ("manifest-nan", "invalid type: null", Text("manifest.json", "\"kept_mass\": 0", "\"kept_mass\": null, \"x\": 0")),
    (
        "manifest-without-parts",
        "0 parts, the plan's units make 1",
        Files(|folder, plan| {
            let manifest = Builder::new(plan).finish(plan.id());
            fs::write(folder.join(MANIFEST_NAME), json::to_bytes(&manifest)).unwrap();
        }),
    ),
    (
        "manifest-wrong-hash",
        "row group 0 (samples 0 to 1): the BLAKE3 hash is",
        Make::Commit(|commit| commit.ranges[0].blake3 = Fingerprint::of(b"other")),
    ),
    (
        "manifest-wrong-footer",
        "footer: the BLAKE3 hash is",
        Make::Commit(|commit| commit.ranges[1].blake3 = Fingerprint::of(b"")),
    ),
    (
        "manifest-ranges-not-the-shard",
        "a range for each row group and one for the rest make",
        Make::Commit(|commit| commit.ranges[0].bytes += 1),
    ),
    (
        "manifest-ranges-elsewhere",
        "outside its row group's bytes",
        Files(|folder, plan| {
            let (bytes, mut commits) = (fs::read(folder.join(plan.shard_name(0))).unwrap(), commits(folder, plan));
            let half = commits[0].ranges[0].bytes as usize / 2;
            let range = |bytes: &[u8]| ShardRange { bytes: bytes.len() as u64, blake3: Fingerprint::of(bytes) };
            commits[0].ranges = [&bytes[..half], &bytes[half..]].map(range).into();
            vouch(folder, plan, &commits);
        }),
    ),
    ("part-missing", "_manifest/00000.json", Files(|folder, _| fs::remove_dir_all(folder.join(PARTS_DIR)).unwrap())),
    (
        "part-changed",
        "the file was changed or damaged",
        Text("_manifest/00000.json", "\"kept_mass\":0.", "\"kept_mass\":0.0"),
    ),
    (
        "part-without-a-commit",
        "0 commits, 1 units belong there",
        Files(|folder, _| fs::write(folder.join("_manifest/00000.json"), "[]").unwrap()),
    ),
    (
        "part-with-larger-errors",
        "larger errors than manifest.json says",
        Files(|folder, plan| {
            let mut manifest = Manifest::read(&local(folder), plan).unwrap();
            manifest.totals.log_z_error.iter_mut().for_each(|error| (error.worst, error.mean) = (0.0, 0.0));
            manifest.totals.codec_error = CodecError { worst: 0.0, mean: 0.0 };
            let mut commits = commits(folder, plan);
            commits[0].codec_error.worst = 0.5;
            manifest.parts[0] = ManifestPart::of(&commits);
            fs::write(folder.join("_manifest/00000.json"), json::to_lines(&commits)).unwrap();
            fs::write(folder.join(MANIFEST_NAME), json::to_bytes(&manifest)).unwrap();
        }),
    ),
];

fn cases() -> impl Iterator<Item = &'static (&'static str, &'static str, Make)> {
    [ROWS, SHARDS, FOLDERS].into_iter().flatten()
}

fn bad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/bad")
}

/// The error of opening the cache in `folder` and reading all of it.
fn refusal(folder: &Path) -> Option<String> {
    let reader = match CacheReader::open(folder) {
        Ok(reader) => reader,
        Err(error) => return Some(error.to_string()),
    };
    reader.splits().into_iter().find_map(|split| read_error(folder, split))
}

#[test]
fn every_bad_cache_is_refused_for_its_own_reason() {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(bad()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        let expected = fs::read_to_string(entry.path().join("expected.txt")).unwrap();
        let refusal = refusal(&entry.path()).unwrap_or("nothing".into());
        if !refusal.contains(expected.trim_end_matches('\n')) {
            wrong.push(format!("{name} should say {expected}and says {refusal}"));
        }
        seen.insert(name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen, cases().map(|(name, ..)| (*name).to_owned()).collect(), "run regenerate_bad");
    // The decompression bombs were refused before they used memory; all tests together use less than this.
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 1 << 20, "{peak} kB at the peak");
    }
}

#[test]
#[ignore = "rewrites data/bad; run it when the format or a message changes"]
fn regenerate_bad() {
    for entry in fs::read_dir(bad()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    for (name, message, make) in cases() {
        let folder = bad().join(name);
        make::write(&folder, make);
        fs::write(folder.join("expected.txt"), format!("{message}\n")).unwrap();
    }
}
