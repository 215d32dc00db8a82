//! The orders in which a cache is read.

use super::*;
use crate::Error;
use crate::order::{Samples, WINDOW_BLOCKS};
use std::collections::BTreeSet;
use std::num::NonZero;

/// Two units of 90 and 13 samples, 27 blocks, two windows; the last block of each unit is smaller than the others.
fn blocks() -> (tempfile::TempDir, CacheReader) {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(TOP_K, &[("train", 103)], 90);
    plan.max_length = FOUR_ROWS_A_BLOCK;
    assert_eq!(plan.rows_per_group(), 4);
    write(folder.path(), &plan);
    let reader = CacheReader::open(folder.path()).unwrap();
    (folder, reader)
}

fn ids(reader: &CacheReader, seed: u64, epoch: u64, skip: u64) -> Vec<u64> {
    reader.shuffled("train", seed, epoch, skip).unwrap().map(|sample| sample.unwrap().sample.id.0).collect()
}

#[test]
fn a_shuffle_is_a_permutation_that_seed_and_epoch_decide() {
    let (_folder, reader) = blocks();
    let first = ids(&reader, 1, 0, 0);
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), (0..103).collect());
    assert_eq!(first.len(), 103);
    assert_eq!(first, ids(&reader.clone(), 1, 0, 0));
    assert_ne!(first, ids(&reader, 1, 1, 0));
    assert_ne!(first, ids(&reader, 2, 0, 0));
    // Rows of one block are spread over their window instead of following each other.
    let neighbours = first.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
    assert!(neighbours < 20, "{neighbours} of 102 pairs are still neighbours");
}

#[test]
fn skipping_ends_in_the_same_order() {
    let (_folder, reader) = blocks();
    let all = ids(&reader, 7, 3, 0);
    for skip in 0..=103 {
        assert_eq!(ids(&reader, 7, 3, skip), all[skip as usize..], "skip {skip}");
    }
    assert!(ids(&reader, 7, 3, 1000).is_empty());
}

#[test]
fn skipped_windows_are_not_decoded() {
    let (folder, reader) = blocks();
    // An order whose first window has every row of the second unit. With its blocks (22 of four rows, one of two, three
    // of four, one of one), the window has at least this many rows:
    let window = 4 * WINDOW_BLOCKS - 2 - 3;
    let holds_second_unit = |ids: Vec<u64>| (90..103).all(|id| ids[..window].contains(&id));
    let seed = (0..1000).find(|&seed| holds_second_unit(ids(&reader, seed, 0, 0))).unwrap();
    fs::write(folder.path().join(reader.plan().shard_name(1)), b"").unwrap();
    let fresh = CacheReader::open(folder.path()).unwrap();
    let read = |skip| fresh.shuffled("train", seed, 0, skip).unwrap().collect::<Result<Vec<_>, _>>();
    assert!(read(0).is_err() && read(window as u64 - 1).is_err());
    assert_eq!(read(4 * WINDOW_BLOCKS as u64).unwrap().len(), 103 - 4 * WINDOW_BLOCKS);
}

#[test]
fn an_error_ends_the_order() {
    let (folder, plan) = small();
    fs::write(folder.path().join(plan.shard_name(1)), b"").unwrap();
    let read: Vec<_> = CacheReader::open(folder.path()).unwrap().in_order("train").unwrap().collect();
    assert_eq!((read.len(), read.iter().filter(|sample| sample.is_ok()).count()), (7, 6));
    assert!(read[6].as_ref().is_err_and(|e| matches!(e, Error::Size { .. })));
}

#[test]
fn reading_ahead_changes_neither_the_samples_nor_their_order() {
    let (_folder, reader) = blocks();
    for threads in [1, 3].map(|threads| NonZero::new(threads).unwrap()) {
        let samples = |samples: Samples| samples.collect::<Result<Vec<_>, _>>().unwrap();
        let in_order = || reader.in_order("train").unwrap();
        assert_eq!(samples(in_order().read_ahead(threads)), samples(in_order()));
        for skip in [0, 1, 40, 70, 102, 103] {
            let shuffled = || reader.shuffled("train", 7, 3, skip).unwrap();
            assert_eq!(samples(shuffled().read_ahead(threads)), samples(shuffled()), "skip {skip}");
            let some = || reader.shuffled_among("train", (5..95).step_by(3).collect(), 7, 3, skip.min(20)).unwrap();
            assert_eq!(samples(some().read_ahead(threads)), samples(some()), "some, skip {skip}");
        }
        let every_fifth = |mut samples: Samples| (0..20).map(|_| samples.nth(4).unwrap().unwrap()).collect::<Vec<_>>();
        let shuffled = || reader.shuffled("train", 7, 3, 0).unwrap();
        assert_eq!(every_fifth(shuffled().read_ahead(threads)), every_fifth(shuffled()));
    }
}

#[test]
fn an_error_ends_an_order_that_is_read_ahead_at_the_same_sample() {
    let (folder, reader) = blocks();
    let shard = folder.path().join(reader.plan().shard_name(1));
    let mut bytes = fs::read(&shard).unwrap();
    bytes[40] ^= 1;
    fs::write(&shard, bytes).unwrap();
    for seed in 0..5 {
        let read = |threads: Option<NonZero<usize>>| {
            let samples = CacheReader::open(folder.path()).unwrap().shuffled("train", seed, 0, 0).unwrap();
            let samples = threads.into_iter().fold(samples, Samples::read_ahead);
            samples.map(|sample| sample.map(|sample| sample.sample.id).map_err(|e| e.to_string())).collect::<Vec<_>>()
        };
        let alone = read(None);
        assert!(alone.last().unwrap().as_ref().is_err_and(|e| e.contains("train-00001-of")), "{:?}", alone.last());
        assert_eq!(read(NonZero::new(2)), alone);
    }
}

