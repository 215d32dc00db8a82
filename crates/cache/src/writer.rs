//! Writing a cache, unit by unit, from any number of workers.

use crate::card::{self, CARD_NAME};
use crate::codec;
use crate::commit::{self, Commit, Tally};
use crate::companions::{self, Companion};
use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::json;
use crate::manifest::Manifest;
use crate::names::{COMMITS_DIR, DATA_DIR, MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::publish;
use crate::row_problem::RowProblem;
use logitcask_core::{ConfigError, Fingerprint, RowErrors, Sample, SoftRows};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// Number of attempts, and the delay before each, to find the commit of a shard that exists: two seconds in total.
const COMMIT_LOOKS: u32 = 20;
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// An unfinished cache. Any number of writers, in one process or several, may work on the same folder.
///
/// # Examples
/// Running this again after an interruption resumes with the missing units:
/// ```no_run
/// use logitcask_cache::{CacheWriter, Manifest, Plan, Result, WorkUnit};
/// use logitcask_core::{RowErrors, Sample, SoftRows};
/// use std::path::Path;
///
/// fn write(
///     plan: Plan,
///     tokenizer_json: &[u8],
///     ask_teacher: impl Fn(&WorkUnit) -> (Vec<(Sample, SoftRows)>, RowErrors),
/// ) -> Result<Manifest> {
///     let writer = CacheWriter::open(Path::new("cache"), plan, tokenizer_json)?;
///     for unit in writer.pending()? {
///         let (rows, errors) = ask_teacher(&writer.plan().units[unit]);
///         writer.write_unit(unit, &rows, &errors)?;
///     }
///     writer.finish()
/// }
/// ```
#[derive(Debug)]
pub struct CacheWriter {
    folder: PathBuf,
    plan: Plan,
    id: Fingerprint,
    /// Names of the units' shards.
    shards: Vec<String>,
}

impl CacheWriter {
    /// Begins a cache in `folder`, or resumes the existing one if its plan has the same [`Plan::id`]; names and the
    /// program's version remain those of the run that began it.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] if `folder` contains another cache, [`Error::Occupied`] if it contains something else,
    /// [`Error::BadPlan`] if [`Plan::check`] rejects the plan or `tokenizer_json` is not the tokenizer it pins.
    pub fn open(folder: &Path, plan: Plan, tokenizer_json: &[u8]) -> Result<Self> {
        plan.check()?;
        let (got, pinned) = (Fingerprint::of(tokenizer_json), plan.tokenizer.fingerprint);
        if got != pinned {
            let problem = ConfigError::new("tokenizer", pinned, format!("{got}, the hash of the tokenizer beside it"));
            return Err(Error::BadPlan { problem });
        }
        check_vacant(folder)?;
        publish::create_folder(&folder.join(COMMITS_DIR))?;
        publish::create_folder(&folder.join(DATA_DIR))?;
        let (mut plan, id) = (plan.clone(), plan.id());
        if !publish::create(&folder.join(PLAN_NAME), &json::to_bytes(&plan))? {
            let here = Plan::read(folder)?;
            if here.id() != id {
                return Err(Error::OtherPlan { path: folder.to_owned(), differences: here.differences(&plan) });
            }
            plan = here;
        }
        let tokenizer = folder.join(TOKENIZER_NAME);
        if !publish::create(&tokenizer, tokenizer_json)? {
            check_tokenizer(&tokenizer, &plan)?;
        }
        let (shards, layout) = (plan.shard_names(), plan.layout.name());
        info!(folder = %folder.display(), plan = %id.short(), layout, units = shards.len(), "cache opened for writing");
        Ok(Self { folder: folder.to_owned(), plan, id, shards })
    }

    /// Writes those of `files` that [`Plan::companions`] lists, if they are missing. The plan is that of the run that
    /// began the cache: files that have changed since are left out.
    ///
    /// # Errors
    /// [`Error::Io`] if a file or its folder cannot be created.
    pub fn lay_companions<'a>(&self, files: impl IntoIterator<Item = Companion<'a>>) -> Result<()> {
        companions::lay(&self.folder, &self.plan.companions, files)
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of a unit's shard relative to the folder.
    pub(crate) fn shard(&self, unit: usize) -> &str {
        &self.shards[unit]
    }

    /// The commit of `unit`, if there is one.
    fn recorded(&self, unit: usize) -> Result<Option<Commit>> {
        Commit::read(&self.folder, &self.plan, unit, self.shard(unit))
    }

    /// The plan of the cache.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Units without a commit or, after [`crate::repair::prepare`] removed it, without their shard; ascending.
    ///
    /// # Errors
    /// [`Error::Io`] if the file system cannot tell whether a commit or a shard exists.
    pub fn pending(&self) -> Result<Vec<usize>> {
        let mut pending = Vec::new();
        for unit in 0..self.shards.len() {
            if !self.is_committed(unit)? {
                pending.push(unit);
            }
        }
        Ok(pending)
    }

    /// Writes the rows of `unit` durably; `errors` holds their measured approximation errors. Writing a unit again is
    /// harmless: its first commit stands and is returned. If its shard was lost, the same bytes are restored.
    ///
    /// # Errors
    /// [`Error::BadRow`] names the sample and position that must not be written; [`Error::ForeignShard`] if a shard
    /// with other bytes already has the name; [`Error::Rebuilt`] if a lost shard had other bytes than these.
    ///
    /// # Panics
    /// If the plan has no such unit.
    pub fn write_unit(&self, unit: usize, rows: &[(Sample, SoftRows)], errors: &RowErrors) -> Result<Commit> {
        self.write_measured(unit, rows, error_stats::of(errors, self.plan.keep.tail))
    }

    /// [`Self::write_unit`] with errors that were measured when the rows were first written.
    pub(crate) fn write_measured(
        &self,
        unit: usize,
        rows: &[(Sample, SoftRows)],
        (log_z_error, codec_error): (Vec<LogZError>, CodecError),
    ) -> Result<Commit> {
        let tally = self.check_rows(unit, rows)?;
        let shard = self.shard(unit).to_owned();
        let path = self.folder.join(&shard);
        let recorded = self.recorded(unit)?;
        if let Some(recorded) = &recorded
            && exists(&path)?
        {
            return Ok(recorded.clone());
        }
        let start = Instant::now();
        let bytes = codec::encode(&self.plan, self.id, unit, rows)
            .map_err(|reason| Error::Parquet { path: path.clone(), reason })?;
        let blake3 = Fingerprint::of(&bytes);
        let encoded = start.elapsed();
        let range = &self.plan.units[unit];
        let commit = Commit {
            unit: unit as u32,
            split: range.split.clone(),
            start: range.start,
            end: range.end,
            shard,
            rows: tally.rows,
            positions: tally.positions,
            entries: tally.entries,
            bytes: bytes.len() as u64,
            blake3,
            kept_mass: tally.kept_mass(),
            log_z_error,
            codec_error,
        };
        if let Some(recorded) = recorded {
            return self.restore(recorded, commit, &bytes);
        }
        if !publish::create(&path, &bytes)? {
            let there = fs::read(&path).map_err(Error::io(&path, "read the shard that is already there"))?;
            let got = Fingerprint::of(&there);
            if got != blake3 {
                // Unless another worker commits its own bytes soon, no record confirms the existing shard.
                let commit = self.recorded_soon(unit)?;
                return commit.ok_or(Error::ForeignShard { path, expected: blake3, got });
            }
        }
        let path = commit::path(&self.folder, unit);
        if publish::create(&path, &json::to_bytes(&commit))? {
            let (encoding, writing) = (encoded.as_secs_f64(), (start.elapsed() - encoded).as_secs_f64());
            let Commit { shard, rows, bytes, .. } = &commit;
            debug!(unit, shard, rows, bytes, encoding, writing, "unit committed");
            return Ok(commit);
        }
        let there = self.recorded(unit)?;
        there.filter(|there| *there == commit).ok_or_else(|| Error::malformed(&path, "speaks of another shard"))
    }

    /// [`Self::recorded`], with some waiting time for a worker that has just published its shard.
    fn recorded_soon(&self, unit: usize) -> Result<Option<Commit>> {
        info!(unit, "another worker wrote other bytes for this unit; waiting for its commit");
        for _ in 0..COMMIT_LOOKS {
            if let Some(commit) = self.recorded(unit)? {
                return Ok(Some(commit));
            }
            std::thread::sleep(COMMIT_PAUSE);
        }
        self.recorded(unit)
    }

    /// Restores the lost shard described by `recorded` if these are its bytes; `made` is their commit.
    fn restore(&self, recorded: Commit, made: Commit, bytes: &[u8]) -> Result<Commit> {
        let path = self.folder.join(&recorded.shard);
        if made.blake3 != recorded.blake3 {
            return Err(Error::Rebuilt { path, expected: recorded.blake3, got: made.blake3 });
        }
        // Approximation errors cannot be computed from the bytes; the record has them from when the rows were first
        // written.
        let made = Commit { log_z_error: recorded.log_z_error.clone(), codec_error: recorded.codec_error, ..made };
        if made != recorded {
            let path = commit::path(&self.folder, recorded.unit as usize);
            return Err(Error::malformed(&path, "counts other rows than its shard has: run repair"));
        }
        // If another worker was faster, it restored the same bytes.
        publish::create(&path, bytes)?;
        info!(path = %path.display(), "lost shard put back");
        Ok(recorded)
    }

    /// Rejects rows that a reader would reject, or that do not belong to `unit`; counts the others.
    fn check_rows(&self, unit: usize, rows: &[(Sample, SoftRows)]) -> Result<Tally> {
        let range = &self.plan.units[unit];
        let bad = |sample, problem| Error::BadRow { split: range.split.clone(), sample, problem };
        let expected = range.end - range.start;
        if rows.len() as u64 != expected {
            let problem = RowProblem::SampleCount { unit, got: rows.len(), expected };
            return Err(bad(range.start, problem));
        }
        let mut tally = Tally::default();
        for (id, (sample, soft)) in (range.start..range.end).zip(rows) {
            if sample.id.0 != id {
                return Err(bad(id, RowProblem::GivenSample { got: sample.id.0 }));
            }
            codec::check_row(&self.plan, sample, soft).map_err(|problem| bad(id, problem))?;
            tally.add(soft);
        }
        Ok(tally)
    }

    /// Completes the cache: writes its manifest and removes temporary files of killed runs.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if a unit has no commit; [`Error::Io`] or [`Error::Size`] if a committed shard is missing
    /// or has another length; [`Error::Malformed`] if a commit, or an existing manifest, is not the one that the plan
    /// determines.
    pub fn finish(&self) -> Result<Manifest> {
        let commits = (0..self.plan.units.len()).map(|unit| self.recorded(unit));
        let commits: Vec<Commit> = commits.filter_map(Result::transpose).collect::<Result<_>>()?;
        let (committed, units) = (commits.len(), self.plan.units.len());
        if committed < units {
            return Err(Error::Unfinished { path: self.folder.clone(), committed, units });
        }
        for commit in &commits {
            let path = self.folder.join(&commit.shard);
            let got = fs::metadata(&path).map_err(Error::io(&path, "find the committed shard"))?.len();
            if got != commit.bytes {
                return Err(Error::Size { path, expected: commit.bytes, got });
            }
        }
        // Every name in these two folders is taken: remaining writers only write duplicates. This comes before the
        // manifest, because nobody resumes a complete cache.
        for folder in [DATA_DIR, COMMITS_DIR] {
            publish::remove_leftovers(&self.folder.join(folder))?;
        }
        let manifest = Manifest::new(&self.plan, self.id, commits);
        // Before the manifest, so that every complete cache has a card; an existing card with edits is kept.
        publish::create(&self.folder.join(CARD_NAME), card::text(&self.plan, &manifest).as_bytes())?;
        let path = self.folder.join(MANIFEST_NAME);
        if !publish::create(&path, &json::to_bytes(&manifest))? && Manifest::read(&self.folder, &self.plan)? != manifest
        {
            return Err(Error::malformed(&path, "not what the plan and commits beside it make"));
        }
        publish::remove_leftovers(&self.folder)?;
        info!(folder = %self.folder.display(), cache_id = %manifest.cache_id().short(), units, "cache complete");
        Ok(manifest)
    }
}

pub(crate) fn exists(shard: &Path) -> Result<bool> {
    shard.try_exists().map_err(Error::io(shard, "look for the shard"))
}

/// Checks that a new cache's folder is empty: existing files may be a corpus or a model, whose readers would be
/// confused by the cache's files. Hidden files are ignored.
fn check_vacant(folder: &Path) -> Result<()> {
    // The folder of commits comes first: a folder that has it is a cache, even if its plan was lost.
    let is_a_cache = || [PLAN_NAME, COMMITS_DIR].iter().any(|name| folder.join(name).exists());
    if is_a_cache() {
        return Ok(());
    }
    if folder.symlink_metadata().is_ok() && !folder.is_dir() {
        let reason = io::Error::new(io::ErrorKind::NotADirectory, "something else than a folder has this name");
        return Err(Error::io(folder, "begin a cache here")(reason));
    }
    // A missing folder is created later, and a folder that cannot be listed cannot be written either.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(Error::io(folder, "list the folder"))?;
        let found = entry.file_name().to_string_lossy().into_owned();
        // Another worker may have begun the cache in the meantime.
        if !found.starts_with('.') && !is_a_cache() {
            return Err(Error::Occupied { path: folder.to_owned(), found });
        }
    }
    Ok(())
}

/// Checks that the tokenizer in the cache is the one that the plan pins.
pub(crate) fn check_tokenizer(path: &Path, plan: &Plan) -> Result<()> {
    json::read_pinned(path, plan.tokenizer.fingerprint).map(|_| ())
}
