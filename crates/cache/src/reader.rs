//! Reading a finished cache. Opening is cheap, and all data is checked before it is used.

mod columns;
mod rows;

use crate::commit::{self, Commit};
use crate::companions;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::names::{COMMITS_DIR, MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::pins::ArtifactRef;
use crate::plan::Plan;
use crate::recent::Recent;
use crate::shard::{Proof, Shard};
use crate::storage::Storage;
use crate::store::{self, LocalStore, Store};
use crate::writer::check_tokenizer;
use logitcask_core::{ExtraColumn, Fingerprint};
use std::collections::HashMap;
use std::fmt;
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
pub struct CacheReader {
    inner: Arc<Inner>,
    /// The extra columns that are decoded.
    extras: Arc<[ExtraColumn]>,
}

/// What was verified of a shard the last time it was open. Locked while the shard is opened.
type Opening = Arc<Mutex<Option<Arc<Proof>>>>;

struct Inner {
    store: Arc<dyn Store>,
    plan: Plan,
    /// [`Plan::id`].
    id: Fingerprint,
    manifest: Manifest,
    cache_id: Fingerprint,
    /// The most recently used parts of the manifest.
    parts: Mutex<Recent<Vec<Commit>>>,
    proofs: Mutex<Proofs>,
    open: Mutex<OpenShards>,
}

/// Maximum number of shards that stay open, enough for several windows of a shuffled epoch. Without a limit, memory use
/// would grow with the cache.
pub const MOST_OPEN: usize = 256;
/// Maximum number of parts of the manifest that stay in memory, with up to [`crate::plan::MAX_PART_UNITS`] commits each.
pub const MOST_PARTS: usize = 64;
/// Maximum number of shards of which a reader remembers what it verified. When there are more, it forgets all of them, and
/// hashes again what it opens again.
pub const MOST_PROOFS: usize = 1 << 18;

/// The most recently used shards.
#[derive(Default)]
struct OpenShards {
    shards: Recent<Shard>,
    /// Total size of these shards in bytes.
    bytes: u64,
}

impl OpenShards {
    fn put(&mut self, unit: usize, shard: Arc<Shard>) {
        let takes_memory = shard.takes_memory();
        self.bytes += shard.len();
        self.shards.put(unit, shard);
        while are_too_many(self.shards.len(), if takes_memory { self.bytes } else { 0 })
            && let Some((oldest, shard)) = self.shards.drop_oldest()
        {
            self.bytes -= shard.len();
            debug!(unit = oldest, open = self.shards.len(), bytes = self.bytes, "shard closed for another");
        }
    }
}

/// Whether so many open shards, with so many bytes in memory, are more than may stay open.
pub(crate) fn are_too_many(open: usize, bytes: u64) -> bool {
    open > MOST_OPEN || (bytes > Storage::MOST_READ && open > 1)
}

/// What was verified of the shards that were used.
#[derive(Default)]
pub(crate) struct Proofs(HashMap<usize, Opening>);

impl Proofs {
    /// What was verified of the shard of `unit`.
    pub(crate) fn of(&mut self, unit: usize) -> Opening {
        if self.0.len() >= MOST_PROOFS && !self.0.contains_key(&unit) {
            self.0.clear();
        }
        self.0.entry(unit).or_default().clone()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for CacheReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheReader({}, cache id {})", self.folder().display(), self.cache_id().short())
    }
}

impl CacheReader {
    /// Opens the cache in `folder`. Plan, tokenizer and the root of the manifest are checked; parts of the manifest and
    /// shards are opened when they are first used, and then read into memory as described at [`Storage::READ`].
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
        Self::open_in(Arc::new(LocalStore::new(folder, storage)))
    }

    /// [`Self::open`] of a cache in any store.
    ///
    /// # Errors
    /// The same as [`Self::open`].
    pub fn open_in(store: Arc<dyn Store>) -> Result<Self> {
        let path = store.location().to_owned();
        if !store::exists(store.as_ref(), PLAN_NAME)? {
            return Err(Error::NotACache { path });
        }
        let plan = Plan::read_from(store.as_ref())?;
        let units = plan.unit_count();
        if !store::exists(store.as_ref(), MANIFEST_NAME)? {
            let mut committed = 0;
            let mut count = |name: &str| {
                committed += usize::from(commit::number(&format!("{COMMITS_DIR}/{name}")).is_some_and(|n| n < units));
            };
            store.list(COMMITS_DIR, &mut count)?;
            return Err(Error::Unfinished { path, committed, units });
        }
        let manifest = Manifest::read(store.as_ref(), &plan)?;
        check_tokenizer(store.as_ref(), &plan)?;
        let (id, cache_id) = (manifest.plan_id, manifest.cache_id());
        info!(folder = %path.display(), cache_id = %cache_id.short(), layout = plan.layout.name(), units, "cache opened");
        let (parts, proofs, open) = Default::default();
        let inner = Inner { store, plan, id, manifest, cache_id, parts, proofs, open };
        Ok(Self { inner: Arc::new(inner), extras: Arc::new([]) })
    }

    /// The same cache, whose samples have the numbers of these extra columns, in this order. Columns that are not named
    /// are not decoded.
    ///
    /// # Errors
    /// [`Error::NoExtra`] names a column that the cache does not have.
    pub fn with_extras(&self, names: &[&str]) -> Result<Self> {
        let extras = &self.plan().extras;
        let find = |name: &&str| {
            extras.iter().find(|extra| extra.name == *name).cloned().ok_or_else(|| Error::NoExtra {
                path: self.folder().to_owned(),
                column: (*name).to_owned(),
                there: extras.iter().map(|extra| extra.name.clone()).collect(),
            })
        };
        Ok(Self { inner: self.inner.clone(), extras: names.iter().map(find).collect::<Result<_>>()? })
    }

    /// Checks that every shard exists with the length in the manifest. Its bytes are not read, but every part of the
    /// manifest is.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Size`] for the first shard that fails, and errors of [`Self::commit`].
    pub fn check_lengths(&self) -> Result<()> {
        let Inner { store, plan, manifest, .. } = &*self.inner;
        for part in 0..plan.part_count() {
            for commit in manifest.part(store.as_ref(), plan, part)? {
                store::check_length(store.as_ref(), &commit.shard, commit.bytes)?;
            }
        }
        Ok(())
    }

    /// Checks that every shard of a split has the bytes that the manifest lists, by reading each completely.
    ///
    /// # Errors
    /// The error of the first shard that fails.
    pub fn check_split(&self, split: &str) -> Result<()> {
        self.units(split)?.try_for_each(|unit| self.shard(unit)?.verify())
    }

    /// The commit of a unit, from the part of the manifest that holds it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checksum`] or [`Error::Malformed`] if the part is missing, or is not the one that the root
    /// names.
    ///
    /// # Panics
    /// If the plan has no such unit.
    pub fn commit(&self, unit: usize) -> Result<Commit> {
        let (commits, number) = self.part_of(unit)?;
        Ok(commits[number].clone())
    }

    /// The part of the manifest with the commit of a unit, and the commit's place in it.
    fn part_of(&self, unit: usize) -> Result<(Arc<Vec<Commit>>, usize)> {
        let Inner { store, plan, manifest, parts, .. } = &*self.inner;
        let per_part = plan.units_per_part();
        let (part, number) = (unit / per_part, unit % per_part);
        // A second thread waits here instead of reading the same part again.
        let mut parts = lock(parts);
        if let Some(commits) = parts.get(part) {
            return Ok((commits, number));
        }
        let commits = Arc::new(manifest.part(store.as_ref(), plan, part)?);
        parts.put(part, commits.clone());
        if parts.len() > MOST_PARTS {
            parts.drop_oldest();
        }
        Ok((commits, number))
    }

    /// The plan with all settings of the cache.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// The root of the manifest, with the totals.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The cache's id, see [`Manifest::cache_id`].
    pub fn cache_id(&self) -> Fingerprint {
        self.inner.cache_id
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        self.inner.store.location()
    }

    /// Path of the tokenizer that produced the samples' tokens.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.inner.store.path(TOKENIZER_NAME)
    }

    /// Where the cache is kept.
    pub(crate) fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }

    /// Name and bytes of each companion, a file of the teacher that the cache stores for its students. The bytes are
    /// checked against the plan.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checksum`] if one is missing or has changed.
    pub fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |pin: &ArtifactRef| Ok((pin.name.clone(), companions::read(self.store(), pin)?.into()));
        self.plan().companions.iter().map(read).collect()
    }

    /// Number of parts of the manifest that are in memory.
    #[cfg(test)]
    pub(crate) fn parts_in_memory(&self) -> usize {
        lock(&self.inner.parts).len()
    }

    /// Number of shards that are open.
    #[cfg(test)]
    pub(crate) fn open_shards(&self) -> usize {
        lock(&self.inner.open).shards.len()
    }

    /// The shard of `unit`, whose footer is verified at its first use; a shard that fails is tried again at the next use.
    fn shard(&self, unit: usize) -> Result<Arc<Shard>> {
        let Inner { store, plan, id, proofs, open, .. } = &*self.inner;
        if let Some(shard) = lock(open).shards.get(unit) {
            return Ok(shard);
        }
        let proof = lock(proofs).of(unit);
        // A second thread waits here instead of reading the same footer again.
        let mut proof = lock(&proof);
        if let Some(shard) = lock(open).shards.get(unit) {
            return Ok(shard);
        }
        let (commits, number) = self.part_of(unit)?;
        let shard = Arc::new(Shard::open(store, (plan, *id), unit, &commits[number], proof.take())?);
        *proof = shard.proof();
        lock(open).put(unit, shard.clone());
        Ok(shard)
    }
}

/// Ignores poisoning: every change is a single step, so a panic cannot leave the data inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
