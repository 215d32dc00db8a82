//! Reading a finished cache. Opening is cheap, and all data is checked before it is used.

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::names::{MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::order::Samples;
use crate::pins::ArtifactRef;
use crate::plan::{Plan, WorkUnit};
use crate::row_group::{CachedSample, RowGroup, rows_of_group};
use crate::shard::{Shard, VerifiedAt};
use crate::storage::Storage;
use crate::writer::check_tokenizer;
use crate::{commit, companions, schema, storage};
use logitcask_core::{Fingerprint, SampleId};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{debug, info};

/// A finished cache. Clones share the open shards.
///
/// # Examples
/// ```no_run
/// use logitcask_cache::CacheReader;
///
/// let cache = CacheReader::open("data/caches/demo".as_ref())?;
/// for cached in cache.in_order("train")? {
///     println!("{:?}", cached?.sample.id);
/// }
/// # Ok::<(), logitcask_cache::Error>(())
/// ```
#[derive(Clone)]
pub struct CacheReader(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    plan: Plan,
    /// [`Plan::id`].
    id: Fingerprint,
    manifest: Manifest,
    cache_id: Fingerprint,
    /// Ranges of the units of each split, in the plan's order.
    splits: Vec<Range<usize>>,
    storage: Storage,
    /// For each shard, proof that it was verified; set when it is first opened.
    proofs: Vec<Mutex<Option<VerifiedAt>>>,
    open: Mutex<OpenShards>,
}

/// Maximum number of shards that stay open, enough for several windows of a shuffled epoch. Without a limit, memory use
/// would grow with the cache.
pub(crate) const MOST_OPEN: usize = 256;

/// The most recently used shards.
#[derive(Default)]
struct OpenShards {
    /// The shards by unit, with the time of their last use.
    shards: HashMap<usize, (u64, Arc<Shard>)>,
    /// Total size of these shards in bytes.
    bytes: u64,
    clock: u64,
}

impl OpenShards {
    fn get(&mut self, unit: usize) -> Option<Arc<Shard>> {
        self.clock += 1;
        let (used, shard) = self.shards.get_mut(&unit)?;
        *used = self.clock;
        Some(shard.clone())
    }

    fn put(&mut self, unit: usize, shard: Arc<Shard>, storage: Storage) {
        self.bytes += shard.len();
        self.shards.insert(unit, (self.clock, shard));
        let is_full = |this: &Self| {
            let takes_memory = !storage.is_mapped() && this.bytes > Storage::MOST_READ;
            this.shards.len() > MOST_OPEN || (takes_memory && this.shards.len() > 1)
        };
        while is_full(self)
            && let Some(oldest) = self.shards.iter().min_by_key(|(_, (used, _))| *used).map(|(unit, _)| *unit)
        {
            self.bytes -= self.shards.remove(&oldest).map_or(0, |(_, shard)| shard.len());
            debug!(unit = oldest, open = self.shards.len(), bytes = self.bytes, "shard closed for another");
        }
    }
}

impl fmt::Debug for CacheReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheReader({}, cache id {})", self.0.folder.display(), self.cache_id().short())
    }
}

