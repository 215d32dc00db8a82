//! Writing a cache, unit by unit, from any number of workers.

mod finish;

use crate::codec;
use crate::commit::{self, Commit, Tally};
use crate::companions::{self, Companion};
use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::json;
use crate::names::{COMMITS_DIR, DATA_DIR, PARTS_DIR, PLAN_NAME, TOKENIZER_NAME};
use crate::plan::Plan;
use crate::ranges;
use crate::row_problem::RowProblem;
use crate::shard_part::ShardPart;
use crate::storage::Storage;
use crate::store::{LocalStore, Store, exists};
use bytes::Bytes;
use logitcask_core::{ConfigError, Fingerprint, RowErrors, Sample, SoftRows};
use std::path::Path;
use std::sync::Arc;
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
///     ask_teacher: impl Fn(WorkUnit<'_>) -> (Vec<(Sample, SoftRows)>, RowErrors),
/// ) -> Result<Manifest> {
///     let writer = CacheWriter::open(Path::new("cache"), plan, tokenizer_json)?;
///     for unit in writer.pending()? {
///         let (rows, errors) = ask_teacher(writer.plan().unit(unit));
///         writer.write_unit(unit, &rows, &errors)?;
///     }
///     writer.finish()
/// }
/// ```
#[derive(Debug)]
pub struct CacheWriter {
    store: Arc<dyn Store>,
    plan: Plan,
    id: Fingerprint,
}

impl CacheWriter {
    /// Begins a cache in `folder`, or resumes the existing one if its plan has the same [`Plan::id`]; names and the
    /// program's version remain those of the run that began it.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] if `folder` contains another cache, [`Error::Occupied`] if it contains something else,
    /// [`Error::BadPlan`] if [`Plan::check`] rejects the plan or `tokenizer_json` is not the tokenizer it pins.
    pub fn open(folder: &Path, plan: Plan, tokenizer_json: &[u8]) -> Result<Self> {
        Self::open_in(Arc::new(LocalStore::new(folder, Storage::READ)), plan, tokenizer_json)
    }

    /// [`Self::open`] in any store.
    ///
    /// # Errors
    /// The same as [`Self::open`].
    pub fn open_in(store: Arc<dyn Store>, plan: Plan, tokenizer_json: &[u8]) -> Result<Self> {
        plan.check()?;
        let (got, pinned) = (Fingerprint::of(tokenizer_json), plan.tokenizer.fingerprint);
        if got != pinned {
            let problem = ConfigError::new("tokenizer", pinned, format!("{got}, the hash of the tokenizer beside it"));
            return Err(Error::BadPlan { problem });
        }
        check_vacant(store.as_ref())?;
        store.create_folders(&[COMMITS_DIR, PARTS_DIR, DATA_DIR])?;
        let (mut plan, id) = (plan.clone(), plan.id());
        if !store.create(PLAN_NAME, &json::to_bytes(&plan))? {
            let here = Plan::read_from(store.as_ref())?;
            if here.id() != id {
                let path = store.location().to_owned();
                return Err(Error::OtherPlan { path, differences: here.differences(&plan) });
            }
            plan = here;
        }
        if !store.create(TOKENIZER_NAME, tokenizer_json)? {
            check_tokenizer(store.as_ref(), &plan)?;
        }
        let (folder, units, layout) = (store.location().display(), plan.unit_count(), plan.layout.name());
        info!(folder = %folder, plan = %id.short(), layout, units, "cache opened for writing");
        Ok(Self { store, plan, id })
    }

