//! A store of another kind than the local one suffices to write, finish, open, read, verify and repair a cache.

use super::*;
use crate::error::{Error, Result};
use crate::store::ObjectMeta;
use crate::{Tier, verify_in};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// Objects in memory, with the required operations alone: as of an object store.
#[derive(Debug, Default)]
struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Names and ranges that were read.
    reads: Mutex<Vec<(String, Range<u64>)>>,
}

impl MemoryStore {
    fn object(&self, name: &str) -> Result<Bytes> {
        let missing = || Error::io(&self.path(name), "read the object")(io::ErrorKind::NotFound.into());
        self.objects.lock().unwrap().get(name).cloned().ok_or_else(missing)
    }

    fn change(&self, name: &str, at: usize) {
        let mut objects = self.objects.lock().unwrap();
        let mut bytes = objects[name].to_vec();
        bytes[at] ^= 1;
        objects.insert(name.to_owned(), bytes.into());
    }

    fn reads(&self) -> Vec<(String, Range<u64>)> {
        std::mem::take(&mut *self.reads.lock().unwrap())
    }
}

impl Store for MemoryStore {
    fn location(&self) -> &Path {
        Path::new("memory:/cache")
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let mut objects = self.objects.lock().unwrap();
        let is_new = !objects.contains_key(name);
        objects.entry(name.to_owned()).or_insert_with(|| Bytes::copy_from_slice(bytes));
        Ok(is_new)
    }

    fn get(&self, name: &str, most: u64) -> Result<Bytes> {
        let bytes = self.object(name)?;
        self.reads.lock().unwrap().push((name.to_owned(), 0..bytes.len() as u64));
        match bytes.len() as u64 <= most {
            true => Ok(bytes),
            false => Err(Error::malformed(&self.path(name), format!("larger than {most} bytes"))),
        }
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.reads.lock().unwrap().push((name.to_owned(), range.clone()));
        let bytes = self.object(name)?;
        let short = || Error::io(&self.path(name), "read the object")(io::ErrorKind::UnexpectedEof.into());
        let is_there = range.end <= bytes.len() as u64;
        is_there.then(|| bytes.slice(range.start as usize..range.end as usize)).ok_or_else(short)
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(&str)) -> Result<()> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let objects = self.objects.lock().unwrap();
        let mut names: Vec<&str> = objects.keys().filter_map(|name| name.strip_prefix(&prefix)).collect();
        names.iter_mut().for_each(|name| *name = name.split('/').next().unwrap());
        names.dedup();
        names.into_iter().for_each(each);
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<Option<ObjectMeta>> {
        let objects = self.objects.lock().unwrap();
        Ok(objects.get(name).map(|bytes| ObjectMeta { bytes: bytes.len() as u64, modified: None }))
    }

    fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.objects.lock().unwrap().remove(name).is_some())
    }
}

/// Two units of three blocks each.
fn plan_of_blocks(layout: Layout) -> Plan {
    let mut plan = Plan { layout, ..plan(TOP_K, &[("train", 20)], 10) };
    plan.max_length = FOUR_ROWS_A_BLOCK;
    plan
}

fn written(layout: Layout) -> (Arc<MemoryStore>, Plan, Manifest) {
    let (store, plan) = (Arc::<MemoryStore>::default(), plan_of_blocks(layout));
    let writer = CacheWriter::open_in(store.clone(), plan.clone(), TOKENIZER).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Unfinished { committed: 0, units: 2, .. })));
    for unit in writer.pending().unwrap() {
        assert!(matches!(writer.claim(unit).unwrap(), crate::Claimed::Mine(_)));
        write_unit(&writer, unit, 0).unwrap();
    }
    let manifest = writer.finish().unwrap();
    (store, plan, manifest)
}