impl CacheReader {
    /// Opens the cache in `folder`. Plan, manifest and tokenizer are checked; shards are opened when they are first
    /// used, and then read into memory as described at [`Storage::READ`].
    ///
    /// # Errors
    /// [`Error::NotACache`] without a plan, [`Error::Unfinished`] without a manifest, [`Error::Version`],
    /// [`Error::Malformed`] or [`Error::Checksum`] if these files are inconsistent.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, Storage::READ)
    }

    /// [`Self::open`] with another way to hold the shards.
    ///
    /// # Errors
    /// The same as [`Self::open`].
    pub fn open_with(folder: &Path, storage: Storage) -> Result<Self> {
        let path = folder.to_owned();
        if !folder.join(PLAN_NAME).exists() {
            return Err(Error::NotACache { path });
        }
        let plan = Plan::read(folder)?;
        let units = plan.units.len();
        if !folder.join(MANIFEST_NAME).exists() {
            let mut committed = 0;
            for unit in 0..units {
                committed += usize::from(commit::exists(folder, unit)?);
            }
            return Err(Error::Unfinished { path, committed, units });
        }
        let manifest = Manifest::read(folder, &plan)?;
        check_tokenizer(&folder.join(TOKENIZER_NAME), &plan)?;
        let proofs = (0..units).map(|_| Mutex::default()).collect();
        let (id, cache_id, splits, open) = (manifest.plan_id, manifest.cache_id(), plan.splits(), Mutex::default());
        info!(folder = %folder.display(), cache_id = %cache_id.short(), layout = plan.layout.name(), units, "cache opened");
        Ok(Self(Arc::new(Inner { folder: path, plan, id, manifest, cache_id, splits, storage, proofs, open })))
    }

    /// Checks that every shard exists with the length in the manifest. Its bytes are not read.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Size`] for the first shard that fails.
    pub fn check_lengths(&self) -> Result<()> {
        let shards = &self.0.manifest.shards;
        shards.iter().try_for_each(|commit| storage::check_whole(&self.0.folder.join(&commit.shard), commit.bytes))
    }

    /// Checks that every shard of a split has the bytes that the manifest lists, by reading each completely.
    ///
    /// # Errors
    /// The error of the first shard that fails.
    pub fn check_split(&self, split: &str) -> Result<()> {
        self.units(split)?.try_for_each(|unit| self.shard(unit).map(|_| ()))
    }

    /// The plan with all settings of the cache.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Every shard and the totals.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// The cache's id, see [`Manifest::cache_id`].
    pub fn cache_id(&self) -> Fingerprint {
        self.0.cache_id
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Path of the tokenizer that produced the samples' tokens.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.0.folder.join(TOKENIZER_NAME)
    }

    /// Name and bytes of each companion, a file of the teacher that the cache stores for its students. The bytes are
    /// checked against the plan.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checksum`] if one is missing or has changed.
    pub fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |pin: &ArtifactRef| Ok((pin.name.clone(), companions::read(&self.0.folder, pin)?));
        self.plan().companions.iter().map(read).collect()
    }

    /// Names of the splits, in the plan's order.
    pub fn splits(&self) -> Vec<&str> {
        self.0.splits.iter().map(|units| self.plan().units[units.start].split.as_str()).collect()
    }

    /// Number of samples in a split.
    ///
    /// # Errors
    /// [`Error::NoSplit`], which lists the splits of the cache; the same holds for every method that takes a split.
    pub fn len(&self, split: &str) -> Result<u64> {
        Ok(self.0.plan.units[self.units(split)?].last().map_or(0, |unit| unit.end))
    }

    /// Reads one sample; only its block is decoded.
    ///
    /// # Errors
    /// [`Error::NoSample`] past the split's end; otherwise any error in the shard or row.
    pub fn get(&self, split: &str, id: SampleId) -> Result<CachedSample> {
        let units = self.units(split)?;
        let unit = units.start + self.plan().units[units.clone()].partition_point(|unit| unit.end <= id.0);
        let none = || Error::NoSample { split: split.into(), sample: id.0, len: self.len(split).unwrap_or(0) };
        if unit == units.end {
            return Err(none());
        }
        let (row, per_block) = (id.0 - self.plan().units[unit].start, self.plan().rows_per_group());
        let within = row % per_block;
        let samples = self.shard(unit)?.read(self.plan(), (row / per_block) as usize, within..within + 1)?;
        samples.into_iter().next().ok_or_else(none)
    }

    /// Reads a range of samples by ascending id. Of every block that contains some, only those rows are decoded, once.
    ///
    /// # Errors
    /// [`Error::NoSample`] if `ids` extend past the split's end.
    pub fn range(&self, split: &str, ids: Range<u64>) -> Result<Vec<CachedSample>> {
        let (units, len) = (self.units(split)?, self.len(split)?);
        if ids.end > len {
            return Err(Error::NoSample { split: split.into(), sample: ids.end - 1, len });
        }
        let mut unit = units.start + self.plan().units[units].partition_point(|unit| unit.end <= ids.start);
        let mut samples = Vec::with_capacity(ids.end.saturating_sub(ids.start) as usize);
        let mut next = ids.start;
        while next < ids.end {
            let WorkUnit { start, end, .. } = self.plan().units[unit];
            let per_block = self.plan().rows_per_group();
            let index = (next - start) / per_block;
            let first = start + index * per_block;
            let last = ids.end.min(first + rows_of_group(self.plan(), unit, index));
            samples.extend(self.shard(unit)?.read(self.plan(), index as usize, next - first..last - first)?);
            next = last;
            unit += usize::from(next == end);
        }
        Ok(samples)
    }

    /// Every sample of a split by ascending id.
    ///
    /// # Errors
    /// [`Error::NoSplit`]; errors in a shard or row are items of the iterator.
    pub fn in_order(&self, split: &str) -> Result<Samples> {
        Ok(Samples::in_order(self.clone(), self.blocks(split)?))
    }

    /// Every sample of a split once, in an order that depends on `seed` and `epoch` only, from index `skip` on.
    ///
    /// Blocks are shuffled, then the rows within every window of [`crate::order::WINDOW_BLOCKS`] blocks. Memory holds
    /// pages of one window, each from its first sample to its last; pages with only skipped samples are not decoded.
    ///
    /// # Errors
    /// [`Error::NoSplit`]; errors in a shard or row are items of the iterator.
    pub fn shuffled(&self, split: &str, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        Ok(Samples::shuffled(self.clone(), self.blocks(split)?, seed, epoch, skip))
    }

    /// [`Self::shuffled`] restricted to the samples `kept`, whose ids must ascend; pages without any of them are not
    /// decoded. The order also depends on `kept`.
    ///
    /// # Errors
    /// [`Error::NoSample`] if `kept` does not ascend within the split.
    pub fn shuffled_among(&self, split: &str, kept: Vec<u64>, seed: u64, epoch: u64, skip: u64) -> Result<Samples> {
        let len = self.len(split)?;
        let beyond = kept.last().copied().filter(|last| *last >= len);
        let stray = beyond.or(kept.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| pair[1]));
        if let Some(sample) = stray {
            return Err(Error::NoSample { split: split.into(), sample, len });
        }
        Ok(self.shuffled(split, seed, epoch, skip)?.among(kept))
    }

    /// The samples of a split that are decoded together, as ranges of their ids.
    ///
    /// # Errors
    /// [`Error::NoSplit`].
    pub fn groups(&self, split: &str) -> Result<Vec<Range<u64>>> {
        let page = schema::ROWS_PER_PAGE as u64;
        let pages = |block: RowGroup| {
            let ids = block.ids();
            ids.clone().step_by(page as usize).map(move |first| first..(first + page).min(ids.end))
        };
        Ok(self.blocks(split)?.into_iter().flat_map(pages).collect())
    }

    /// Reads every row of a unit.
    pub(crate) fn unit(&self, unit: usize) -> Result<Vec<CachedSample>> {
        let blocks = self.blocks_of(unit).map(|block| self.block(block, 0..block.rows));
        Ok(blocks.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Decodes rows of a block, counted within it.
    pub(crate) fn block(&self, block: RowGroup, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        self.shard(block.unit as usize)?.read(self.plan(), block.index as usize, rows)
    }

    /// Number of shards that are open.
    #[cfg(test)]
    pub(crate) fn open_shards(&self) -> usize {
        lock(&self.0.open).shards.len()
    }

    fn units(&self, split: &str) -> Result<Range<usize>> {
        let found = self.0.splits.iter().find(|units| self.plan().units[units.start].split == split);
        found.cloned().ok_or_else(|| Error::NoSplit {
            split: split.to_owned(),
            there: self.splits().into_iter().map(str::to_owned).collect(),
        })
    }

    /// The blocks of a split, computed from the plan without reading footers.
    fn blocks(&self, split: &str) -> Result<Vec<RowGroup>> {
        Ok(self.units(split)?.flat_map(|unit| self.blocks_of(unit)).collect())
    }

    fn blocks_of(&self, unit: usize) -> impl Iterator<Item = RowGroup> {
        let per_block = self.plan().rows_per_group();
        let WorkUnit { start, end, .. } = self.plan().units[unit];
        let plan = self.plan();
        (0..(end - start).div_ceil(per_block)).map(move |index| RowGroup {
            unit: unit as u32,
            index: index as u32,
            first: start + index * per_block,
            rows: rows_of_group(plan, unit, index),
        })
    }

    /// The shard of `unit`, verified at its first use; a shard that fails is tried again at the next use.
    fn shard(&self, unit: usize) -> Result<Arc<Shard>> {
        let Inner { folder, plan, id, manifest, storage, proofs, open, .. } = &*self.0;
        if let Some(shard) = lock(open).get(unit) {
            return Ok(shard);
        }
        // A second thread waits here instead of hashing the same bytes again.
        let mut proof = lock(&proofs[unit]);
        if let Some(shard) = lock(open).get(unit) {
            return Ok(shard);
        }
        let shard = Arc::new(Shard::open(folder, (plan, *id), unit, &manifest.shards[unit], (*storage, &mut proof))?);
        lock(open).put(unit, shard.clone(), *storage);
        Ok(shard)
    }
}

/// Ignores poisoning: every change is a single step, so a panic cannot leave the data inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
