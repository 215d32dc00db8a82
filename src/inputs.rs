//! Whether a cache's inputs are still the files it was made from, told without reading them: as git's index does, by path,
//! length and times. A record lies in the cache's folder; where it says nothing, the files are read and hashed again.

use crate::experiment::VERSIONS;
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use logitcask_cache::{FORMAT_VERSION, Plan};
use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The record's name in the cache's folder. It is no part of the cache.
const INPUTS: &str = "_inputs.json";
/// A file changed within this time of the record could change again within the same tick of a file system's clock.
const TICK: Duration = Duration::from_secs(2);

/// Beside a llama2.c model.
const LLAMA2C_TOKENIZER: &str = "tokenizer.bin";
/// Folders within folders, and files, beyond which nothing is recorded: links may lead in a circle.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 100_000;

/// The inputs of a recipe's cache as they lie on disk.
pub struct Inputs {
    record: Record,
    /// When the newest of the files was changed.
    newest: SystemTime,
}

/// What `_inputs.json` holds; hashes, since a shared folder need not tell how its maker's are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Of what the recipe says of the cache, and of the program that read it.
    recipe: Fingerprint,
    /// Of every input file's path, length and times.
    files: Fingerprint,
    /// The plan that they give.
    plan_id: Option<Fingerprint>,
}

impl Inputs {
    /// Of `recipe`; `None` where some cannot be looked at.
    pub fn of(recipe: &Recipe) -> Option<Self> {
        let teacher = recipe.teacher.as_ref()?;
        let mut files = Vec::new();
        files_below(&teacher.model, 0, &mut files)?;
        if teacher.model.is_file() {
            files.push(teacher.model.with_file_name(LLAMA2C_TOKENIZER));
        }
        files_below(&recipe.dataset.path, 0, &mut files)?;
        let (mut stats, mut newest) = (Vec::new(), UNIX_EPOCH);
        for file in files {
            let metadata = fs::metadata(&file).ok()?;
            let changed = changed(&metadata)?;
            newest = newest.max(changed);
            // By its name too: that of a link may tell a split.
            add(&mut stats, file.as_os_str().as_encoded_bytes());
            add(&mut stats, file.canonicalize().ok()?.as_os_str().as_encoded_bytes());
            add(&mut stats, &metadata.len().to_le_bytes());
            add(&mut stats, &nanoseconds(metadata.modified().ok()?).to_le_bytes());
            add(&mut stats, &nanoseconds(changed).to_le_bytes());
        }
        let record = Record { recipe: key(recipe)?, files: Fingerprint::of(&stats), plan_id: None };
        Some(Self { record, newest })
    }

    /// Did the same files, read in the same way, give this plan when they were last read?
    pub fn gave(&self, folder: &Path, plan: &Plan) -> bool {
        let there = fs::read(folder.join(INPUTS)).ok().and_then(|json| serde_json::from_slice::<Record>(&json).ok());
        there == Some(Record { plan_id: Some(plan.id()), ..self.record.clone() })
    }

    /// Records in the cache's folder that they give this plan, if that will still be true when somebody looks. `read_at` is
    /// when their reading began.
    pub fn record(self, folder: &Path, plan: &Plan, read_at: SystemTime) -> Result<()> {
        if self.newest + TICK > read_at {
            return Ok(());
        }
        let path = folder.join(INPUTS);
        let json = serde_json::to_vec_pretty(&Record { plan_id: Some(plan.id()), ..self.record })?;
        // Without a temporary file, which a killed run would leave in the cache for good: half a record is none.
        fs::write(&path, json).with_context(|| format!("{}: cannot write it", path.display()))
    }
}

/// Hash of everything beside the files that decides what is read from them.
fn key(recipe: &Recipe) -> Option<Fingerprint> {
    let versions = (FORMAT_VERSION, VERSIONS, env!("CARGO_PKG_VERSION"));
    let mut cache = recipe.cache.clone();
    cache.path = None;
    let json = serde_json::to_vec(&(versions, &recipe.dataset, &recipe.teacher, cache)).ok()?;
    Some(Fingerprint::of(&json))
}

/// Every file at or below `path`, links followed, in the order of their paths; `None` where one cannot be listed.
fn files_below(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Option<()> {
    if depth > DEEPEST || files.len() > MOST_FILES {
        return None;
    }

    if !path.is_dir() {
        files.push(path.to_owned());
        return Some(());
    }
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).ok()? {
        entries.push(entry.ok()?.path());
    }
    entries.sort();
    entries.iter().try_for_each(|entry| files_below(entry, depth + 1, files))
}

/// When content, name or owner of a file last changed: copies that keep a file's age do not keep this.
#[cfg(unix)]
fn changed(metadata: &fs::Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let since = Duration::new(u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
    Some(UNIX_EPOCH + since)
}

#[cfg(not(unix))]
fn changed(metadata: &fs::Metadata) -> Option<SystemTime> {
    metadata.modified().ok()
}

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Adds a part behind its length.
fn add(stats: &mut Vec<u8>, part: &[u8]) {
    stats.extend((part.len() as u64).to_le_bytes());
    stats.extend(part);
}
