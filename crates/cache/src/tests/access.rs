//! What reading one sample costs.

use super::*;
use crate::shard::Shard;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shard's bytes, counting how many of them anybody asked for.
#[derive(Clone)]
struct Counting {
    bytes: Bytes,
    read: Arc<AtomicU64>,
}

impl Length for Counting {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkReader for Counting {
    type T = <Bytes as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // A stream has no end: whoever opens one may read the rest of the file.
        self.read.fetch_add(self.bytes.len() as u64 - start, Ordering::Relaxed);
        self.bytes.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.bytes.get_bytes(start, length)
    }
}

/// A shard of two blocks of 128 rows, and what it costs to read some rows of one of them.
struct Costs {
    _folder: tempfile::TempDir,
    plan: Plan,
    shard: Shard,
    bytes: Bytes,
}

impl Costs {
    fn new(layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { layout, ..plan(TOP_P, &[("train", 256)], 256) };
        let manifest = write(folder.path(), &plan);
        let shard = Shard::open(folder.path(), &plan, 0, &manifest.shards[0]).unwrap();
        let bytes = Bytes::from(fs::read(folder.path().join(plan.shard_name(0))).unwrap());
        Self { _folder: folder, plan, shard, bytes }
    }

    /// Bytes that were asked for; what came of them is right.
    fn of(&self, block: usize, rows: std::ops::Range<u64>) -> u64 {
        let counting = Counting { bytes: self.bytes.clone(), read: Arc::default() };
        let read = self.shard.read_from(counting.clone(), &self.plan, block, rows.clone()).unwrap();
        let wanted = rows_of(&self.plan, 0, 0).into_iter().skip(block * 128 + rows.start as usize);
        assert!(read.iter().map(|row| (row.sample.clone(), row.rows.clone())).eq(wanted.take(rows.count())));
        counting.read.load(Ordering::Relaxed)
    }
}

#[test]
fn one_sample_costs_its_pages_and_no_more() {
    for layout in [Layout::Plain, Layout::Packed] {
        let costs = Costs::new(layout);
        let (file, whole) = (costs.bytes.len() as u64, costs.of(0, 0..128));
        // Two blocks of equal size make the file, but for the footer.
        assert!(whole > file / 4 && whole < file, "{layout:?}: {whole} of {file}");
        let last = costs.of(1, 127..128);
        // One page of four in every column, and the dictionary of one.
        assert!(last < whole / 3, "{layout:?}: one row costs {last} bytes, 128 cost {whole}");
    }
}

#[test]
fn bytes_read_fall_with_the_share_of_pages_that_is_kept() {
    for layout in [Layout::Plain, Layout::Packed] {
        let costs = Costs::new(layout);
        let of_pages: Vec<u64> = (1..=4).map(|pages| costs.of(0, 0..32 * pages)).collect();
        let share = |pages: usize| of_pages[pages - 1] as f64 / of_pages[3] as f64;
        for pages in 1..4 {
            // The dictionary is read whichever pages are.
            let kept = pages as f64 / 4.0;
            assert!((kept - 0.05..kept + 0.12).contains(&share(pages)), "{layout:?}, {pages} of 4: {}", share(pages));
        }
    }
}

#[test]
fn samples_left_out_cost_nothing_page_by_page() {
    // Two blocks of 128 rows in pages of 32. The second block is destroyed: who does not want its samples never knows.
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_P, &[("train", 256)], 128);
    write(folder.path(), &plan);
    let reader = CacheReader::open(folder.path()).unwrap();
    fs::write(folder.path().join(plan.shard_name(1)), b"").unwrap();
    let ids = |kept: Vec<u64>| {
        let samples = reader.shuffled_among("train", kept, 0, 0, 0).unwrap();
        samples.map(|sample| Ok::<_, crate::Error>(sample?.sample.id.0)).collect::<Result<Vec<_>, _>>()
    };
    let kept: Vec<u64> = (0..128).filter(|id| id % 2 == 0).collect();
    assert_eq!(ids(kept.clone()).unwrap().len(), 64);
    assert!(ids(kept.into_iter().chain([200]).collect()).is_err());
    assert_eq!(reader.groups("train").unwrap()[..2], [0..32, 32..64]);
}

#[test]
fn a_sample_is_found_by_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(TOP_K, &[("train", 300), ("val", 7)], 140);
    write(folder.path(), &plan);
    let reader = CacheReader::open(folder.path()).unwrap();
    // Nothing but the shards that are asked for is ever touched.
    fs::remove_file(folder.path().join(plan.shard_name(1))).unwrap();
    for (split, id) in [("train", 0), ("train", 139), ("train", 280), ("train", 299), ("val", 6)] {
        let row = reader.get(split, SampleId(id)).unwrap();
        assert_eq!((row.sample.id, row.sample.origin.document), (SampleId(id), id / 3));
    }
    assert!(reader.get("train", SampleId(140)).is_err());
}
