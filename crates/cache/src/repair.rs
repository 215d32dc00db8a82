//! Repair: removes damaged files from a cache, so that rewriting what is then missing restores it byte for byte.

use crate::commit::{self, Commit};
use crate::companions::{self, Companion};
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::Manifest;
use crate::names::{MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::publish;
use crate::storage::Storage;
use crate::verify::{self, Finding, MadeFrom, Report, Tier};
use crate::writer::{CacheWriter, check_tokenizer};
use logitcask_core::Fingerprint;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
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
/// tokenizer and companions, which are passed in, and commits listed in an intact manifest. A damaged shard is removed
/// but its commit stays: the shard that is written in its place must have the same bytes.
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
    let mut removed = Vec::new();
    let mut report = report.clone();
    let given = Fingerprint::of(tokenizer_json) == plan.tokenizer.fingerprint;
    let is_same = given && remove_other_plan(folder, &plan, &mut removed)?;
    if given && is_damaged(check_tokenizer(&folder.join(TOKENIZER_NAME), &plan))? {
        remove(folder, TOKENIZER_NAME, &mut removed)?;
    }
    let mut restored: Vec<_> = [PLAN_NAME, TOKENIZER_NAME].map(str::to_owned).into();
    restored.retain(|name| !folder.join(name).exists());
    let writer = CacheWriter::open(folder, plan, tokenizer_json)?;
    repair_companions(&writer, companions, &mut removed, &mut restored)?;
    if !is_same || report.files().contains(PLAN_NAME) {
        // Without a plan most of the cache could not be checked.
        report = verify::verify(folder, Tier::Rows, &mut |_, _| {})?;
    }
    let mut repair = Repair { writer, cache_id: None, removed, restored, left: Vec::new() };
    let files = report.files();
    repair.records(folder, &files)?;
    repair.shards(folder, &report, &files)?;
    repair.foreign(folder, &report)?;
    Ok(repair)
}

impl Repair {
    /// Repairs manifest and commits, each of which can be rebuilt from the other.
    fn records(&mut self, folder: &Path, damaged: &BTreeSet<&str>) -> Result<()> {
        let plan = self.writer.plan().clone();
        let read = Manifest::read(folder, &plan);
        let manifest = if damaged.contains(MANIFEST_NAME) || read.is_err() {
            is_damaged(read.map(|_| ()))?;
            remove(folder, MANIFEST_NAME, &mut self.removed)?;
            None
        } else {
            read.ok()
        };
        let (mut commits, id) = (Vec::new(), plan.id());
        for (unit, shard) in plan.shard_names().iter().enumerate() {
            let (name, path) = (commit::name(unit), commit::path(folder, unit));
            let mut commit = Commit::read(folder, &plan, unit, shard);
            if damaged.contains(name.as_str()) || commit.is_err() {
                is_damaged(commit.map(|_| ()))?;
                remove(folder, &name, &mut self.removed)?;
                commit = Ok(None);
            }
            commits.push(match (commit?, &manifest) {
                (None, Some(manifest)) => {
                    publish::create(&path, &json::to_bytes(&manifest.shards[unit]))?;
                    info!(path = %path.display(), "commit made again from the manifest");
                    self.restored.push(name);
                    Some(manifest.shards[unit].clone())
                }
                (commit, _) => commit,
            });
        }
        let by_commits = || commits.into_iter().collect::<Option<Vec<_>>>().map(|all| Manifest::new(&plan, id, all));
        self.cache_id = manifest.or_else(by_commits).map(|manifest| manifest.cache_id());
        Ok(())
    }

    fn shards(&mut self, folder: &Path, report: &Report, damaged: &BTreeSet<&str>) -> Result<()> {
        for (unit, name) in self.writer.plan().shard_names().iter().enumerate() {
            if !damaged.contains(name.as_str()) {
                continue;
            }
            let path = folder.join(name);
            let is_recorded = match Commit::read(folder, self.writer.plan(), unit, name)? {
                Some(commit) => {
                    Storage::READ.bytes(&path, commit.bytes).map(|(bytes, _)| Fingerprint::of(&bytes) == commit.blake3)
                }
                None => File::open(&path).map(|_| false).map_err(Error::io(&path, "open the shard")),
            };
            if matches!(is_recorded, Ok(true)) {
                // The file was written with these bytes, and no replacement could have its hash.
                self.left.extend(report.findings.iter().filter(|finding| finding.file == *name).cloned());
                continue;
            }
            is_damaged(is_recorded.map(|_| ()))?;
            remove(folder, name, &mut self.removed)?;
        }
        Ok(())
    }

    /// Removes foreign files whose names the format defines, such as shards of another plan; other files may belong to
    /// somebody.
    fn foreign(&mut self, folder: &Path, report: &Report) -> Result<()> {
        let plan = self.writer.plan();
        let top = [PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME].map(str::to_owned);
        let commits = (0..plan.units.len()).map(commit::name);
        let ours: BTreeSet<String> = plan.shard_names().into_iter().chain(commits).chain(top).collect();
        let is_mended = |name: &str| {
            let pin = plan.companions.iter().find(|pin| pin.name == name);
            pin.is_some_and(|pin| companions::read(folder, pin).is_ok())
        };
        let others = report.findings.iter().filter(|finding| !ours.contains(&finding.file));
        for finding in others.filter(|finding| !is_mended(&finding.file)) {
            match verify::is_shard(&finding.file) || verify::is_commit(&finding.file) {
                true => remove(folder, &finding.file, &mut self.removed)?,
                false => self.left.push(finding.clone()),
            }
        }
        Ok(())
    }
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
        if let (Some(right), true) = (right, is_damaged(companions::read(writer.folder(), pin).map(|_| ()))?) {
            remove(writer.folder(), &pin.name, removed)?;
            writer.lay_companions([*right])?;
            restored.push(pin.name.clone());
        }
    }
    Ok(())
}

/// Removes a damaged plan so that `plan` can be written; returns `false` if the plan does not exist (any more).
fn remove_other_plan(folder: &Path, plan: &Plan, removed: &mut Vec<String>) -> Result<bool> {
    let (here, id) = (Plan::read(folder), plan.id());
    if let Ok(here) = &here
        && here.id() == id
    {
        // The list of companions is not part of the id; the files themselves show which of the two lists is right.
        let are_there = |plan: &Plan| plan.companions.iter().all(|pin| companions::read(folder, pin).is_ok());
        let is_damaged = here.companions != plan.companions && are_there(plan) && !are_there(here);
        if is_damaged {
            remove(folder, PLAN_NAME, removed)?;
        }
        return Ok(!is_damaged);
    }
    let differences = match (&here, verify::made_from(folder, id)) {
        // If nothing has been written yet, a readable plan belongs to somebody.
        (Ok(here), MadeFrom::Other(_) | MadeFrom::Unknown) => here.differences(plan),
        (Err(_), MadeFrom::Other(other)) => {
            vec![format!("its manifest and shards were made from plan {other}, {id} is wanted")]
        }
        (_, MadeFrom::This) | (Err(_), MadeFrom::Unknown) => Vec::new(),
    };
    if !differences.is_empty() {
        return Err(Error::OtherPlan { path: folder.to_owned(), differences });
    }
    is_damaged(here.map(|_| ()))?;
    remove(folder, PLAN_NAME, removed)?;
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

fn remove(folder: &Path, name: &str, removed: &mut Vec<String>) -> Result<()> {
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Ok(()) => {
            info!(path = %path.display(), "damaged or foreign file removed");
            removed.push(name.to_owned());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(&path, "remove the damaged file")(e)),
    }
    Ok(())
}
