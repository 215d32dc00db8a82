//! Damage of every kind at every place is found, and a repair restores the original bytes.

use super::*;
use crate::companions;
use crate::repair::{self, Repair};
use crate::shard::Shard;
use crate::verify::{Tier, verify};
use crate::{COMMITS_DIR, Companion, DATA_DIR, Error, PARTS_DIR, PLAN_NAME, TOKENIZER_NAME};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use std::collections::BTreeMap;

/// Every file of a folder, by relative path.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => {
                    let name = entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(&entry).unwrap());
                }
            }
        }
    }
    files
}

fn laid_out(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Companion files of a teacher.
const COMPANIONS: [Companion<'static>; 2] =
    [("templates/chat.jinja", b"{{ messages }}"), ("generation_config.json", b"{\"eos_token_id\": [1, 2]}")];

/// Three units in two splits. The packed layout is used with a selection for which nothing in its rows has a fixed
/// size.
fn whole(layout: Layout) -> (Files, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let selection = if layout == Layout::Plain { TOP_K } else { TOP_P };
    let companions = companions::pins(COMPANIONS);
    let plan = Plan { layout, companions, ..plan(selection, &[("train", 9), ("val", 3)], 5) };
    CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap().lay_companions(COMPANIONS).unwrap();
    write(folder.path(), &plan);
    (files(folder.path()), plan)
}

fn report(folder: &Path) -> crate::Report {
    verify(folder, Tier::Rows, &mut |_, _| {}).unwrap()
}

/// Prepares a repair and writes the missing units.
fn repaired(folder: &Path, plan: &Plan) -> crate::Result<Repair> {
    let repair = repair::prepare(folder, plan.clone(), TOKENIZER, &COMPANIONS, &report(folder))?;
    for unit in repair.writer.pending()? {
        write_unit(&repair.writer, unit, 0)?;
    }
    let cache_id = repair.writer.finish()?.cache_id();
    assert!(repair.cache_id.is_none_or(|expected| expected == cache_id), "another cache_id than was promised");
    Ok(repair)
}

/// Checks that the damage is found and that the repair restores `good` byte by byte.
fn assert_repaired(damaged: &Files, good: &Files, plan: &Plan, what: &str) {
    let folder = laid_out(damaged);
    let found = report(folder.path());
    // Files that readers do not need are only noted, but rebuilt too.
    assert!(!found.is_whole() || !found.notes.is_empty(), "{what}: unnoticed");
    let repair = repaired(folder.path(), plan).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(repair.left.is_empty(), "{what}: {:?}", repair.left);
    let after = files(folder.path());
    for (name, bytes) in good {
        assert!(after.get(name) == Some(bytes), "{what}: {name} is not what it was");
    }
    assert_eq!(after.len(), good.len(), "{what}");
    assert!(report(folder.path()).is_whole(), "{what}");
}

/// The card is for people; only its cache_id is checked.
fn is_checked(name: &str) -> bool {
    name != crate::card::CARD_NAME
}

fn every_flipped_byte_is_found_in(layout: Layout) {
    let (good, _) = whole(layout);
    let folder = laid_out(&good);
    let (mut flips, mut same) = (0, 0);
    for (name, bytes) in good.iter().filter(|(name, _)| is_checked(name)) {
        let path = folder.path().join(name);
        for at in (0..bytes.len()).step_by(if name.starts_with(DATA_DIR) { 11 } else { 5 }) {
            let mut bad = bytes.clone();
            bad[at] ^= [0x01, 0x80, 0xff, 0x20][at % 4];
            fs::write(&path, &bad).unwrap();
            if says_the_same(name, bytes, &bad) {
                same += 1;
                continue;
            }
            let report = report(folder.path());
            assert!(report.files().contains(name.as_str()), "{name}, byte {at}: {:?}", report.findings);
            flips += 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(report(folder.path()).is_whole());
    assert!(flips > 2500 && same < 20, "{flips} flips, {same} that change nothing");
}

/// The change affects only the spelling of the JSON, or a name that is not part of the identity.
fn says_the_same(name: &str, good: &[u8], bad: &[u8]) -> bool {
    let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let id = |bytes| serde_json::from_slice::<Plan>(bytes).ok().map(|plan| plan.id());
    match name {
        TOKENIZER_NAME => false,
        PLAN_NAME => id(good) == id(bad),
        name => name.ends_with(".json") && value(good) == value(bad),
    }
}

#[test]
fn every_flipped_byte_of_a_plain_cache_is_found() {
    every_flipped_byte_is_found_in(Layout::Plain);
}

#[test]
fn every_flipped_byte_of_a_packed_cache_is_found() {
    every_flipped_byte_is_found_in(Layout::Packed);
}

/// Offsets in every region of a shard: both magic numbers, start and middle of every column's pages, page index,
/// footer, length.
fn regions(shard: &[u8]) -> Vec<usize> {
    let bytes = Bytes::copy_from_slice(shard);
    let reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(&bytes).unwrap();
    let mut places = vec![1, shard.len() - 2, shard.len() - 7, shard.len() - 200, shard.len() - 600];
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        places.extend([start as usize + 2, (start + length / 2) as usize, (start + length) as usize - 1]);
        places.push(column.offset_index_offset().unwrap() as usize + 3);
    }
    places
}

fn every_region_is_repaired_in(layout: Layout) {
    let (good, plan) = whole(layout);
    for (name, bytes) in good.iter().filter(|(name, _)| is_checked(name)) {
        let places = match name.starts_with(DATA_DIR) {
            true if *name == plan.shard_name(0) => regions(bytes),
            true => vec![bytes.len() / 3],
            false => (0..bytes.len()).step_by(bytes.len().div_ceil(25)).collect(),
        };
        for at in places {
            let mut damaged = good.clone();
            damaged.get_mut(name).unwrap()[at] ^= [0x01, 0x80, 0xff, 0x20][at % 4];
            assert_repaired(&damaged, &good, &plan, &format!("{layout:?} {name}, byte {at}"));
        }
    }
}

#[test]
fn every_region_of_a_plain_cache_is_repaired() {
    every_region_is_repaired_in(Layout::Plain);
}

#[test]
fn every_region_of_a_packed_cache_is_repaired() {
    every_region_is_repaired_in(Layout::Packed);
}

#[test]
fn lost_swapped_and_cut_files_are_repaired() {
    for layout in [Layout::Plain, Layout::Packed] {
        let (good, plan) = whole(layout);
        let case = |what: &str, damage: &dyn Fn(&mut Files)| {
            let mut damaged = good.clone();
            damage(&mut damaged);
            assert_repaired(&damaged, &good, &plan, &format!("{layout:?} {what}"));
        };
        let names: Vec<&str> = good.keys().map(String::as_str).filter(|name| is_checked(name)).collect();
        for name in &names {
            case(&format!("{name} lost"), &|files| _ = files.remove(*name));
            let length = good[*name].len();
            for (from, to) in
                // The last byte of a JSON file is a line feed, which has no meaning.
                [(0, length), (1, length), (length / 2, length), (length - 2, length), (length / 3, length / 2)]
            {
                case(&format!("{name} without {from}..{to}"), &|files| {
                    files.get_mut(*name).unwrap().drain(from..to);
                });
                case(&format!("{name} with {from}..{to} twice"), &|files| {
                    let bytes = files.get_mut(*name).unwrap();
                    let part = bytes[from..to].to_vec();
                    bytes.splice(from..from, part);
                });
            }
        }
        for pair in names.chunk_by(|a, b| a.split('/').next() == b.split('/').next()).flat_map(|same| same.windows(2)) {
            case(&format!("{pair:?} swapped"), &|files| {
                let (a, b) = (files[pair[0]].clone(), files[pair[1]].clone());
                files.extend([(pair[0].to_owned(), b), (pair[1].to_owned(), a)]);
            });
            case(&format!("{} in place of {}", pair[0], pair[1]), &|files| {
                let bytes = files[pair[0]].clone();
                files.insert(pair[1].to_owned(), bytes);
            });
        }
    }
}

#[test]
fn several_damages_at_once_are_repaired() {
    let (good, plan) = whole(Layout::Plain);
    let shard = plan.shard_name(1);
    let commit = "_commits/00001.json".to_owned();
    let tops = [PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME, "_manifest/00000.json"].map(str::to_owned);
    let [plan_name, tokenizer, manifest, part] = tops;
    let sets: [&[&String]; 11] = [
        &[&part, &shard],
        &[&part, &manifest],
        &[&part, &commit],
        &[&part, &manifest, &commit, &shard, &plan_name],
        &[&shard, &commit],
        &[&shard, &manifest],
        &[&plan_name, &shard],
        &[&plan_name, &manifest, &tokenizer],
        &[&plan_name, &commit, &shard],
        &[&manifest, &commit],
        &[&manifest, &commit, &shard, &plan_name, &tokenizer],
    ];
    for set in sets {
        for damage in 0..3 {
            let mut damaged = good.clone();
            for name in set {
                let bytes = damaged.get_mut(*name).unwrap();
                match damage {
                    0 => _ = damaged.remove(*name),
                    1 => bytes.truncate(10),
                    _ => bytes[12] ^= 1,
                }
            }
            assert_repaired(&damaged, &good, &plan, &format!("{set:?}"));
        }
    }
    // All commits, all shards, or all parts of the manifest are gone.
    for folder in [COMMITS_DIR, DATA_DIR, PARTS_DIR] {
        let mut damaged = good.clone();
        damaged.retain(|name, _| !name.starts_with(folder));
        assert_repaired(&damaged, &good, &plan, folder);
    }
}

#[test]
fn foreign_files_go_only_if_their_name_is_of_the_format() {
    let (good, plan) = whole(Layout::Plain);
    let mut damaged = good.clone();
    for name in [
        "data/train-00000-of-00001.parquet",
        "data/old-00000-of-00002.parquet",
        "_commits/00003.json",
        "_manifest/00001.json",
    ] {
        damaged.insert(name.into(), good[&plan.shard_name(0)].clone());
    }
    assert_repaired(&damaged, &good, &plan, "foreign files of the format");
    let theirs = ["data/notes.txt", "data/x.parquet", "_commits/3.json", "copy.parquet"];
    damaged.extend(theirs.map(|name| (name.to_owned(), b"mine".to_vec())));
    let folder = laid_out(&damaged);
    let repair = repaired(folder.path(), &plan).unwrap();
    assert_eq!(repair.removed.len(), 4, "{:?}", repair.removed);
    let mut left: Vec<_> = repair.left.iter().map(|finding| finding.file.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["copy.parquet", "data/x.parquet"], "what a reader of datasets could take for a shard");
    let notes: Vec<_> = report(folder.path()).notes.into_iter().map(|note| note.file).collect();
    assert_eq!(notes, ["data/notes.txt", "_commits/3.json"]);
    assert!(theirs.iter().all(|name| folder.path().join(name).exists()));
}

#[test]
fn a_shard_that_comes_out_otherwise_is_not_published() {
    let (good, plan) = whole(Layout::Plain);
    let mut damaged = good.clone();
    damaged.get_mut(&plan.shard_name(0)).unwrap()[100] ^= 1;
    let folder = laid_out(&damaged);
    let repair = repair::prepare(folder.path(), plan.clone(), TOKENIZER, &COMPANIONS, &report(folder.path())).unwrap();
    assert_eq!((repair.removed, repair.writer.pending().unwrap()), (vec![plan.shard_name(0)], vec![0]));
    let before = files(folder.path());
    let error = write_unit(&repair.writer, 0, 1).unwrap_err();
    assert!(matches!(error, Error::Rebuilt { .. }), "{error}");
    assert!(error.to_string().contains("another device, precision or version"), "{error}");
    assert_eq!(files(folder.path()), before, "nothing may have changed");
    write_unit(&repair.writer, 0, 0).unwrap();
    assert_eq!(files(folder.path()), good);
}

#[test]
fn a_cache_of_another_plan_is_left_alone() {
    let (good, plan) = whole(Layout::Plain);
    let other = Plan { precision: "bf16".into(), ..plan.clone() };
    // An intact cache, one with a damaged plan whose id is still in the shards, and one that was only started.
    let mut damaged = good.clone();
    damaged.get_mut(PLAN_NAME).unwrap()[3] ^= 1;
    let begun: Files =
        good.clone().into_iter().filter(|(name, _)| name == PLAN_NAME || name == TOKENIZER_NAME).collect();
    for (files_before, what) in [(good, "precision: f32 here"), (damaged, "is wanted"), (begun, "precision: f32 here")]
    {
        let folder = laid_out(&files_before);
        let error =
            repair::prepare(folder.path(), other.clone(), TOKENIZER, &COMPANIONS, &report(folder.path())).unwrap_err();
        assert!(matches!(error, Error::OtherPlan { .. }) && error.to_string().contains(what), "{error}");
        assert_eq!(files(folder.path()), files_before);
        let error =
            repair::prepare(folder.path(), plan.clone(), b"{}", &COMPANIONS, &report(folder.path())).unwrap_err();
        assert!(error.to_string().contains("tokenizer"), "{error}");
        assert_eq!(files(folder.path()), files_before);
    }
}

#[test]
fn an_old_report_removes_nothing_that_is_whole() {
    let (good, plan) = whole(Layout::Plain);
    let mut damaged = good.clone();
    damaged.get_mut(&plan.shard_name(0)).unwrap()[100] ^= 1;
    let old = report(laid_out(&damaged).path());
    let folder = laid_out(&good);
    let repair = repair::prepare(folder.path(), plan, TOKENIZER, &COMPANIONS, &old).unwrap();
    assert!(repair.removed.is_empty() && repair.writer.pending().unwrap().is_empty());
    assert_eq!(files(folder.path()), good);
}

#[test]
fn damage_that_every_record_vouches_for_never_panics() {
    for layout in [Layout::Plain, Layout::Packed] {
        let (good, plan) = whole(layout);
        let folder = laid_out(&good);
        let shard = &good[&plan.shard_name(0)];
        let mut found = 0;
        for at in (0..shard.len()).step_by(3) {
            let mut bad = shard.clone();
            bad[at] ^= [0x01, 0x80, 0xff][at % 3];
            forge(folder.path(), &plan, 0, &bad);
            // The manifest matches. The commit does not, but that finding is not counted here.
            let report = report(folder.path());
            found += usize::from(report.files().contains(plan.shard_name(0).as_str()));
        }
        assert!(found > shard.len() / 10, "{layout:?}: {found} of {}", shard.len() / 3);
    }
}

#[test]
fn a_shard_that_is_cut_under_its_map_is_refused() {
    let (good, plan) = whole(Layout::Plain);
    let folder = laid_out(&good);
    let commit = &commits(folder.path(), &plan)[0];
    // SAFETY: the file is truncated between two decodes, and `check_whole` notices it before any byte is read.
    let mapped = unsafe { Storage::mapped() };
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(folder.path(), mapped));
    let shard = Shard::open(&store, (&plan, plan.id()), 0, commit, None).unwrap();
    assert_eq!(shard.read(&plan, 0, 0..5).unwrap().len(), 5);
    let path = folder.path().join(plan.shard_name(0));
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let error = shard.read(&plan, 0, 0..5).unwrap_err();
    assert!(matches!(error, Error::Size { got: 0, .. }), "{error}");
    // Bytes that were already read are unchanged.
    let (whole, _) = whole(Layout::Plain);
    let folder = laid_out(&whole);
    let shard = Shard::open(&stored(folder.path()), (&plan, plan.id()), 0, commit, None).unwrap();
    assert_eq!(shard.read(&plan, 0, 0..1).unwrap().len(), 1);
    fs::OpenOptions::new().write(true).open(folder.path().join(plan.shard_name(0))).unwrap().set_len(0).unwrap();
    assert_eq!(shard.read(&plan, 0, 0..5).unwrap().len(), 5);
}

#[test]
fn a_companion_that_nobody_has_any_more_stays_a_finding() {
    let (mut damaged, plan) = whole(Layout::Plain);
    damaged.get_mut("generation_config.json").unwrap()[0] ^= 1;
    let folder = laid_out(&damaged);
    let error = CacheReader::open(folder.path()).unwrap().companions().unwrap_err();
    assert!(error.to_string().contains("generation_config.json"), "{error}");
    let changed: [Companion<'_>; 1] = [("generation_config.json", b"{}")];
    let repair = repair::prepare(folder.path(), plan, TOKENIZER, &changed, &report(folder.path())).unwrap();
    let left: Vec<_> = repair.left.iter().map(|finding| finding.file.as_str()).collect();
    assert_eq!((left, repair.removed.len()), (vec!["generation_config.json"], 0));
    assert_eq!(files(folder.path()), damaged, "what is there may be all that is left of it");
}
