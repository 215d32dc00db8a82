//! Bytes that reading one sample touches.

use super::*;
use crate::shard::Shard;
use bytes::Bytes;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;

/// A shard of two blocks of 128 rows, for measuring how many bytes a read of some rows needs.
struct Costs {
    plan: Plan,
    bytes: Vec<u8>,
    footer: ParquetMetaData,
}

impl Costs {
    fn new(layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { layout, ..plan(TOP_P, &[("train", 256)], 256) };
        write(folder.path(), &plan);
        let bytes = fs::read(folder.path().join(plan.shard_name(0))).unwrap();
        let reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Required);
        let footer = reader.parse_and_finish(&Bytes::from(bytes.clone())).unwrap();
        Self { plan, bytes, footer }
    }

    /// Byte ranges of the pages that contain these rows of a block, and of their dictionaries.
    fn pages(&self, block: usize, rows: &Range<u64>) -> Vec<Range<usize>> {
        let mut pages = Vec::new();
        let (group, index) = (self.footer.row_group(block), self.footer.page_index_for_row_group(block));
        for (number, column) in group.columns().iter().enumerate() {
            let all = index.page_locations(number).unwrap();
            if let Some(dictionary) = column.dictionary_page_offset() {
                pages.push(dictionary as usize..all[0].offset as usize);
            }
            for (page, location) in all.iter().enumerate() {
                let end = all.get(page + 1).map_or(group.num_rows(), |next| next.first_row_index) as u64;
                let start = location.offset as usize;
                if location.first_row_index as u64 >= rows.end || end <= rows.start {
                    continue;
                }
                pages.push(start..start + location.compressed_page_size as usize);
            }
        }
        pages
    }

    /// Number of bytes of the pages that contain these rows. Checks that they can be read when all other pages are
    /// destroyed.
    fn of(&self, block: usize, rows: Range<u64>) -> u64 {
        let pages = self.pages(block, &rows);
        let blocks = 0..self.footer.num_row_groups();
        let mut spoilt = self.bytes.clone();
        blocks.flat_map(|block| self.pages(block, &(0..128))).for_each(|page| spoilt[page].fill(0xaa));
        let mut keep = |page: &Range<usize>| spoilt[page.clone()].copy_from_slice(&self.bytes[page.clone()]);
        pages.iter().for_each(&mut keep);
        // The packed model, which is stored in the first row and read on opening.
        let model = self.footer.row_group(0).columns().iter().position(|c| c.column_path().string() == "packed_model");
        if let Some(model) = model {
            let index = self.footer.page_index_for_row_group(0);
            let page = &index.page_locations(model).unwrap()[0];
            keep(&(page.offset as usize..page.offset as usize + page.compressed_page_size as usize));
        }
        let shard = Shard::of_bytes("spoilt".into(), spoilt.into(), (&self.plan, self.plan.id()), 0).unwrap();
        let read = shard.read(&self.plan, block, rows.clone()).unwrap();
        let wanted = rows_of(&self.plan, 0, 0).into_iter().skip(block * 128 + rows.start as usize);
        assert!(read.iter().map(|row| (row.sample.clone(), row.rows.clone())).eq(wanted.take(rows.clone().count())));
        let beyond = if rows.start > 32 { 0..32 } else { 96..128 };
        assert!(rows.contains(&beyond.start) || shard.read(&self.plan, block, beyond).is_err());
        pages.iter().map(|page| page.len() as u64).sum()
    }
}

#[test]
fn one_sample_costs_its_pages_and_no_more() {
    for layout in [Layout::Plain, Layout::Packed] {
        let costs = Costs::new(layout);
        let (file, whole) = (costs.bytes.len() as u64, costs.of(0, 0..128));
        // The file consists of two blocks of equal size and the footer.
        assert!(whole > file / 4 && whole < file, "{layout:?}: {whole} of {file}");
        let last = costs.of(1, 127..128);
        // One of the four pages of every column, and one dictionary.
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
            // The dictionary is always read.
            let kept = pages as f64 / 4.0;
            assert!((kept - 0.05..kept + 0.12).contains(&share(pages)), "{layout:?}, {pages} of 4: {}", share(pages));
        }
    }
}

#[test]
fn samples_left_out_cost_nothing_page_by_page() {
    // Two blocks of 128 rows in pages of 32. The second block is destroyed, which affects only reads of its samples.
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
    // Only the shards with the requested samples are opened.
    fs::remove_file(folder.path().join(plan.shard_name(1))).unwrap();
    for (split, id) in [("train", 0), ("train", 139), ("train", 280), ("train", 299), ("val", 6)] {
        let row = reader.get(split, SampleId(id)).unwrap();
        assert_eq!((row.sample.id, row.sample.origin.document), (SampleId(id), id / 3));
    }
    assert!(reader.get("train", SampleId(140)).is_err());
}

#[test]
fn shards_that_were_not_used_for_long_are_closed_and_believed_again_only_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let most = crate::reader::MOST_OPEN as u64;
    let plan = plan(TOP_K, &[("train", most + 20)], 1);
    write(folder.path(), &plan);
    let reader = CacheReader::open(folder.path()).unwrap();
    let read = |id| reader.get("train", SampleId(id));
    (0..most + 20).for_each(|id| assert_eq!(read(id).unwrap().sample.id.0, id));
    assert_eq!(reader.open_shards(), most as usize);
    // The first shard has been closed, the last has not. Both are replaced by another file of the same length.
    for unit in [0, most as usize + 19] {
        let path = folder.path().join(plan.shard_name(unit));
        let mut bytes = fs::read(&path).unwrap();
        bytes[50] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    }
    assert!(matches!(read(0), Err(crate::Error::Damaged { .. })));
    assert_eq!(read(most + 19).unwrap().sample.id.0, most + 19);
    assert_eq!(read(1).unwrap().sample.id.0, 1);
    assert_eq!(reader.open_shards(), most as usize);
}