    /// Writes those of `files` that [`Plan::companions`] lists, if they are missing. The plan is that of the run that
    /// began the cache: files that have changed since are left out.
    ///
    /// # Errors
    /// [`Error::Io`] if a file or its folder cannot be created.
    pub fn lay_companions<'a>(&self, files: impl IntoIterator<Item = Companion<'a>>) -> Result<()> {
        companions::lay(self.store(), &self.plan.companions, files)
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        self.store.location()
    }

    /// Where the cache is kept.
    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The commit of `unit`, if there is one.
    fn recorded(&self, unit: usize) -> Result<Option<Commit>> {
        Commit::read(self.store(), &self.plan, unit)
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
        for unit in 0..self.plan.unit_count() {
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
        let shard = self.plan.shard_name(unit);
        let path = self.store.path(&shard);
        let recorded = self.recorded(unit)?;
        if let Some(recorded) = &recorded
            && exists(self.store(), &shard)?
        {
            return Ok(recorded.clone());
        }
        let start = Instant::now();
        let parquet = |reason| Error::Parquet { path: path.clone(), reason };
        let bytes = Bytes::from(codec::encode(&self.plan, self.id, unit, rows).map_err(parquet)?);
        let ranges = ranges::of(&bytes).map_err(parquet)?;
        let encoded = start.elapsed();
        let range = self.plan.unit(unit);
        let commit = Commit {
            unit: unit as u32,
            split: range.split.to_owned(),
            start: range.start,
            end: range.end,
            shard,
            rows: tally.rows,
            positions: tally.positions,
            entries: tally.entries,
            bytes: bytes.len() as u64,
            ranges,
            kept_mass: tally.kept_mass(),
            log_z_error,
            codec_error,
        };
        if let Some(recorded) = recorded {
            return self.restore(recorded, commit, &bytes);
        }
        if !self.store.create(&commit.shard, &bytes)? {
            let there = self.store.get(&commit.shard, u64::MAX)?;
            if there != bytes {
                // Unless another worker commits its own bytes soon, no record confirms the existing shard.
                let commit = self.recorded_soon(unit)?;
                let (expected, got) = (Fingerprint::of(&bytes), Fingerprint::of(&there));
                return commit.ok_or(Error::ForeignShard { path, expected, got });
            }
        }
        let name = commit::name(unit);
        if self.store.create(&name, &json::to_bytes(&commit))? {
            let (encoding, writing) = (encoded.as_secs_f64(), (start.elapsed() - encoded).as_secs_f64());
            let Commit { shard, rows, bytes, .. } = &commit;
            debug!(unit, shard, rows, bytes, encoding, writing, "unit committed");
            return Ok(commit);
        }
        let there = self.recorded(unit)?.filter(|there| *there == commit);
        there.ok_or_else(|| Error::malformed(&self.store.path(&name), "speaks of another shard"))
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
        let path = self.store.path(&recorded.shard);
        let differs = made.ranges.iter().zip(&recorded.ranges).position(|(made, recorded)| made != recorded);
        if let Some(number) = differs {
            let (expected, got) = (recorded.ranges[number].blake3, made.ranges[number].blake3);
            let part = Box::new(ShardPart::of(number, recorded.ranges.len()));
            return Err(Error::Rebuilt { path, part, expected, got });
        }
        // Approximation errors cannot be computed from the bytes; the record has them from when the rows were first
        // written.
        let made = Commit { log_z_error: recorded.log_z_error.clone(), codec_error: recorded.codec_error, ..made };
        if made != recorded {
            let path = self.store.path(&commit::name(recorded.unit as usize));
            return Err(Error::malformed(&path, "counts other rows than its shard has: run repair"));
        }
        // If another worker was faster, it restored the same bytes.
        self.store.create(&recorded.shard, bytes)?;
        info!(path = %path.display(), "lost shard put back");
        Ok(recorded)
    }

    /// Rejects rows that a reader would reject, or that do not belong to `unit`; counts the others.
    fn check_rows(&self, unit: usize, rows: &[(Sample, SoftRows)]) -> Result<Tally> {
        let range = self.plan.unit(unit);
        let bad = |sample, problem| Error::BadRow { split: range.split.to_owned(), sample, problem };
        let expected = range.samples();
        if rows.len() as u64 != expected {
            let problem = RowProblem::SampleCount { unit, got: rows.len(), expected };
            return Err(bad(range.start, problem));
        }
        let mut tally = Tally::default();
        for (id, (sample, soft)) in range.ids().zip(rows) {
            if sample.id.0 != id {
                return Err(bad(id, RowProblem::GivenSample { got: sample.id.0 }));
            }
            codec::check_row(&self.plan, &self.plan.extras, sample, soft).map_err(|problem| bad(id, problem))?;
            tally.add(soft);
        }
        Ok(tally)
    }
}

/// Checks that a new cache's folder is empty: existing files may be a corpus or a model, whose readers would be
/// confused by the cache's files. Hidden files are ignored.
fn check_vacant(store: &dyn Store) -> Result<()> {
    let (mut found, mut is_a_cache) = (None, false);
    let mut look = |name: &str| {
        // The folder of commits counts too: a folder that has it is a cache, even if its plan was lost.
        is_a_cache |= [PLAN_NAME, COMMITS_DIR].contains(&name);
        if !name.starts_with('.') {
            found = Some(name.to_owned());
        }
    };
    let listed = store.list("", &mut look);
    // A folder that cannot be listed cannot be written either.
    let Some(found) = found.filter(|_| listed.is_ok() && !is_a_cache) else { return Ok(()) };
    // Another worker may have begun the cache in the meantime.
    if exists(store, PLAN_NAME)? {
        return Ok(());
    }
    Err(Error::Occupied { path: store.location().to_owned(), found })
}

/// Checks that the tokenizer in the cache is the one that the plan pins.
pub(crate) fn check_tokenizer(store: &dyn Store, plan: &Plan) -> Result<()> {
    json::read_pinned(store, TOKENIZER_NAME, plan.tokenizer.fingerprint).map(|_| ())
}
