//! Verification of a cache without its teacher: finds everything that is wrong, file by file.

mod unit;

use crate::card::CARD_NAME;
use crate::commit::{self, Commit};
use crate::companions;
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::Manifest;
use crate::names::{COMMITS_DIR, DATA_DIR, MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::shard;
use crate::writer::check_tokenizer;
use logitcask_core::Fingerprint;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;
use tracing::info;

/// How much of a cache is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Plan, manifest, commits, tokenizer and companions are consistent; every shard exists with the right length and a
    /// footer that matches the plan; there are no other shards.
    Structure,
    /// In addition, the hash of every shard, the invariants of every row, and the commits' counts as computed from the
    /// rows.
    Rows,
}

/// A problem that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Path relative to the cache's folder.
    pub file: String,
    /// The unit that the file belongs to.
    pub unit: Option<usize>,
    /// The affected rows of the shard; `None` means the whole file.
    pub rows: Option<Range<u64>>,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(rows) = &self.rows {
            write!(f, ", rows {}..{}", rows.start, rows.end)?;
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
/// their total. One block of rows is in memory at a time.
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
    let is_there = |name: &str| folder.join(name).exists();
    if !is_there(PLAN_NAME) && !is_there(MANIFEST_NAME) && !names_in(folder, COMMITS_DIR).iter().any(|n| is_commit(n)) {
        return Err(Error::NotACache { path: folder.to_owned() });
    }
    let start = Instant::now();
    let mut check = Check { folder, tier, report: Report::default() };
    match check.plan() {
        Some(plan) => check.cache(&plan, on_unit),
        None => check.bytes_alone(on_unit),
    }
    let (Report { findings, units, rows, .. }, seconds) = (&check.report, start.elapsed().as_secs_f64());
    info!(folder = %folder.display(), ?tier, units, rows, findings = findings.len(), seconds, "cache verified");
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

/// Determines whether the manifest and shards in `folder` were made from the plan `id`. A single one that was is
/// sufficient: the others are damaged.
pub(crate) fn made_from(folder: &Path, id: Fingerprint) -> MadeFrom {
    let id = id.to_string();
    let manifest = json::read::<Manifest>(&folder.join(MANIFEST_NAME)).ok().map(|m| m.plan_id.to_string());
    let shards = names_in(folder, DATA_DIR).into_iter().filter(|name| is_shard(name));
    let mut other = None;
    for there in manifest.into_iter().chain(shards.filter_map(|name| shard::plan_id(&folder.join(name)))) {
        if there == id {
            return MadeFrom::This;
        }
        other = other.or(Some(there));
    }
    other.map_or(MadeFrom::Unknown, MadeFrom::Other)
}

/// Whether this relative path has the form of a shard's: `data/train-00007-of-00042.parquet`.
pub(crate) fn is_shard(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    let inner = name.strip_prefix(DATA_DIR).and_then(|name| name.strip_prefix('/')?.strip_suffix(".parquet"));
    inner.and_then(|name| name.rsplit_once("-of-")).is_some_and(|(name, of)| {
        let split = name.rsplit_once('-').filter(|(_, n)| number(n) && number(of)).map(|(split, _)| split);
        split.is_some_and(|split| !split.is_empty() && !split.contains(['/', '\\']))
    })
}

/// Whether this relative path has the form of a commit's: `_commits/00007.json`.
pub(crate) fn is_commit(name: &str) -> bool {
    let inner = name.strip_prefix(COMMITS_DIR).and_then(|name| name.strip_prefix('/')?.strip_suffix(".json"));
    inner.is_some_and(|number| number.len() == 5 && number.bytes().all(|c| c.is_ascii_digit()))
}

/// Paths, relative to `folder`, of the entries of one of its folders, sorted; empty if it does not exist.
pub(crate) fn names_in(folder: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join(name)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| format!("{name}/{}", e.file_name().to_string_lossy())).collect();
    names.sort();
    names
}

/// A verification in progress.
struct Check<'a> {
    folder: &'a Path,
    tier: Tier,
    report: Report,
}

/// The units' records in manifest and commits.
struct Records {
    manifest: Option<Manifest>,
    commits: Vec<Option<Commit>>,
    /// Whether the commits are right if the two differ and no shard decides.
    commits_win: bool,
}

