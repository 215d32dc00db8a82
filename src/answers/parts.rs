//! The answers of a run that is not finished: a folder beside their file, with one file for each batch.

use super::record::{self, Record};
use crate::paths::replace_file;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_files::LockFile;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the file that says what the answers are made from.
const RECORD: &str = "record.json";
/// Name of the file that one process at a time holds.
const LOCK: &str = "lock";

/// The folder for the unfinished answers of a file.
pub(super) fn folder(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".parts");
    file.with_file_name(name)
}

/// What the parts are made from. The number of prompts in a batch divides them into parts.
#[derive(Serialize, Deserialize)]
struct OfParts {
    #[serde(flatten)]
    answers: Record,
    batch: usize,
}

/// Refuses parts of other answers. There may be none.
pub(super) fn are_of(file: &Path, record: &Record, batch: usize) -> Result<()> {
    let path = folder(file).join(RECORD);
    if !path.exists() {
        return Ok(());
    }
    let json = fs::read(&path).with_context(|| path.display().to_string())?;
    let there: serde_json::Value = serde_json::from_slice(&json)
        .with_context(|| format!("{}: cannot be read; remove the folder", path.display()))?;
    let wanted = OfParts { answers: record.clone(), batch };
    let differences = record::differences(&there, &wanted)?;
    match differences.is_empty() {
        true => Ok(()),
        false => bail!(
            "{}: holds a part of other answers ({}). Finish them with the command that began them, remove the folder, or \
             name another file",
            folder(file).display(),
            differences.join("; ")
        ),
    }
}

/// An answer in a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// Index of the prompt.
    pub(super) prompt: usize,
    pub(super) tokens: Vec<u32>,
    pub(super) is_finished: bool,
}

/// The folder of parts, which this process holds alone.
pub(super) struct Parts {
    folder: PathBuf,
    _lock: LockFile,
}

impl Parts {
    /// Opens the folder for answers to `file`, or begins it.
    pub(super) fn open(file: &Path, record: &Record, batch: usize) -> Result<Self> {
        let folder = folder(file);
        fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
        let lock = LockFile::try_hold(&folder.join(LOCK)).with_context(|| folder.display().to_string())?;
        let lock = lock.ok_or_else(|| {
            anyhow!("{}: another process is writing these answers; wait for it, or stop it first", file.display())
        })?;
        are_of(file, record, batch)?;
        let path = folder.join(RECORD);
        if !path.exists() {
            replace_file(&path, &serde_json::to_vec_pretty(&OfParts { answers: record.clone(), batch })?)?;
        }
        Ok(Self { folder, _lock: lock })
    }

    fn part(&self, index: usize) -> PathBuf {
        self.folder.join(format!("part-{index:06}.json"))
    }

    /// The answers to these prompts, which are one batch; `None` if they are not written.
    pub(super) fn read(&self, index: usize, prompts: &[usize]) -> Result<Option<Vec<Answer>>> {
        let path = self.part(index);
        if !path.exists() {
            return Ok(None);
        }
        let json = fs::read(&path).with_context(|| path.display().to_string())?;
        let damaged =
            |problem: String| anyhow!("{}: {problem}; remove it, and its answers are written again", path.display());
        let answers: Vec<Answer> = serde_json::from_slice(&json).map_err(|e| damaged(format!("is damaged: {e}")))?;
        match answers.iter().map(|answer| &answer.prompt).eq(prompts) {
            true => Ok(Some(answers)),
            false => Err(damaged("holds the answers to other prompts".to_owned())),
        }
    }

    /// Writes the answers of one batch.
    pub(super) fn write(&self, index: usize, answers: &[Answer]) -> Result<()> {
        replace_file(&self.part(index), &serde_json::to_vec(answers)?)
    }

    /// Where the parts are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("{}: cannot remove it", self.folder.display()))
    }
}
