//! Repair: removes damaged files from a cache, so that rewriting what is then missing restores it byte for byte.

use crate::commit::{self, Commit};
use crate::companions::{self, Companion};
use crate::error::{Error, Result};
use crate::manifest::{self, Builder, Manifest, ManifestPart};
use crate::names::{MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::storage::Storage;
use crate::store::{self, LocalStore, Store, exists};
use crate::verify::{self, Finding, MadeFrom, Report, Tier};
use crate::writer::{CacheWriter, check_tokenizer};
use crate::{json, ranges};
use logitcask_core::Fingerprint;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tracing::info;

/// A cache after its damaged files were removed.
#[derive(Debug)]
pub struct Repair {
    /// Write its [`CacheWriter::pending`] units, then call [`CacheWriter::finish`].
    pub writer: CacheWriter,
    /// The id that the repaired cache must have; `None` if neither the manifest nor all commits survived.
    pub cache_id: Option<Fingerprint>,
    /// Damaged or foreign files that were removed.
    pub removed: Vec<String>,
    /// Files that were rebuilt from intact ones.
    pub restored: Vec<String>,
    /// Problems that remain: files that are not part of the format, which need manual attention.
    pub left: Vec<Finding>,
}

/// Removes the files that `report` found damaged in `folder` and rebuilds those that do not need the teacher: plan,
/// tokenizer and companions, which are passed in, and commits listed in an intact part of the manifest. Damaged parts and
/// a damaged root are removed; [`CacheWriter::finish`] makes them from the commits. A damaged shard is removed but its
/// commit stays: the shard that is written in its place must have the same bytes.
///
/// `plan` is the recipe's plan. Every removal is verified again, so that an outdated report does no harm.
///
/// # Errors
/// [`Error::OtherPlan`] if the cache was made from another plan; [`Error::Io`] if a file cannot be read, which does not
/// imply that it is damaged. Only files that [`crate::verify()`] reports are removed.
pub fn prepare(
    folder: &Path,
    plan: Plan,
    tokenizer_json: &[u8],
    companions: &[Companion<'_>],
    report: &Report,
) -> Result<Repair> {
    plan.check()?;
    let local: Arc<dyn Store> = Arc::new(LocalStore::new(folder, Storage::READ));
    let store = local.as_ref();
    let mut removed = Vec::new();
    let mut report = report.clone();
    let given = Fingerprint::of(tokenizer_json) == plan.tokenizer.fingerprint;
    let is_same = given && remove_other_plan(store, &plan, &mut removed)?;
    if given && is_damaged(check_tokenizer(store, &plan))? {
        remove(store, TOKENIZER_NAME, &mut removed)?;
    }
    let mut restored: Vec<_> = [PLAN_NAME, TOKENIZER_NAME].map(str::to_owned).into();
    restored.retain(|name| !exists(store, name).unwrap_or(true));
    let writer = CacheWriter::open_in(local.clone(), plan, tokenizer_json)?;
    repair_companions(&writer, companions, &mut removed, &mut restored)?;
    if !is_same || report.files().contains(PLAN_NAME) {
        // Without a plan most of the cache could not be checked.
        report = verify::verify_in(local.clone(), Tier::Rows, &mut |_, _| {})?;
    }
    let mut repair = Repair { writer, cache_id: None, removed, restored, left: Vec::new() };
    let files = report.files();
    repair.records(store, &files)?;
    repair.shards(store, &report, &files)?;
    repair.foreign(store, &report)?;
    Ok(repair)
}

impl Repair {
    /// Repairs manifest and commits, each of which can be rebuilt from the other.
    fn records(&mut self, store: &dyn Store, damaged: &BTreeSet<&str>) -> Result<()> {
        let plan = self.writer.plan().clone();
        let read = Manifest::read(store, &plan);
        let mut root = if damaged.contains(MANIFEST_NAME) || read.is_err() {
            is_damaged(read.map(|_| ()))?;
            remove(store, MANIFEST_NAME, &mut self.removed)?;
            None
        } else {
            read.ok()
        };
        let (mut by_commits, mut is_wrong) = (Some(Builder::new(&plan)), false);
        for part in 0..plan.part_count() {
            let name = manifest::part_name(part);
            let read = match &root {
                Some(root) => root.part(store, &plan, part),
                None => manifest::read_part(store, &plan, part).map(|(commits, _)| commits),
            };
            let is_intact = !damaged.contains(name.as_str()) && read.is_ok();
            let vouched = read.as_ref().ok().filter(|_| is_intact && root.is_some());
            let commits = self.commits(store, (&plan, part), vouched, damaged)?;
            let is_made = |read: &[Commit]| {
                commits.as_ref().is_some_and(|commits| ManifestPart::of(commits) == ManifestPart::of(read))
            };
            let is_kept = is_intact && (root.is_some() || read.as_ref().is_ok_and(|read| is_made(read)));
            if !is_kept {
                // A part that the root names is removed only if it is wrong, and then the root is too.
                is_wrong |= root.is_some() && read.is_ok();
                is_damaged(read.map(|_| ()))?;
                remove(store, &name, &mut self.removed)?;
            }
            match commits {
                Some(commits) => _ = by_commits.as_mut().map(|builder| builder.add(&commits)),
                None => by_commits = None,
            }
        }
        if is_wrong {
            remove(store, MANIFEST_NAME, &mut self.removed)?;
            root = None;
        }
        let by_commits = || by_commits.map(|builder| builder.finish(plan.id()));
        self.cache_id = root.or_else(by_commits).map(|manifest| manifest.cache_id());
        Ok(())
    }

    /// Removes the damaged commits of a part's units, and makes those that are missing from what the manifest says of
    /// them; returns all commits if all are there.
    fn commits(
        &mut self,
        store: &dyn Store,
        (plan, part): (&Plan, usize),
        vouched: Option<&Vec<Commit>>,
        damaged: &BTreeSet<&str>,
    ) -> Result<Option<Vec<Commit>>> {
        let mut commits = Vec::new();
        for (number, unit) in plan.units_of_part(part).enumerate() {
            let name = commit::name(unit);
            let mut commit = Commit::read(store, plan, unit);
            if damaged.contains(name.as_str()) || commit.is_err() {
                is_damaged(commit.map(|_| ()))?;
                remove(store, &name, &mut self.removed)?;
                commit = Ok(None);
            }
            commits.push(match (commit?, vouched) {
                (None, Some(vouched)) => {
                    store.create(&name, &json::to_bytes(&vouched[number]))?;
                    info!(path = %store.path(&name).display(), "commit made again from the manifest");
                    self.restored.push(name);
                    Some(vouched[number].clone())
                }
                (commit, _) => commit,
            });
        }
        Ok(commits.into_iter().collect())
    }

    fn shards(&mut self, store: &dyn Store, report: &Report, damaged: &BTreeSet<&str>) -> Result<()> {
        let plan = self.writer.plan().clone();
        for name in damaged.iter().filter(|name| verify::is_shard(name) && plan.names(name)) {
            let findings = || report.findings.iter().filter(|finding| finding.file == *name);
            let Some(unit) = findings().find_map(|finding| finding.unit) else { continue };
            let is_recorded = match Commit::read(store, &plan, unit)? {
                Some(commit) => is_recorded(store, &commit),
                None => store.get_range(name, 0..0).map(|_| false),
            };
            if matches!(is_recorded, Ok(true)) {
                // The file was written with these bytes, and no replacement could have their hashes.
                self.left.extend(findings().cloned());
                continue;
            }
            is_damaged(is_recorded.map(|_| ()))?;
            remove(store, name, &mut self.removed)?;
        }
        Ok(())
    }

    /// Removes foreign files whose names the format defines, such as shards of another plan; other files may belong to
    /// somebody.
    fn foreign(&mut self, store: &dyn Store, report: &Report) -> Result<()> {
        let plan = self.writer.plan();
        let is_its = |file: &str| [PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME].contains(&file) || plan.names(file);
        let is_mended = |name: &str| {
            let pin = plan.companions.iter().find(|pin| pin.name == name);
            pin.is_some_and(|pin| companions::read(store, pin).is_ok())
        };
        let others = report.findings.iter().filter(|finding| !is_its(&finding.file));
        for finding in others.filter(|finding| !is_mended(&finding.file)) {
            match verify::is_ours(&finding.file) {
                true => remove(store, &finding.file, &mut self.removed)?,
                false => self.left.push(finding.clone()),
            }
        }
        Ok(())
    }
}

/// Whether a shard has the recorded bytes.
fn is_recorded(store: &dyn Store, commit: &Commit) -> Result<bool> {
    store::check_length(store, &commit.shard, commit.bytes)?;
    Ok(ranges::damaged(&commit.ranges, &store.get(&commit.shard, commit.bytes)?).is_empty())
}

/// Replaces damaged and missing companions as far as the correct ones are given.
fn repair_companions(
    writer: &CacheWriter,
    files: &[Companion<'_>],
    removed: &mut Vec<String>,
    restored: &mut Vec<String>,
) -> Result<()> {
    for pin in &writer.plan().companions {
        let right = files.iter().find(|file| companions::is(pin, **file));
        if let (Some(right), true) = (right, is_damaged(companions::read(writer.store(), pin).map(|_| ()))?) {
            remove(writer.store(), &pin.name, removed)?;
            writer.lay_companions([*right])?;
            restored.push(pin.name.clone());
        }
    }
    Ok(())
}

/// Removes a damaged plan so that `plan` can be written; returns `false` if the plan does not exist (any more).
fn remove_other_plan(store: &dyn Store, plan: &Plan, removed: &mut Vec<String>) -> Result<bool> {
    let (here, id) = (Plan::read_from(store), plan.id());
    if let Ok(here) = &here
        && here.id() == id
    {
        // The list of companions is not part of the id; the files themselves show which of the two lists is right.
        let are_there = |plan: &Plan| plan.companions.iter().all(|pin| companions::read(store, pin).is_ok());
        let is_damaged = here.companions != plan.companions && are_there(plan) && !are_there(here);
        if is_damaged {
            remove(store, PLAN_NAME, removed)?;
        }
        return Ok(!is_damaged);
    }
    let differences = match (&here, verify::made_from(store, id)) {
        // If nothing has been written yet, a readable plan belongs to somebody.
        (Ok(here), MadeFrom::Other(_) | MadeFrom::Unknown) => here.differences(plan),
        (Err(_), MadeFrom::Other(other)) => {
            vec![format!("its manifest and shards were made from plan {other}, {id} is wanted")]
        }
        (_, MadeFrom::This) | (Err(_), MadeFrom::Unknown) => Vec::new(),
    };
    if !differences.is_empty() {
        return Err(Error::OtherPlan { path: store.location().to_owned(), differences });
    }
    is_damaged(here.map(|_| ()))?;
    remove(store, PLAN_NAME, removed)?;
    Ok(false)
}

/// Whether `read` shows that a file is damaged or missing. A file that cannot be read for another reason may be intact.
fn is_damaged(read: Result<()>) -> Result<bool> {
    match read {
        Ok(()) => Ok(false),
        Err(Error::Io { reason, path, action }) if reason.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { path, action, reason })
        }
        // Intact for the program version that wrote it.
        Err(error @ Error::Version { .. }) => Err(error),
        Err(_) => Ok(true),
    }
}

fn remove(store: &dyn Store, name: &str, removed: &mut Vec<String>) -> Result<()> {
    if store.remove(name)? {
        info!(path = %store.path(name).display(), "damaged or foreign file removed");
        removed.push(name.to_owned());
    }
    Ok(())
}