impl Check<'_> {
    fn found(&mut self, file: &str, unit: Option<usize>, what: impl Into<String>) {
        self.report.findings.push(Finding { file: file.to_owned(), unit, rows: None, what: what.into() });
    }

    fn noted(&mut self, file: &str, unit: Option<usize>, what: &str) {
        self.report.notes.push(Finding { file: file.to_owned(), unit, rows: None, what: what.to_owned() });
    }

    /// The message of `error` for `file`, without repeating the file's name.
    fn what(&self, file: &str, error: &Error) -> String {
        let (text, path) = (error.to_string(), self.folder.join(file).display().to_string());
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
        let plan = match Plan::read(self.folder) {
            Ok(plan) => plan,
            Err(error) => {
                self.failed(PLAN_NAME, None, &error);
                return None;
            }
        };
        let MadeFrom::Other(other) = made_from(self.folder, plan.id()) else { return Some(plan) };
        let what = format!("its hash is {}, the cache was made from plan {other}: the plan was changed", plan.id());
        self.found(PLAN_NAME, None, what);
        None
    }

    /// Checks everything that can be checked with a valid plan.
    fn cache(&mut self, plan: &Plan, on_unit: &mut dyn FnMut(usize, usize)) {
        if let Err(error) = check_tokenizer(&self.folder.join(TOKENIZER_NAME), plan) {
            self.failed(TOKENIZER_NAME, None, &error);
        }
        for pin in &plan.companions {
            if let Err(error) = companions::read(self.folder, pin) {
                self.failed(&pin.name, None, &error);
            }
        }
        let (shards, units) = (plan.shard_names(), plan.units.len());
        let id = plan.id();
        let records = self.records((plan, id), &shards);
        let known: BTreeSet<String> = shards.iter().cloned().chain((0..units).map(commit::name)).collect();
        self.foreign(&|name| known.contains(name));
        for (unit, shard) in shards.iter().enumerate() {
            self.unit((plan, id), unit, shard, &records);
            self.report.units += 1;
            on_unit(unit + 1, units);
        }
        self.report.cache_id = records.manifest.map(|manifest| manifest.cache_id());
    }

    fn records(&mut self, (plan, id): (&Plan, Fingerprint), shards: &[String]) -> Records {
        let units = shards.len();
        let manifest = match self.folder.join(MANIFEST_NAME).exists() {
            true => Some(Manifest::read(self.folder, plan)),
            false => None,
        };
        let is_finished = matches!(manifest, Some(Ok(_)));
        let mut commits = Vec::new();
        for (unit, shard) in shards.iter().enumerate() {
            let read = Commit::read(self.folder, plan, unit, shard);
            let name = commit::name(unit);
            match &read {
                Ok(Some(_)) => {}
                // Readers only use the manifest.
                Ok(None) if is_finished => self.noted(&name, Some(unit), "missing; the manifest has what it said"),
                Ok(None) => self.found(&name, Some(unit), "missing: the unit is not committed"),
                Err(error) => self.failed(&name, Some(unit), error),
            }
            commits.push(read.ok().flatten());
        }
        let manifest = match manifest {
            Some(read) => read.map_err(|error| self.failed(MANIFEST_NAME, None, &error)).ok(),
            None => {
                let committed = commits.iter().flatten().count();
                let what = format!("missing: {committed} of {units} units are committed, run cache again to finish it");
                self.found(MANIFEST_NAME, None, what);
                None
            }
        };
        // The card states the id that the cache had when it was finished.
        let card = fs::read_to_string(self.folder.join(CARD_NAME)).unwrap_or_default();
        let by_commits = commits.iter().cloned().collect::<Option<Vec<_>>>();
        let by_commits = by_commits.map(|commits| Manifest::new(plan, id, commits).cache_id());
        let is_named = |id: Option<Fingerprint>| id.is_some_and(|id| card.contains(&id.to_string()));
        let commits_win = is_named(by_commits) && !is_named(manifest.as_ref().map(Manifest::cache_id));
        Records { manifest, commits, commits_win }
    }

    /// Reports foreign entries in the cache's folders. A file that dataset readers could mistake for a shard is a
    /// finding; other files belong to somebody and are noted; hidden files (including temporary ones) are ignored.
    fn foreign(&mut self, is_known: &dyn Fn(&str) -> bool) {
        for name in [DATA_DIR, COMMITS_DIR].into_iter().flat_map(|dir| names_in(self.folder, dir)) {
            let is_hidden = name.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
            if is_hidden || is_known(&name) {
                continue;
            }
            let what = "not of this cache: its plan has no such file";
            match name.ends_with(".parquet") || is_commit(&name) {
                true => self.found(&name, None, what),
                false => self.noted(&name, None, what),
            }
        }
        // Other files may be stored next to a cache, but dataset readers use every shard they find.
        let beside = names_in(self.folder, ".");
        for name in beside.iter().filter_map(|name| name.strip_prefix("./")).filter(|name| name.ends_with(".parquet")) {
            self.found(name, None, "not of this cache: its shards are in data/");
        }
    }

    /// Checks without a plan whether the shards have the hashes listed in the manifest, or otherwise in the commits.
    fn bytes_alone(&mut self, on_unit: &mut dyn FnMut(usize, usize)) {
        let mut records = Vec::new();
        if self.folder.join(MANIFEST_NAME).exists() {
            match json::read::<Manifest>(&self.folder.join(MANIFEST_NAME)) {
                Ok(manifest) => {
                    self.report.cache_id = Some(manifest.cache_id());
                    records = manifest.shards;
                }
                Err(error) => self.failed(MANIFEST_NAME, None, &error),
            }
        }
        let mut commits = Vec::new();
        for name in names_in(self.folder, COMMITS_DIR).iter().filter(|name| is_commit(name)) {
            match json::read::<Commit>(&self.folder.join(name)) {
                Ok(commit) => commits.push(commit),
                Err(error) => self.failed(name, None, &error),
            }
        }
        if records.is_empty() {
            records = commits;
        }
        self.foreign(&|name| is_shard(name) || is_commit(name));
        let of = records.len();
        for (done, record) in records.iter().enumerate() {
            // The name is untrusted: only files with the form of a shard's name are opened.
            if is_shard(&record.shard) {
                self.bytes(&record.shard, record.unit as usize, &[(MANIFEST_NAME.to_owned(), record)]);
            }
            self.report.units += 1;
            on_unit(done + 1, of);
        }
    }
}