#[test]
fn a_cache_in_memory_is_the_cache_of_a_folder() {
    for layout in [Layout::Plain, Layout::Packed] {
        let (store, plan, manifest) = written(layout);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path(), &plan), manifest);
        for (name, bytes) in store.objects.lock().unwrap().iter() {
            assert!(fs::read(folder.path().join(name)).unwrap() == *bytes, "{name} differs");
        }
        let [here, there] = [CacheReader::open_in(store.clone()), CacheReader::open(folder.path())].map(Result::unwrap);
        let rows =
            |reader: &CacheReader| reader.shuffled("train", 3, 1, 0).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(rows(&here), rows(&there));
        assert_eq!(here.get("train", SampleId(17)).unwrap().sample.id, SampleId(17));
        assert!(verify_in(store.clone(), Tier::Rows, &mut |_, _| {}).unwrap().is_whole());
        assert!(verify_in(store, Tier::Structure, &mut |_, _| {}).unwrap().is_whole());
    }
}

#[test]
fn one_sample_reads_its_row_group_and_the_footer() {
    let (store, plan, _) = written(Layout::Plain);
    store.reads();
    let reader = CacheReader::open_in(store.clone()).unwrap();
    let opened: Vec<String> = store.reads().into_iter().map(|(name, _)| name).collect();
    assert_eq!(opened, ["plan.json", "manifest.json", "tokenizer.json"]);
    reader.get("train", SampleId(15)).unwrap();
    let (name, commit) = (plan.shard_name(1), reader.commit(1).unwrap());
    let places = ranges::places(&commit.ranges);
    assert_eq!(places.len(), 4);
    let part = store.objects.lock().unwrap()["_manifest/00000.json"].len() as u64;
    let wanted = [("_manifest/00000.json", 0..part), (&name, places[3].clone()), (&name, places[1].clone())];
    assert_eq!(store.reads(), wanted.map(|(name, range)| (name.to_owned(), range)));
    // What is open is not read again.
    reader.get("train", SampleId(17)).unwrap();
    assert_eq!(store.reads(), []);
}

#[test]
fn damage_is_found_in_the_row_group_that_has_it_and_nowhere_else() {
    let (store, plan, _) = written(Layout::Plain);
    let name = plan.shard_name(1);
    let commit = CacheReader::open_in(store.clone()).unwrap().commit(1).unwrap();
    let places = ranges::places(&commit.ranges);
    // In the first row group the leading magic too.
    for (range, at) in [(0, 0), (0, 50), (1, places[1].start), (2, places[2].end - 1)] {
        store.change(&name, at as usize);
        let reader = CacheReader::open_in(store.clone()).unwrap();
        for block in 0..3 {
            let read = reader.get("train", SampleId(10 + 4 * block));
            assert_eq!(read.is_err(), block == range, "byte {at}, block {block}");
            if let Err(error) = read {
                let samples = format!("samples {} to {}", 10 + 4 * block, (14 + 4 * block).min(20) - 1);
                assert!(
                    error.to_string().contains(&format!("row group {range} ({samples}): the BLAKE3 hash is")),
                    "{error}"
                );
            }
        }
        let report = verify_in(store.clone(), Tier::Rows, &mut |_, _| {}).unwrap();
        let rows = 4 * range..(4 * range + 4).min(10);
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!((&report.findings[0].file, &report.findings[0].rows), (&name, &Some(rows)));
        assert!(report.findings[0].what.starts_with(&format!("row group {range} (samples ")), "{report:?}");
        store.change(&name, at as usize);
    }
    // Page indexes and the footer are read at the first use of the shard.
    store.change(&name, places[3].start as usize);
    let error = CacheReader::open_in(store.clone()).unwrap().get("train", SampleId(10)).unwrap_err();
    assert!(error.to_string().contains("footer: the BLAKE3 hash is"), "{error}");
    for tier in [Tier::Structure, Tier::Rows] {
        let report = verify_in(store.clone(), tier, &mut |_, _| {}).unwrap();
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert!(report.findings[0].what.starts_with("footer: the BLAKE3 hash is"), "{report:?}");
    }
}
