//! Checks without reading them whether a cache's input files are unchanged: their paths, lengths and times are compared
//! with a record in the cache's folder, as in git's index. Without a matching record, the files are read and hashed
//! again.

use crate::models;
use crate::recipe::Recipe;
use crate::teacher_source::VERSIONS;
use anyhow::{Context, Result};
use logitcask_cache::{FORMAT_VERSION, Plan};
use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the record in the cache's folder. It is not part of the cache's identity.
const INPUTS: &str = "_inputs.json";
/// A file that changed less than this before it was read could change again without a change of its time stamp.
const TICK: Duration = Duration::from_secs(2);

/// Name of the tokenizer file in the folder of a llama2.c model.
const LLAMA2C_TOKENIZER: &str = "tokenizer.bin";
/// Largest depth of folders. Nothing is recorded beyond the limits, since links may form a cycle.
const DEEPEST: usize = 8;
/// Largest number of files.
const MOST_FILES: usize = 100_000;

/// The state of the input files of a recipe's cache.
pub struct Inputs {
    record: Record,
    /// Time of the latest change of any file.
    newest: SystemTime,
}

/// The content of `_inputs.json`. Only hashes, so that a shared folder does not reveal its maker's paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Hash of the recipe's settings for the cache, and of the program's version.
    recipe: Fingerprint,
    /// Hash of every input file's path, length and times.
    files: Fingerprint,
    /// Id of the plan that they result in.
    plan_id: Option<Fingerprint>,
}

impl Inputs {
    /// The current state of the input files of `recipe`; `None` if one of them cannot be inspected.
    pub fn of(recipe: &Recipe) -> Option<Self> {
        let (teacher, dataset) = (recipe.teacher.as_ref()?, recipe.dataset.as_ref()?);
        let mut files = Vec::new();
        let model = match &teacher.server {
            Some(_) => teacher.tokenizer.clone()?,
            None => models::on_disk(&teacher.model)?,
        };
        files_below(&model, 0, &mut files)?;
        let beside = model.with_file_name(LLAMA2C_TOKENIZER);
        if model.is_file() && beside.exists() {
            files.push(beside);
        }
        files_below(&dataset.path, 0, &mut files)?;
        files.extend(dataset.chat.template.clone());
        files.extend(dataset.generate.as_ref().and_then(|generate| generate.path.clone()));
        let (mut stats, mut newest) = (Vec::new(), UNIX_EPOCH);
        for file in files {
            let metadata = fs::metadata(&file).ok()?;
            let changed = changed(&metadata)?;
            newest = newest.max(changed);
            // The path before links are resolved counts too, since the name of a link can name a split.
            add(&mut stats, file.as_os_str().as_encoded_bytes());
            add(&mut stats, file.canonicalize().ok()?.as_os_str().as_encoded_bytes());
            add(&mut stats, &metadata.len().to_le_bytes());
            add(&mut stats, &nanoseconds(metadata.modified().ok()?).to_le_bytes());
            add(&mut stats, &nanoseconds(changed).to_le_bytes());
        }
        let record = Record { recipe: key(recipe)?, files: Fingerprint::of(&stats), plan_id: None };
        Some(Self { record, newest })
    }

    /// Whether the record in the cache's folder says that these files result in this plan.
    pub fn match_record(&self, folder: &Path, plan: &Plan) -> bool {
        let recorded = fs::read(folder.join(INPUTS)).ok().and_then(|json| serde_json::from_slice::<Record>(&json).ok());
        recorded == Some(Record { plan_id: Some(plan.id()), ..self.record.clone() })
    }

    /// Records in the cache's folder that the files result in this plan. Records nothing if a file changed so shortly
    /// before `read_at`, when the reading of the files began, that a later change could go unnoticed.
    pub fn record(self, folder: &Path, plan: &Plan, read_at: SystemTime) -> Result<()> {
        if self.newest + TICK > read_at {
            return Ok(());
        }
        let path = folder.join(INPUTS);
        let json = serde_json::to_vec_pretty(&Record { plan_id: Some(plan.id()), ..self.record })?;
        // Not through a temporary file, which a killed run would leave behind. An incomplete record matches nothing.
        fs::write(&path, json).with_context(|| format!("{}: cannot write it", path.display()))
    }
}

/// Hash of everything except the files that affects what is read from them.
fn key(recipe: &Recipe) -> Option<Fingerprint> {
    let versions = (FORMAT_VERSION, VERSIONS, env!("CARGO_PKG_VERSION"));
    let mut cache = recipe.cache.clone();
    cache.path = None;
    let json = serde_json::to_vec(&(versions, &recipe.dataset, &recipe.teacher, cache)).ok()?;
    Some(Fingerprint::of(&json))
}

/// Every file at or below `path`, with links followed, in the order of their paths; `None` if a folder cannot be
/// listed.
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

/// Time of the last change of a file's content, name or owner. Tools that copy a file's modification time do not copy
/// it.
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

/// Appends the length of `part` and `part` itself.
fn add(stats: &mut Vec<u8>, part: &[u8]) {
    stats.extend((part.len() as u64).to_le_bytes());
    stats.extend(part);
}
