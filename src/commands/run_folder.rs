//! The folder of a training run: which run it belongs to, and a lock against a second one.
//!
//! A run is identified by content alone: the hash of its data, and the parts of the recipe that affect the training.
//! Names and paths do not count, so that a run resumes after its cache was moved.

use crate::paths::{move_aside, replace_file};
use crate::recipe::Recipe;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_core::Fingerprint;
use logitcask_train::LossConfig;
use logitcask_train::checkpoint::Checkpoints;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of a run's record in its folder.
const RECORD: &str = "recipe.toml";

/// What identifies a run.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Ids of the caches, or the fingerprint of the dataset.
    pub data: String,
    /// The resolved recipe.
    pub recipe: Recipe,
    /// Fingerprint of the model that the student starts from, if it starts from one.
    pub source: Option<Fingerprint>,
    /// The teacher, dataset and tokenizer that the cache was made from, as comments in the record; not part of the
    /// run's id.
    pub made_from: Vec<String>,
}

/// The content of recipe.toml.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    run: Fingerprint,
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Fingerprint>,
    recipe: Recipe,
}

/// A locked run folder; dropping it releases the lock.
pub struct Claim {
    lock: Option<File>,
    /// A note for the user about what was found in the folder.
    pub note: Option<String>,
}

impl Identity {
    /// The id of the run that trains the recipe's student with this loss.
    pub fn id(&self, loss: &LossConfig) -> Result<Fingerprint> {
        let (mut loss, mut train) = (without_defaults(loss)?, without_defaults(&self.recipe.train)?);
        leave_out(&mut loss, &mut train);
        let student = without_path(without_defaults(&self.recipe.student)?);
        let mut all = serde_json::json!({ "data": self.data, "student": student, "loss": loss, "train": train });
        if let Some(source) = &self.source {
            all["source"] = serde_json::json!(source);
        }
        Ok(Fingerprint::of(&serde_json_canonicalizer::to_vec(&all)?))
    }

    fn own_id(&self) -> Result<Fingerprint> {
        self.id(&self.recipe.loss)
    }

    /// The keys that affect the training and differ from `wanted`, each with both values.
    fn differences(&self, wanted: &Self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.data != wanted.data {
            found.push(format!("data: {} here, {} wanted", short(&self.data), short(&wanted.data)));
        }
        if self.source != wanted.source {
            let name = |source: Option<Fingerprint>| source.map_or("none".to_owned(), |source| source.short());
            let (there, wanted) = (name(self.source), name(wanted.source));
            found.push(format!("[student] from: the model {there} here, {wanted} wanted"));
        }
        for ((name, there), (_, wanted)) in self.sections()?.into_iter().zip(wanted.sections()?) {
            for key in there.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
                let text = |map: &Map<String, Value>| map.get(key).map_or("nothing".to_owned(), Value::to_string);
                if there.get(key) != wanted.get(key) {
                    found.push(format!("[{name}] {key}: {} here, {} wanted", text(&there), text(&wanted)));
                }
            }
        }
        Ok(found)
    }

    fn sections(&self) -> Result<[(&'static str, Map<String, Value>); 3]> {
        let (mut loss, mut train) = (object(&self.recipe.loss)?, object(&self.recipe.train)?);
        leave_out(&mut loss, &mut train);
        let student = without_path(object(&self.recipe.student)?);
        Ok([("student", student), ("loss", loss), ("train", train)])
    }

    /// The checkpoints of student and control in the folder, and whether they belong to this run; `None` if unreadable.
    fn checkpoints(&self, folder: &Path) -> Result<Vec<(PathBuf, Option<bool>)>> {
        let mut found = Vec::new();
        for (name, id) in [("student", self.own_id()?), ("control", self.id(&LossConfig::LABELS)?)] {
            let runs = Checkpoints::runs(&folder.join(name))?;
            found.extend(runs.into_iter().map(|(path, run)| (path, run.map(|run| run == id))));
        }
        Ok(found)
    }
}

/// Removes the keys of `[loss]` and `[train]` that do not affect the trained weights.
fn leave_out(loss: &mut Map<String, Value>, train: &mut Map<String, Value>) {
    if let Some(second) = loss.get_mut("second_teacher").and_then(Value::as_object_mut) {
        // Only its path; its cache id is in [`Identity::data`].
        second.remove("cache");
    }
    train.remove("checkpoint_every");
    train.remove("gradient_checkpointing");
}

/// The section of the student without the path of the model that it starts from, whose fingerprint counts.
fn without_path(mut student: Map<String, Value>) -> Map<String, Value> {
    student.remove("from");
    student
}

/// The first eight digits of each hash.
fn short(data: &str) -> String {
    data.split(" and ").map(|hash| hash.get(..8).unwrap_or(hash)).collect::<Vec<_>>().join(" and ")
}

fn object<T: Serialize>(value: &T) -> Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => bail!("{other} is not a table"),
    }
}

/// `value` without the keys that have their default, so that a key that a later version adds does not change existing
/// ids.
fn without_defaults<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Result<Map<String, Value>> {
    let all = object(value)?;
    let says_something = |key: &String| {
        let less: Map<String, Value> = all.clone().into_iter().filter(|(other, _)| other != key).collect();
        !serde_json::from_value::<T>(Value::Object(less)).is_ok_and(|default| default == *value)
    };
    Ok(all.clone().into_iter().filter(|(key, _)| says_something(key)).collect())
}

