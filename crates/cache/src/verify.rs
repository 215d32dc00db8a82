//! Verification of a cache without its teacher: finds everything that is wrong, file by file.

mod records;
mod unit;

use crate::commit::{self, Commit};
use crate::companions;
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::{self, Manifest};
use crate::names::{self, COMMITS_DIR, DATA_DIR, MANIFEST_NAME, PARTS_DIR, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::storage::Storage;
use crate::store::{LocalStore, Store, exists};
use crate::writer::check_tokenizer;
use crate::{ranges, schema};
use logitcask_core::Fingerprint;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tracing::info;

/// How much of a cache is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Plan, manifest, commits, tokenizer and companions are consistent; every shard exists with the right length and a
    /// footer that has its hash and matches the plan; there are no other shards.
    Structure,
    /// In addition, the hash of every row group, the invariants of every row, and the commits' counts as computed from
    /// the rows.
    Rows,
}

/// A problem that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Path relative to the cache's folder.
    pub file: String,
    /// The unit that the file belongs to.
    pub unit: Option<usize>,
    /// The affected rows of the shard, counted from 0; `None` means the whole file.
    pub rows: Option<Range<u64>>,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(rows) = &self.rows {
            match rows.end - rows.start {
                1 => write!(f, ", row {}", rows.start)?,
                _ => write!(f, ", rows {} to {}", rows.start, rows.end - 1)?,
            }
        }
        // Newlines in a decoder's message are replaced, so that a finding is a single line.
        write!(f, ": {}", self.what.replace('\n', " "))
    }
}

/// The result of [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Problems, first those of the whole folder, then in the order of the plan's units; empty for an intact cache.
    pub findings: Vec<Finding>,
    /// Oddities that do not affect readers: missing commits that a resumed run would need, and foreign files.
    pub notes: Vec<Finding>,
    /// Number of units that were checked.
    pub units: usize,
    /// Number of rows that were decoded and are valid.
    pub rows: u64,
    /// The cache's id, if its manifest can be read.
    pub cache_id: Option<Fingerprint>,
}

impl Report {
    /// Whether there are no findings.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// The files with findings.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.findings.iter().map(|finding| finding.file.as_str()).collect()
    }
}

/// Checks all of the cache in `folder` and continues after a finding; `on_unit` receives the number of units done and
/// their total. The bytes of one shard and the commits of one part are in memory at a time.
///
/// # Errors
/// [`Error::NotACache`] if there is neither plan nor manifest nor commit. All other problems are findings.
///
/// # Examples
/// ```no_run
/// use logitcask_cache::{Tier, verify};
/// use std::path::Path;
///
/// let report = verify(Path::new("data/caches/demo"), Tier::Structure, &mut |done, of| println!("{done} of {of}"))?;
/// for finding in &report.findings {
///     println!("{finding}");
/// }
/// # Ok::<(), logitcask_cache::Error>(())
/// ```
pub fn verify(folder: &Path, tier: Tier, on_unit: &mut dyn FnMut(usize, usize)) -> Result<Report> {
    verify_in(Arc::new(LocalStore::new(folder, Storage::READ)), tier, on_unit)
}

/// [`verify`] of a cache in any store.
///
/// # Errors
/// The same as [`verify`].
pub fn verify_in(store: Arc<dyn Store>, tier: Tier, on_unit: &mut dyn FnMut(usize, usize)) -> Result<Report> {
    let is_there = |name: &str| exists(store.as_ref(), name).unwrap_or(true);
    let has_commit = || names_in(store.as_ref(), COMMITS_DIR, &|name| commit::number(name).is_some());
    if !is_there(PLAN_NAME) && !is_there(MANIFEST_NAME) && has_commit().is_empty() {
        return Err(Error::NotACache { path: store.location().to_owned() });
    }
    let start = Instant::now();
    let mut check = Check { store, tier, report: Report::default() };
    match check.plan() {
        Some(plan) => check.cache(&plan, on_unit),
        None => check.bytes_alone(on_unit),
    }
    let (Report { findings, units, rows, .. }, seconds) = (&check.report, start.elapsed().as_secs_f64());
    let (folder, findings) = (check.store.location().display(), findings.len());
    info!(folder = %folder, ?tier, units, rows, findings, seconds, "cache verified");
    Ok(check.report)
}

