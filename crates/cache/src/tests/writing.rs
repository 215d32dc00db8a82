//! Writing rows into a folder and reading them back.

use super::*;
use crate::{COMMITS_DIR, DATA_DIR, Error, PLAN_NAME, TOKENIZER_NAME};
use logitcask_core::Positions;
use proptest::prelude::*;

fn keeps() -> impl Strategy<Value = (Truncation, Layout)> {
    let selection = prop_oneof![
        (1..=VOCAB).prop_map(|k| Selection::TopK { k }),
        (1..=100u32, 1..=VOCAB).prop_map(|(percent, k)| Selection::TopP { p: f64::from(percent) / 100.0, k }),
        (5..=VOCAB).prop_map(|n| Selection::Sample { n, seed: 1 }),
        Just(Selection::Dense {}),
    ];
    let values = prop_oneof![Just(LogProbPrecision::F16 {}), Just(LogProbPrecision::Quantised { step: 0.0625 })];
    let always = prop::collection::btree_set(0..VOCAB, 0..4);
    let layout = prop_oneof![Just(Layout::Plain), Just(Layout::Packed)];
    (selection, values, always, layout).prop_map(|(selection, values, always, layout)| {
        let always_keep = if selection == (Selection::Dense {}) { Vec::new() } else { always.into_iter().collect() };
        (Truncation { values, always_keep, ..keep(selection) }, layout)
    })
}

fn choices() -> impl Strategy<Value = PositionChoice> {
    prop_oneof![
        Just(PositionChoice::All {}),
        (1..=100u32, 0..9u64)
            .prop_map(|(percent, seed)| PositionChoice::Share { share: f64::from(percent) / 100.0, seed }),
    ]
}

/// The rows of a cache, and the position that each belongs to.
fn positions_and_rows(reader: &CacheReader) -> Vec<(u64, usize, SoftRows)> {
    let of_sample = |cached: crate::CachedSample| -> Vec<_> {
        let one = |(position, row)| {
            let mut rows = SoftRows::new(&reader.plan().keep);
            rows.push(row);
            (cached.sample.id.0, position, rows)
        };
        cached.sample.position_indices().zip(cached.rows.iter()).map(one).collect()
    };
    reader.in_order("train").unwrap().flat_map(|cached| of_sample(cached.unwrap())).collect()
}

#[test]
fn a_cache_of_chosen_positions_holds_the_rows_of_the_whole_cache() {
    for layout in [Layout::Plain, Layout::Packed] {
        for selection in [TOP_K, TOP_P, SAMPLE, Selection::Dense {}] {
            let whole = Plan { layout, ..plan(selection, &[("train", 30)], 10) };
            let chosen = Plan { positions: PositionChoice::Share { share: 0.3, seed: 5 }, ..whole.clone() };
            let [all, some] = [&whole, &chosen].map(|plan| {
                let folder = tempfile::tempdir().unwrap();
                let manifest = write(folder.path(), plan);
                let rows = positions_and_rows(&CacheReader::open(folder.path()).unwrap());
                assert_eq!(rows.len() as u64, manifest.totals.positions);
                rows
            });
            assert!(some.len() * 2 < all.len(), "{} of {}", some.len(), all.len());
            let lacks = some.iter().find(|row| !all.contains(row));
            assert!(lacks.is_none(), "{layout:?}, {selection:?}: {lacks:?}");
        }
    }
}

