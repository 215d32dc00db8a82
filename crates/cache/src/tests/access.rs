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

#[test]
fn one_sample_costs_its_pages_and_no_more() {
    for layout in [Layout::Plain, Layout::Packed] {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { layout, ..plan(TOP_P, &[("train", 256)], 256) };
        let manifest = write(folder.path(), &plan);
        let shard = Shard::open(folder.path(), &plan, 0, &manifest.shards[0]).unwrap();
        let bytes = Bytes::from(fs::read(folder.path().join(plan.shard_name(0))).unwrap());
        let cost = |block: usize, rows: std::ops::Range<u64>| {
            let counting = Counting { bytes: bytes.clone(), read: Arc::default() };
            let read = shard.read_from(counting.clone(), &plan, block, rows.clone()).unwrap();
            let wanted = rows_of(&plan, 0, 0).into_iter().skip(block * 128 + rows.start as usize);
            assert!(read.iter().map(|row| (row.sample.clone(), row.rows.clone())).eq(wanted.take(rows.count())));
            counting.read.load(Ordering::Relaxed)
        };
        let whole = cost(0, 0..128);
        // Two blocks of equal size make the file, but for the footer.
        assert!(whole > bytes.len() as u64 / 4 && whole < bytes.len() as u64, "{layout:?}: {whole} of {}", bytes.len());
        let last = cost(1, 127..128);
        // One page of four in every column, and the dictionary of one.
        assert!(last < whole / 3, "{layout:?}: one row costs {last} bytes, 128 cost {whole}");
    }
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