#[test]
fn samples_and_splits_that_are_not_there_are_named() {
    let (folder, _) = small();
    let reader = CacheReader::open(folder.path()).unwrap();
    let error = reader.len("test").unwrap_err().to_string();
    assert!(error.contains("no split `test`; its splits are") && error.contains("train"), "{error}");
    let error = reader.get("train", SampleId(12)).unwrap_err().to_string();
    assert!(error.contains("0..12") && error.contains("no sample 12"), "{error}");
    assert!(reader.get("train", SampleId(u64::MAX)).is_err());
}

#[test]
fn a_reader_can_be_shared_and_its_samples_sent() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<CacheReader>();
    sent::<Samples>();
}

#[test]
fn some_samples_come_once_each_in_an_order_of_their_own() {
    let (_folder, reader) = blocks();
    let among = |kept: &[u64], seed, skip| -> Vec<u64> {
        let samples = reader.shuffled_among("train", kept.to_vec(), seed, 0, skip).unwrap();
        samples.map(|sample| sample.unwrap().sample.id.0).collect()
    };
    let kept: Vec<u64> = (0..103).filter(|id| id % 3 == 0 || (40..50).contains(id)).collect();
    let all = among(&kept, 5, 0);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, kept);
    assert_ne!(all, kept);
    assert_ne!(all, among(&kept, 6, 0));
    for skip in 0..=kept.len() {
        assert_eq!(among(&kept, 5, skip as u64), all[skip..], "skip {skip}");
    }
    let everything: Vec<u64> = (0..103).collect();
    assert_eq!(among(&everything, 5, 0), ids(&reader, 5, 0, 0), "all of them are no subset");
    assert!(among(&[], 5, 0).is_empty());
    for stray in [vec![3, 103], vec![3, 3], vec![7, 3]] {
        let refused = reader.shuffled_among("train", stray, 0, 0, 0).unwrap_err();
        assert!(matches!(refused, Error::NoSample { .. }), "{refused}");
    }
    let groups = reader.groups("train").unwrap();
    assert_eq!(groups.iter().cloned().flatten().collect::<Vec<_>>(), everything);
    assert_eq!(groups[22..24], [88..90, 90..94], "none spans two blocks");
}

#[test]
fn every_nth_sample_is_that_of_the_order_and_others_are_not_decoded() {
    let (_folder, reader) = blocks();
    let all = ids(&reader, 7, 3, 0);
    for (first, step) in [(0, 1), (0, 4), (3, 4), (40, 64), (102, 2), (103, 1), (500, 1)] {
        let mut order = reader.shuffled("train", 7, 3, 0).unwrap();
        let mut got: Vec<u64> = order.nth(first).map(|sample| sample.unwrap().sample.id.0).into_iter().collect();
        while let Some(sample) = order.nth(step - 1) {
            got.push(sample.unwrap().sample.id.0);
        }
        let wanted: Vec<u64> = all.iter().copied().skip(first).step_by(step).collect();
        assert_eq!(got, wanted, "from {first} in steps of {step}");
    }
    // The first block of the second unit is damaged: an order that skips its samples never notices.
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { max_length: FOUR_ROWS_A_BLOCK, ..plan(TOP_K, &[("train", 103)], 90) };
    write(folder.path(), &plan);
    let shard = folder.path().join(plan.shard_name(1));
    let mut bytes = fs::read(&shard).unwrap();
    bytes[40..80].fill(7);
    fs::remove_file(&shard).unwrap();
    fs::write(&shard, bytes).unwrap();
    let reader = CacheReader::open(folder.path()).unwrap();
    let nth = |n| reader.in_order("train").unwrap().nth(n);
    assert_eq!(nth(89).unwrap().unwrap().sample.id.0, 89);
    assert!(nth(90).unwrap().is_err());
    assert_eq!(nth(102).unwrap().unwrap().sample.id.0, 102);
    assert!(nth(103).is_none());
}

#[test]
fn columns_are_those_of_a_plain_shard_in_both_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let columns = [Layout::Plain, Layout::Packed].map(|layout| {
        let plan = Plan { layout, ..plan(TOP_K, &[("train", 25)], 10) };
        let folder = folder.path().join(layout.name());
        write(&folder, &plan);
        let reader = CacheReader::open(&folder).unwrap();
        let batch = reader.plain_batch(reader.range("train", 3..21).unwrap()).unwrap();
        assert_eq!((batch.num_rows(), batch.schema()), (18, reader.plain_schema()));
        batch
    });
    assert_eq!(columns[0], columns[1]);
    assert!(columns[0].column_by_name("topk_log_probs").is_some());
}

#[test]
fn a_range_is_what_reading_in_order_gives_there() {
    let folder = tempfile::tempdir().unwrap();
    // With blocks of four rows and units of ten, a range can begin and end within a block and span several units.
    let plan = Plan { max_length: FOUR_ROWS_A_BLOCK, ..plan(TOP_K, &[("train", 25), ("test", 7)], 10) };
    write(folder.path(), &plan);
    let reader = CacheReader::open(folder.path()).unwrap();
    for (split, len) in [("train", 25), ("test", 7)] {
        let all: Vec<_> = reader.in_order(split).unwrap().map(Result::unwrap).collect();
        for start in 0..=len {
            for end in start..=len {
                assert_eq!(
                    reader.range(split, start..end).unwrap(),
                    all[start as usize..end as usize],
                    "{start}..{end}"
                );
            }
        }
        let error = reader.range(split, 3..len + 1).unwrap_err().to_string();
        assert!(error.contains(split) && error.contains(&len.to_string()), "{error}");
    }
}
