//! Verification of what manifest and commits say, and of whether they say the same.

use super::{Check, exists};
use crate::card::CARD_NAME;
use crate::commit::{self, Commit};
use crate::json;
use crate::manifest::{self, Builder, Manifest, ManifestPart};
use crate::names::MANIFEST_NAME;
use crate::plan::Plan;
use logitcask_core::Fingerprint;

/// What was found out about manifest and commits.
pub(super) struct Records {
    pub(super) manifest: Option<Manifest>,
    /// For each part, whether it is the one that the root names.
    is_named: Vec<bool>,
    /// Whether the commits are right if the two differ and no shard decides.
    commits_win: bool,
}

/// What the files say of one unit: the names of the files and their commits, the most credible first.
pub(super) type Told = Vec<(String, Commit)>;

impl Check {
    /// Checks manifest and commits, part by part.
    pub(super) fn records(&mut self, (plan, id): (&Plan, Fingerprint)) -> Records {
        let store = self.store.clone();
        let root = match exists(store.as_ref(), MANIFEST_NAME) {
            Ok(false) => None,
            _ => Some(Manifest::read(store.as_ref(), plan)),
        };
        let named = root.as_ref().and_then(|root| root.as_ref().ok());
        let (mut is_named, mut committed) = (Vec::new(), 0);
        let (mut by_parts, mut by_commits) = (Some(Builder::new(plan)), Some(Builder::new(plan)));
        for part in 0..plan.part_count() {
            let name = manifest::part_name(part);
            let is_there = root.is_some() || exists(store.as_ref(), &name).unwrap_or(true);
            let read = is_there.then(|| manifest::read_part(store.as_ref(), plan, part));
            let found = read.as_ref().and_then(|read| read.as_ref().ok()).map(|(_, found)| *found);
            let is_right = found.is_some() && found == named.map(|root| root.parts[part]);
            let commits = self.commits(plan, part, is_right);
            committed += commits.iter().flatten().count();
            let commits: Option<Vec<Commit>> = commits.into_iter().collect();
            let made = commits.as_deref().map(ManifestPart::of);
            match &commits {
                Some(commits) => _ = by_commits.as_mut().map(|builder| builder.add(commits)),
                None => by_commits = None,
            }
            match (&read, is_right) {
                (Some(Ok((commits, _))), true) => _ = by_parts.as_mut().map(|builder| builder.add(commits)),
                (Some(Err(error)), _) => self.failed(&name, None, error),
                (Some(Ok((_, found))), false) => {
                    self.contradicted(&name, *found, named.map(|root| root.parts[part]), made)
                }
                (None, _) => {}
            }
            if !is_right {
                by_parts = None;
            }
            is_named.push(is_right);
        }
        let manifest = match root {
            Some(read) => read.map_err(|error| self.failed(MANIFEST_NAME, None, &error)).ok(),
            None => {
                let units = plan.unit_count();
                let what = format!("missing: {committed} of {units} units are committed, run cache again to finish it");
                self.found(MANIFEST_NAME, None, what);
                None
            }
        };
        let [by_parts, by_commits] = [by_parts, by_commits].map(|builder| builder.map(|builder| builder.finish(id)));
        let are_sums = |root: &Manifest| by_parts.as_ref().is_none_or(|parts| parts.totals == root.totals);
        if !manifest.as_ref().is_none_or(are_sums) {
            self.found(MANIFEST_NAME, None, "totals are not the sums of the shards' numbers");
        }
        // The card states the id that the cache had when it was finished.
        let card = store.get(CARD_NAME, json::MAX_JSON_BYTES).unwrap_or_default();
        let card = String::from_utf8_lossy(&card);
        let is_stated = |root: Option<&Manifest>| root.is_some_and(|root| card.contains(&root.cache_id().to_string()));
        let commits_win = is_stated(by_commits.as_ref()) && !is_stated(manifest.as_ref());
        Records { manifest, is_named, commits_win }
    }

    /// Reads the commits of a part's units; `is_told` is whether the manifest says the same.
    fn commits(&mut self, plan: &Plan, part: usize, is_told: bool) -> Vec<Option<Commit>> {
        let (store, mut commits) = (self.store.clone(), Vec::new());
        for unit in plan.units_of_part(part) {
            let read = Commit::read(store.as_ref(), plan, unit);
            let name = commit::name(unit);
            match &read {
                Ok(Some(_)) => {}
                // Readers only use the manifest.
                Ok(None) if is_told => self.noted(&name, Some(unit), "missing; the manifest has what it said"),
                Ok(None) => self.found(&name, Some(unit), "missing: the unit is not committed"),
                Err(error) => self.failed(&name, Some(unit), error),
            }
            commits.push(read.ok().flatten());
        }
        commits
    }

    /// Reports a part that is not the one that the root names: the file that the commits contradict is wrong.
    fn contradicted(
        &mut self,
        name: &str,
        found: ManifestPart,
        named: Option<ManifestPart>,
        made: Option<ManifestPart>,
    ) {
        match (named, made) {
            (Some(named), made) if made == Some(found) => {
                let what = format!("says that {name} is {named:?}, and it is {found:?}, as its commits are");
                self.found(MANIFEST_NAME, None, what);
            }
            (Some(named), _) => {
                let what =
                    format!("the BLAKE3 hash is {} instead of {} as in {MANIFEST_NAME}", found.blake3, named.blake3);
                self.found(name, None, what);
            }
            (None, Some(made)) if made != found => {
                self.found(
                    name,
                    None,
                    format!("the BLAKE3 hash is {} instead of {} as its commits give", found.blake3, made.blake3),
                );
            }
            (None, _) => {}
        }
    }

    /// What manifest and commits say of each unit of a part.
    pub(super) fn told(&self, plan: &Plan, part: usize, records: &Records) -> Vec<Told> {
        let store = self.store.as_ref();
        let name = manifest::part_name(part);
        let read = records.is_named[part].then(|| manifest::read_part(store, plan, part).ok());
        let mut by_part = read.flatten().map(|(commits, _)| commits).unwrap_or_default().into_iter();
        let of_unit = |unit: usize| {
            let by_part = by_part.next().map(|commit| (name.clone(), commit));
            let by_commit = Commit::read(store, plan, unit).ok().flatten();
            let by_commit = by_commit.map(|commit| (commit::name(unit), commit));
            let mut told = [by_part, by_commit];
            if records.commits_win {
                told.reverse();
            }
            told.into_iter().flatten().collect()
        };
        plan.units_of_part(part).map(of_unit).collect()
    }
}