/// The plan from which the manifest and shards of a folder were made.
pub(crate) enum MadeFrom {
    /// The given plan.
    This,
    /// Another plan, with this id.
    Other(String),
    /// No manifest or shard can be read.
    Unknown,
}

/// Determines whether the manifest and shards in a store were made from the plan `id`. A single one that was is
/// sufficient: the others are damaged.
pub(crate) fn made_from(store: &dyn Store, id: Fingerprint) -> MadeFrom {
    let (id, mut other) = (id.to_string(), None);
    let manifest = json::read::<Manifest>(store, MANIFEST_NAME).ok().map(|manifest| manifest.plan_id.to_string());
    let key = format!("{}{}", schema::PREFIX, schema::PLAN_ID);
    let of_shard = |name: String| ranges::footer_constant(store, &name, &key);
    // The shards are looked at one by one, and only if the manifest does not tell.
    if manifest.as_ref() == Some(&id) {
        return MadeFrom::This;
    }
    let shards = names_in(store, DATA_DIR, &is_shard);
    for there in manifest.into_iter().chain(shards.into_iter().filter_map(of_shard)) {
        if there == id {
            return MadeFrom::This;
        }
        other = other.or(Some(there));
    }
    other.map_or(MadeFrom::Unknown, MadeFrom::Other)
}

/// Whether this relative path has the form of a shard's: `data/train-00007-of-00042.parquet`.
pub(crate) fn is_shard(name: &str) -> bool {
    names::shard_parts(name).is_some()
}

/// Whether this relative path has the form of a shard's, a commit's or that of a part of the manifest.
pub(crate) fn is_ours(name: &str) -> bool {
    is_shard(name) || commit::number(name).is_some() || manifest::part_number(name).is_some()
}

/// Paths of those entries of one of the cache's folders that are wanted, sorted; empty if it cannot be listed.
pub(crate) fn names_in(store: &dyn Store, folder: &str, is_wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &str| {
        let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if is_wanted(&name) {
            names.push(name);
        }
    };
    let _ = store.list(folder, &mut add);
    names.sort();
    names
}

/// A verification in progress.
struct Check {
    store: Arc<dyn Store>,
    tier: Tier,
    report: Report,
}

impl Check {
    fn found(&mut self, file: &str, unit: Option<usize>, what: impl Into<String>) {
        self.report.findings.push(Finding { file: file.to_owned(), unit, rows: None, what: what.into() });
    }

    fn noted(&mut self, file: &str, unit: Option<usize>, what: &str) {
        self.report.notes.push(Finding { file: file.to_owned(), unit, rows: None, what: what.to_owned() });
    }

    /// The message of `error` for `file`, without repeating the file's name.
    fn what(&self, file: &str, error: &Error) -> String {
        let (text, path) = (error.to_string(), self.store.path(file).display().to_string());
        text.strip_prefix(&path).map_or(text.clone(), |rest| rest.trim_start_matches([':', ',', ' ']).to_owned())
    }

    fn failed(&mut self, file: &str, unit: Option<usize>, error: &Error) {
        let what = match error {
            Error::Io { reason, .. } if reason.kind() == io::ErrorKind::NotFound => "missing".to_owned(),
            error => self.what(file, error),
        };
        self.found(file, unit, what);
    }

    /// Reads the plan, if it is valid and the other files were made from it.
    fn plan(&mut self) -> Option<Plan> {
        let plan = match Plan::read_from(self.store.as_ref()) {
            Ok(plan) => plan,
            Err(error) => {
                self.failed(PLAN_NAME, None, &error);
                return None;
            }
        };
        let MadeFrom::Other(other) = made_from(self.store.as_ref(), plan.id()) else { return Some(plan) };
        let what = format!("its hash is {}, the cache was made from plan {other}: the plan was changed", plan.id());
        self.found(PLAN_NAME, None, what);
        None
    }