#[test]
fn positions_are_written_only_as_the_plan_says() {
    let all = plan(TOP_K, &[("train", 1)], 1);
    let some = Plan { positions: PositionChoice::Marked {}, ..all.clone() };
    let (whole, rows) = row_of(&all, 0, 5, 0);
    let given = |positions| (Sample { positions, ..whole.clone() }, rows.clone());
    for (plan, positions, expected) in [
        (&all, Positions::Chosen(vec![0, 1, 2, 3]), "the plan caches every position"),
        (&some, Positions::All, "the sample does not list its own"),
        (&some, Positions::Chosen(vec![0, 1, 2, 4]), "in ascending order, each below 4"),
        (&some, Positions::Chosen(vec![0, 2, 1, 3]), "in ascending order"),
        (&some, Positions::Chosen(vec![]), "at least one position"),
        (&some, Positions::Chosen(vec![1, 3]), "values"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
        let refused = writer.write_unit(0, &[given(positions)], &RowErrors::new(&plan.keep)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let folder = tempfile::tempdir().unwrap();
    let writer = CacheWriter::open(folder.path(), some.clone(), TOKENIZER).unwrap();
    writer.write_unit(0, &[given(Positions::Chosen(vec![0, 1, 2, 3]))], &RowErrors::new(&some.keep)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_written_is_read(
        (keep, layout) in keeps(),
        positions in choices(),
        (len, per_unit) in (1..40u64, 1..20u64),
        seed: u64,
        wide: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = Plan { keep, layout, positions, ..plan(TOP_K, &[("train", len), ("val", 3)], per_unit) };
        plan.max_length = if wide { FOUR_ROWS_A_BLOCK } else { 12 };
        let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
        for unit in writer.pending().unwrap() {
            write_unit(&writer, unit, seed).unwrap();
        }
        let manifest = writer.finish().unwrap();
        let reader = CacheReader::open(folder.path()).unwrap();
        prop_assert_eq!(reader.cache_id(), manifest.cache_id());
        prop_assert_eq!(reader.plan(), &plan);
        prop_assert_eq!(reader.splits(), ["train", "val"]);
        for (split, len) in [("train", len), ("val", 3)] {
            prop_assert_eq!(reader.len(split).unwrap(), len);
            let units = plan.units(split).unwrap();
            let expected: Vec<_> = units.flat_map(|unit| rows_of(&plan, unit, seed)).collect();
            let read: Vec<_> = reader.in_order(split).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(read.len() as u64, len);
            for (cached, (sample, rows)) in read.iter().zip(expected) {
                prop_assert_eq!(&cached.sample, &sample);
                prop_assert_eq!(&cached.rows, &rows);
                prop_assert_eq!(&reader.get(split, sample.id).unwrap(), cached);
            }
        }
    }
}

#[test]
fn converting_makes_the_files_that_caching_would_have_made_and_comes_back() {
    for (selection, step) in [(TOP_K, None), (TOP_P, Some(0.0625)), (SAMPLE, None), (Selection::Dense {}, Some(0.125))]
    {
        let values = step.map_or(LogProbPrecision::F16 {}, |step| LogProbPrecision::Quantised { step });
        let keep = Truncation { values, ..keep(selection) };
        let plain = Plan { keep, ..plan(TOP_K, &[("train", 20), ("val", 3)], 6) };
        let packed = Plan { layout: Layout::Packed, ..plain.clone() };
        let [cached, direct, converted, back] = [0; 4].map(|_| tempfile::tempdir().unwrap());
        write(cached.path(), &plain);
        write(direct.path(), &packed);
        let convert = |from: &Path, to: &Path, layout| {
            let stop = std::sync::atomic::AtomicBool::new(false);
            crate::convert(&CacheReader::open(from).unwrap(), to, layout, &stop, &mut || ()).unwrap().unwrap()
        };
        let there = convert(cached.path(), converted.path(), Layout::Packed);
        assert_eq!(there.cache_id(), CacheReader::open(direct.path()).unwrap().cache_id());
        let again = convert(converted.path(), back.path(), Layout::Plain);
        assert_eq!(again.cache_id(), CacheReader::open(cached.path()).unwrap().cache_id());
        for unit in 0..packed.unit_count() {
            let shard = packed.shard_name(unit);
            let bytes = |folder: &tempfile::TempDir| fs::read(folder.path().join(&shard)).unwrap();
            assert!(bytes(&converted) == bytes(&direct) && bytes(&back) == bytes(&cached), "{shard}");
        }
    }
}

#[test]
fn the_same_rows_give_the_same_bytes_and_root() {
    for selection in [TOP_K, TOP_P] {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let plan = plan(selection, &[("train", 30)], 10);
        let roots = [write(folders[0].path(), &plan).cache_id(), write(folders[1].path(), &plan).cache_id()];
        assert_eq!(roots[0], roots[1]);
        let shard = plan.shard_name(1);
        assert_eq!(
            fs::read(folders[0].path().join(&shard)).unwrap(),
            fs::read(folders[1].path().join(&shard)).unwrap()
        );
    }
}

#[test]
fn an_interrupted_cache_ends_with_the_root_of_an_undisturbed_one() {
    let (undisturbed, plan) = small();
    let folder = tempfile::tempdir().unwrap();
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    write_unit(&writer, 1, 0).unwrap();
    let leftover = folder.path().join(DATA_DIR).join(".tmp-killed");
    fs::write(&leftover, b"half a shard").unwrap();

    for error in [writer.finish().unwrap_err(), CacheReader::open(folder.path()).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("1 of 2 units") && text.contains("`logitcask cache` again"), "{text}");
    }
    drop(writer);
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    assert_eq!(writer.pending().unwrap(), [0]);
    assert_eq!(write(folder.path(), &plan).cache_id(), CacheReader::open(undisturbed.path()).unwrap().cache_id());
    assert!(writer.pending().unwrap().is_empty());
    assert!(!leftover.exists(), "a finished cache keeps no leftovers");
}

#[test]
fn a_shard_without_a_commit_is_adopted_only_if_it_is_ours() {
    let (folder, plan) = small();
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    let cache_id = writer.finish().unwrap().cache_id();
    let commit = folder.path().join(COMMITS_DIR).join("00000.json");
    fs::remove_file(&commit).unwrap();
    fs::remove_file(folder.path().join(MANIFEST_NAME)).unwrap();

    let other = write_unit(&writer, 0, 1).unwrap_err();
    assert!(matches!(other, Error::ForeignShard { .. }) && other.to_string().contains("remove the file"), "{other}");
    assert!(!commit.exists(), "a foreign shard must not be committed");
    write_unit(&writer, 0, 0).unwrap();
    assert_eq!(writer.finish().unwrap().cache_id(), cache_id);
}

#[test]
fn a_committed_unit_stays_as_it_is() {
    let (folder, plan) = small();
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    let first = write_unit(&writer, 0, 0).unwrap();
    assert_eq!(write_unit(&writer, 0, 1).unwrap(), first);
}

#[test]
fn two_workers_end_with_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_P, &[("train", 60)], 3);
    let work = || {
        let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
        for unit in 0..plan.unit_count() {
            write_unit(&writer, unit, 0).unwrap();
        }
        writer.finish().unwrap().cache_id()
    };
    let roots = std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|thread| thread.join().unwrap()));
    assert_eq!(roots[0], roots[1]);
    assert_eq!(fs::read_dir(folder.path().join(DATA_DIR)).unwrap().count(), 20);
    assert_eq!(read_error(folder.path(), "train"), None);
}

