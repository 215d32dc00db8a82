//! What was written of a file that is not finished: a folder beside it, with one file for each batch of texts.

use crate::paths::replace_file;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_files::LockFile;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the file that says what the texts are made from.
const RECORD: &str = "record.json";
/// Name of the file that one process at a time holds.
const LOCK: &str = "lock";

/// The folder for the parts of a file.
pub fn folder(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".parts");
    file.with_file_name(name)
}

/// What the parts are made from. The number of texts in a batch divides them into parts.
#[derive(Serialize)]
struct OfParts<'a, R> {
    #[serde(flatten)]
    record: &'a R,
    batch: usize,
}

/// Refuses parts that were made from something else than `record`. There may be none.
pub fn are_of(file: &Path, record: &impl Serialize, batch: usize) -> Result<()> {
    let path = folder(file).join(RECORD);
    if !path.exists() {
        return Ok(());
    }
    let json = fs::read(&path).with_context(|| path.display().to_string())?;
    let there: Value = serde_json::from_slice(&json)
        .with_context(|| format!("{}: cannot be read; remove the folder", path.display()))?;
    let differences = differences(&there, &OfParts { record, batch })?;
    match differences.is_empty() {
        true => Ok(()),
        false => bail!(
            "{}: holds a part of other texts ({}). Finish them with the command that began them, remove the folder, or \
             name another file",
            folder(file).display(),
            differences.join("; ")
        ),
    }
}

/// One part of a sentence for each field in which two records differ.
pub fn differences(there: &impl Serialize, wanted: &impl Serialize) -> Result<Vec<String>> {
    let (there, wanted) = (serde_json::to_value(there)?, serde_json::to_value(wanted)?);
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (there, wanted) = (fields(&there), fields(&wanted));
    let names: BTreeSet<&String> = there.keys().chain(wanted.keys()).collect();
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        // A hash.
        Some(Value::String(text)) if text.len() == 64 => text.chars().take(8).collect(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let differ = names.into_iter().filter(|name| there.get(*name) != wanted.get(*name));
    Ok(differ
        .map(|name| format!("{name}: {} there, {} wanted", shown(there.get(name)), shown(wanted.get(name))))
        .collect())
}

/// A text in a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenText {
    /// Which of the file's texts it is.
    pub index: usize,
    /// What the model wrote.
    pub tokens: Vec<u32>,
    /// Did it end with an end token?
    pub is_finished: bool,
}

/// The folder of parts, which this process holds alone.
pub struct Parts {
    folder: PathBuf,
    _lock: LockFile,
}

impl Parts {
    /// Opens the folder for the parts of `file`, or begins it.
    pub fn open(file: &Path, record: &impl Serialize, batch: usize) -> Result<Self> {
        let folder = folder(file);
        fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
        let lock = LockFile::try_hold(&folder.join(LOCK)).with_context(|| folder.display().to_string())?;
        let lock = lock.ok_or_else(|| {
            anyhow!("{}: another process is writing it; wait for that process, or stop it first", file.display())
        })?;
        are_of(file, record, batch)?;
        let path = folder.join(RECORD);
        if !path.exists() {
            replace_file(&path, &serde_json::to_vec_pretty(&OfParts { record, batch })?)?;
        }
        Ok(Self { folder, _lock: lock })
    }

    fn part(&self, index: usize) -> PathBuf {
        self.folder.join(format!("part-{index:06}.json"))
    }

    /// The texts of a batch, which are these of the file; `None` if they are not written.
    pub fn read(&self, index: usize, texts: impl Iterator<Item = usize>) -> Result<Option<Vec<WrittenText>>> {
        let path = self.part(index);
        if !path.exists() {
            return Ok(None);
        }
        let json = fs::read(&path).with_context(|| path.display().to_string())?;
        let damaged =
            |problem: String| anyhow!("{}: {problem}; remove it, and its texts are written again", path.display());
        let written: Vec<WrittenText> =
            serde_json::from_slice(&json).map_err(|e| damaged(format!("is damaged: {e}")))?;
        match written.iter().map(|text| text.index).eq(texts) {
            true => Ok(Some(written)),
            false => Err(damaged("holds the texts of another part".to_owned())),
        }
    }

    /// Writes the texts of one batch.
    pub fn write(&self, index: usize, texts: &[WrittenText]) -> Result<()> {
        replace_file(&self.part(index), &serde_json::to_vec(texts)?)
    }

    /// The error of a run that was stopped before all parts were written.
    pub fn stopped(&self) -> anyhow::Error {
        let folder = self.folder.display();
        anyhow!("stopped; the batches that are finished are in {folder}, and the same command goes on with the others")
    }

    /// Where the parts are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("{}: cannot remove it", self.folder.display()))
    }
}