    /// Checks everything that can be checked with a valid plan.
    fn cache(&mut self, plan: &Plan, on_unit: &mut dyn FnMut(usize, usize)) {
        if let Err(error) = check_tokenizer(self.store.as_ref(), plan) {
            self.failed(TOKENIZER_NAME, None, &error);
        }
        for pin in &plan.companions {
            if let Err(error) = companions::read(self.store.as_ref(), pin) {
                self.failed(&pin.name, None, &error);
            }
        }
        let (units, id) = (plan.unit_count(), plan.id());
        let records = self.records((plan, id));
        self.foreign(&|name| plan.names(name));
        for part in 0..plan.part_count() {
            let told = self.told(plan, part, &records);
            for (unit, told) in plan.units_of_part(part).zip(told) {
                self.unit((plan, id), unit, &told);
                self.report.units += 1;
                on_unit(unit + 1, units);
            }
        }
        self.report.cache_id = records.manifest.map(|manifest| manifest.cache_id());
    }

    /// Reports foreign entries in the cache's folders. A file that dataset readers could mistake for a shard is a
    /// finding; other files belong to somebody and are noted; hidden files (including temporary ones) are ignored.
    fn foreign(&mut self, is_known: &dyn Fn(&str) -> bool) {
        let is_foreign = |name: &str| {
            let is_hidden = name.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
            !is_hidden && !is_known(name)
        };
        let (store, folders) = (self.store.clone(), [DATA_DIR, COMMITS_DIR, PARTS_DIR]);
        for name in folders.into_iter().flat_map(|folder| names_in(store.as_ref(), folder, &is_foreign)) {
            let what = "not of this cache: its plan has no such file";
            match name.ends_with(".parquet") || is_ours(&name) {
                true => self.found(&name, None, what),
                false => self.noted(&name, None, what),
            }
        }
        // Other files may be stored next to a cache, but dataset readers use every shard they find.
        for name in names_in(store.as_ref(), "", &|name| name.ends_with(".parquet")) {
            self.found(&name, None, "not of this cache: its shards are in data/");
        }
    }

    /// Checks without a plan whether the shards have the hashes listed in the manifest, or otherwise in the commits.
    fn bytes_alone(&mut self, on_unit: &mut dyn FnMut(usize, usize)) {
        let store = self.store.clone();
        let root = match exists(store.as_ref(), MANIFEST_NAME) {
            Ok(false) => None,
            _ => match json::read::<Manifest>(store.as_ref(), MANIFEST_NAME) {
                Ok(manifest) => Some(manifest),
                Err(error) => {
                    self.failed(MANIFEST_NAME, None, &error);
                    None
                }
            },
        };
        self.report.cache_id = root.as_ref().map(Manifest::cache_id);
        let commits = names_in(store.as_ref(), COMMITS_DIR, &|name| commit::number(name).is_some());
        let parts: Vec<String> = root.iter().flat_map(|root| (0..root.parts.len()).map(manifest::part_name)).collect();
        let from_parts = !parts.is_empty();
        self.foreign(&is_ours);
        let (files, mut done) = (if from_parts { parts } else { commits }, 0);
        for (number, file) in files.iter().enumerate() {
            let read = match &root {
                Some(root) if from_parts => json::read::<Vec<Commit>>(store.as_ref(), file).and_then(|commits| {
                    let (expected, got) = (root.parts[number].blake3, json::hash(&commits));
                    let differs = || Error::Checksum { path: store.path(file), expected, got };
                    if got == expected { Ok(commits) } else { Err(differs()) }
                }),
                _ => json::read::<Commit>(store.as_ref(), file).map(|commit| vec![commit]),
            };
            let records = read.map_err(|error| self.failed(file, None, &error)).unwrap_or_default();
            let of = if from_parts { done + records.len() } else { files.len() };
            for record in &records {
                // The name is untrusted: only files with the form of a shard's name are opened.
                if is_shard(&record.shard) {
                    self.bytes(&record.shard, record.unit as usize, None, &[(file.clone(), record)]);
                }
                done += 1;
                self.report.units += 1;
                on_unit(done, of);
            }
        }
    }
}