/// Whether a folder can be used for a run.
enum Holds {
    /// Yes: it is empty or holds this run. With a note for the user if its record had to be replaced.
    Ours(Option<String>),
    /// No, for this reason.
    Others(String),
}

/// Creates the run folder, or checks that it belongs to the same run, and writes its record.
pub fn claim(folder: &Path, identity: &Identity, replace: bool) -> Result<Claim> {
    let mut claim = Claim { lock: None, note: None };
    if folder.is_dir() {
        refuse_foreign(folder)?;
        // Locked until it was moved aside, so that the folder of an active run is never moved.
        claim.lock = Some(lock(folder)?);
        match look(folder, identity)? {
            Holds::Ours(note) => claim.note = note,
            Holds::Others(problem) if !replace => {
                bail!("{problem}; name another folder with --out, or use --replace to move it aside")
            }
            Holds::Others(problem) => {
                claim.note = Some(format!("{problem}; moved to {}", move_aside(folder)?.display()));
                claim.lock = None;
            }
        }
    }
    if claim.lock.is_none() {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
        claim.lock = Some(lock(folder)?);
    }
    let Identity { data, recipe, source, made_from } = identity.clone();
    let made_from: String = made_from.iter().map(|line| format!("# {line}\n")).collect();
    let text = format!(
        "# The resolved recipe of this run. `data` is the id of the cache (or the dataset) that it is trained on, `source`\n\
         # the fingerprint of a model that the student starts from, and `run` is a hash of them and of [recipe.student],\n\
         # [recipe.loss] and [recipe.train].\n{made_from}{}",
        toml::to_string(&Record { run: identity.own_id()?, data, source, recipe })?
    );
    let path = folder.join(RECORD);
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        replace_file(&path, text.as_bytes())?;
    }
    Ok(claim)
}

/// Refuses a folder that contains anything else than a run, such as the folder of the recipe: nothing is written into
/// it, and it is not moved aside. Hidden files are ignored.
fn refuse_foreign(folder: &Path) -> Result<()> {
    let list = || format!("{}: cannot list it", folder.display());
    for entry in fs::read_dir(folder).with_context(list)? {
        let name = entry.with_context(list)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && ![RECORD, "student", "control", "summary.json"].contains(&name.as_str()) {
            bail!(
                "{}: the folder contains `{name}`, so no run is started in it; name another folder with --out",
                folder.display()
            );
        }
    }
    Ok(())
}

/// Compares the contents of a folder with the run that is to use it.
fn look(folder: &Path, identity: &Identity) -> Result<Holds> {
    let path = folder.join(RECORD);
    let checkpoints = identity.checkpoints(folder)?;
    let foreign = checkpoints.iter().find(|(_, is_ours)| *is_ours == Some(false)).map(|(path, _)| path.display());
    let is_ours = foreign.is_none() && checkpoints.iter().any(|(_, is_ours)| *is_ours == Some(true));
    let problem = match read_record(&path)? {
        Some(Ok(there)) => {
            let differences = there.differences(identity)?;
            return Ok(match (differences.is_empty(), foreign) {
                (true, None) => Holds::Ours(None),
                (true, Some(path)) => {
                    Holds::Others(format!("{path}: this checkpoint belongs to another run than its folder"))
                }
                (false, _) => {
                    let (folder, differences) = (folder.display(), differences.join("; "));
                    Holds::Others(format!("{folder} holds a run of another recipe or data ({differences})"))
                }
            });
        }
        Some(Err(problem)) => format!("{}: damaged ({problem})", path.display()),
        None => format!("{}: missing", path.display()),
    };
    let has_results = ["student/model", "summary.json"].iter().any(|name| folder.join(name).exists());
    Ok(match foreign {
        _ if is_ours => {
            Holds::Ours(Some(format!("{problem}; the checkpoints belong to this run, so it is written again")))
        }
        // A recipe.toml that is not a record may be the recipe of this very run, so the folder must have none.
        None if checkpoints.is_empty() && !has_results && !path.exists() => Holds::Ours(None),
        None => Holds::Others(format!("{problem}, and no checkpoint tells which run this is")),
        Some(checkpoint) => Holds::Others(format!("{problem}, and {checkpoint} belongs to another run")),
    })
}

/// The record of a folder, or the problem with it; `None` if there is none.
fn read_record(path: &Path) -> Result<Option<Result<Identity>>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{}: cannot read it", path.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    // Only the message: the rest of a TOML error quotes the file.
    let record = toml::from_str::<Record>(&text).map_err(|e| anyhow!("{}", e.message()));
    let checked = record.and_then(|Record { run, data, source, recipe }| {
        let identity = Identity { data, recipe, source, made_from: Vec::new() };
        let found = identity.own_id()?;
        match found == run {
            true => Ok(identity),
            false => bail!("it names the run {}, but its contents are of the run {}", run.short(), found.short()),
        }
    });
    Ok(Some(checked))
}

/// Locks a run folder: two runs in one folder would overwrite each other's checkpoints.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("{}: cannot create it", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{}: another run is active in this folder", folder.display()),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("{}: cannot lock it", path.display())),
    }
}
