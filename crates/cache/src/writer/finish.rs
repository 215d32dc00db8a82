//! Completion of a cache: from its commits to its manifest.

use super::CacheWriter;
use crate::card::{self, CARD_NAME, SplitBytes};
use crate::commit;
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::{self, Builder, Manifest};
use crate::names::{COMMITS_DIR, DATA_DIR, MANIFEST_NAME, PARTS_DIR};
use crate::store::{Store, check_length, exists};
use tracing::info;

impl CacheWriter {
    /// Completes the cache: writes its manifest and removes temporary files of killed runs. The commits of one part of
    /// the manifest are in memory at a time.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if a unit has no commit; [`Error::Io`] or [`Error::Size`] if a committed shard is missing
    /// or has another length; [`Error::Malformed`] if a commit, or an existing manifest, is not the one that the plan
    /// determines.
    pub fn finish(&self) -> Result<Manifest> {
        self.check_committed()?;
        let (store, mut builder) = (self.store(), Builder::new(&self.plan));
        let mut split_bytes = SplitBytes::new();
        for part in 0..self.plan.part_count() {
            let mut commits = Vec::new();
            for unit in self.plan.units_of_part(part) {
                let commit = self.recorded(unit)?.ok_or_else(|| self.unfinished(unit))?;
                check_length(store, &commit.shard, commit.bytes)?;
                *split_bytes.entry(commit.split.clone()).or_default() += commit.bytes;
                commits.push(commit);
            }
            let made = builder.add(&commits);
            self.publish(&manifest::part_name(part), &json::to_lines(&commits), |store| {
                Ok(manifest::read_part(store, &self.plan, part)?.1 == made)
            })?;
        }
        // Every name in these folders is taken: remaining writers only write duplicates. This comes before the root,
        // because nobody resumes a complete cache.
        for folder in [DATA_DIR, COMMITS_DIR, PARTS_DIR] {
            store.remove_leftovers(folder)?;
        }
        let manifest = builder.finish(self.id);
        // Before the root, so that every complete cache has a card; an existing card with edits is kept.
        store.create(CARD_NAME, card::text(&self.plan, &manifest, &split_bytes).as_bytes())?;
        self.publish(MANIFEST_NAME, &json::to_bytes(&manifest), |store| {
            Ok(Manifest::read(store, &self.plan)? == manifest)
        })?;
        store.remove_leftovers("")?;
        let (folder, units) = (store.location().display(), self.plan.unit_count());
        info!(folder = %folder, cache_id = %manifest.cache_id().short(), units, "cache complete");
        Ok(manifest)
    }

    /// Creates a file of the manifest; if one has its name, it must hold the same value.
    fn publish(&self, name: &str, bytes: &[u8], is_same: impl FnOnce(&dyn Store) -> Result<bool>) -> Result<()> {
        if self.store.create(name, bytes)? || is_same(self.store())? {
            return Ok(());
        }
        Err(Error::malformed(&self.store.path(name), "not what the plan and commits beside it make"))
    }

    /// Rejects a cache with a unit that is not committed, before anything of its manifest is written.
    fn check_committed(&self) -> Result<()> {
        let (units, mut committed) = (self.plan.unit_count(), 0);
        for unit in 0..units {
            committed += usize::from(exists(self.store(), &commit::name(unit))?);
        }
        if committed < units { Err(self.unfinished(committed)) } else { Ok(()) }
    }

    fn unfinished(&self, committed: usize) -> Error {
        Error::Unfinished { path: self.folder().to_owned(), committed, units: self.plan.unit_count() }
    }
}