#[test]
fn commits_count_what_is_in_the_shard() {
    let (folder, plan) = small();
    let manifest = CacheReader::open(folder.path()).unwrap().manifest().clone();
    let rows: Vec<SoftRows> = (0..2).flat_map(|unit| rows_of(&plan, unit, 0)).map(|(_, r)| r).collect();
    let positions: usize = rows.iter().map(SoftRows::len).sum();
    let mass: f64 = rows.iter().flat_map(|r| &r.log_probs).map(|&lp| f64::from(lp).exp()).sum();
    let totals = &manifest.totals;
    assert_eq!((totals.rows, totals.positions, totals.entries), (12, positions as u64, 4 * positions as u64));
    assert!((totals.kept_mass - mass / positions as f64).abs() < 2e-9, "{}", totals.kept_mass);
    let length = |shard: &str| fs::metadata(folder.path().join(shard)).unwrap().len();
    assert_eq!(totals.bytes, commits(folder.path(), &plan).iter().map(|commit| length(&commit.shard)).sum::<u64>());
}

#[test]
fn another_plan_is_refused_with_what_differs() {
    let (folder, plan) = small();
    let mut other = plan.clone();
    other.keep = keep(Selection::TopK { k: 8 });
    other.precision = "bf16".into();
    let error = CacheWriter::open(folder.path(), other, TOKENIZER).unwrap_err().to_string();
    assert!(error.contains("selection: top_k k=4 here, top_k k=8 wanted"), "{error}");
    assert!(error.contains("precision: f32 here, bf16 wanted"), "{error}");
    let error = CacheWriter::open(folder.path(), plan, b"{}").unwrap_err().to_string();
    assert!(error.contains("tokenizer"), "{error}");
}

#[test]
fn rows_that_no_reader_would_take_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 6)], 6);
    let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
    type Breakage = fn(&mut Vec<(Sample, SoftRows)>);
    let broken: [(&str, Breakage); 10] = [
        ("got 5 samples", |rows| rows.truncate(5)),
        ("sample 2: sample 3 was given", |rows| rows.swap(2, 3)),
        ("sample 4: 1 tokens", |rows| rows[4].0.input_ids.truncate(1)),
        ("sample 4: 13 tokens", |rows| rows[4].0.input_ids = vec![1; 13]),
        ("sample 1: token 40", |rows| rows[1].0.input_ids[0] = 40),
        ("sample 5: position 1: 3 classes kept, 4 to 4", |rows| rows[5].1.counts[1] = 3),
        ("sample 3: position 0: a log-probability or log_z is not", |rows| rows[3].1.log_z[0] = f32::NAN),
        ("sample 3: position 0: log-probabilities are not sorted", |rows| rows[3].1.log_probs.swap(0, 3)),
        ("log_z is too large", |rows| rows[3].1.log_probs.iter_mut().for_each(|lp| *lp -= 20.0)),
        ("sample 3: log-probability -1000000 is none that F16 writes", |rows| {
            let outside = rows[3].1.gold_ranks.iter().position(|&rank| rank >= 4).unwrap();
            rows[3].1.gold_log_probs[outside] = -1e6;
        }),
    ];
    for (message, breakage) in broken {
        let mut rows = rows_of(&plan, 0, 0);
        breakage(&mut rows);
        let error = writer.write_unit(0, &rows, &RowErrors::new(&plan.keep)).unwrap_err();
        assert!(matches!(error, Error::BadRow { .. }) && error.to_string().contains(message), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path().join(DATA_DIR)).unwrap().count(), 0);
    assert_eq!(writer.pending().unwrap(), [0]);
}

#[test]
fn a_folder_that_cannot_be_written_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = CacheWriter::open(&file.join("cache"), plan(TOP_K, &[("train", 1)], 1), TOKENIZER).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(&file)), "{error:?}");
    assert!(error.to_string().contains("cannot create the folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn published_files_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, plan) = small();
    let plain = folder.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    for name in [PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME, &plan.shard_name(0)] {
        assert_eq!(mode(&folder.path().join(name)), mode(&plain), "{name}");
    }
}
