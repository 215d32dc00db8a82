//! The folder of a training run: whose it is, and that no two runs write into it.
//!
//! What a run is follows from content alone: the data's hash, and those parts of the recipe that decide the training. Names
//! and paths have no say, so that a run goes on after its cache was moved.

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

/// The record of a run, in its folder.
const RECORD: &str = "recipe.toml";

/// What a run is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Roots of the caches, or the fingerprint of the dataset.
    pub data: String,
    /// The resolved recipe.
    pub recipe: Recipe,
    /// What the cache says it was made from, for whoever reads the record; no part of the run's id.
    pub made_from: Vec<String>,
}

/// recipe.toml.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    run: Fingerprint,
    data: String,
    recipe: Recipe,
}

/// A folder that is ours while this lives.
pub struct Claim {
    lock: Option<File>,
    /// What a user should know of it.
    pub note: Option<String>,
}

impl Identity {
    /// The id of the run that trains the recipe's student with this loss.
    pub fn id(&self, loss: &LossConfig) -> Result<Fingerprint> {
        let (mut loss, mut train) = (without_defaults(loss)?, without_defaults(&self.recipe.train)?);
        leave_out(&mut loss, &mut train);
        let student = without_defaults(&self.recipe.student)?;
        let all = serde_json::json!({ "data": self.data, "student": student, "loss": loss, "train": train });
        Ok(Fingerprint::of(&serde_json_canonicalizer::to_vec(&all)?))
    }

    fn own_id(&self) -> Result<Fingerprint> {
        self.id(&self.recipe.loss)
    }

    /// Every key that decides the training and is another in `wanted`, with both values.
    fn differences(&self, wanted: &Self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.data != wanted.data {
            found.push(format!("data: {} there, {} wanted", short(&self.data), short(&wanted.data)));
        }
        for ((name, there), (_, wanted)) in self.sections()?.into_iter().zip(wanted.sections()?) {
            for key in there.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
                let text = |map: &Map<String, Value>| map.get(key).map_or("nothing".to_owned(), Value::to_string);
                if there.get(key) != wanted.get(key) {
                    found.push(format!("[{name}] {key}: {} there, {} wanted", text(&there), text(&wanted)));
                }
            }
        }
        Ok(found)
    }

    fn sections(&self) -> Result<[(&'static str, Map<String, Value>); 3]> {
        let (mut loss, mut train) = (object(&self.recipe.loss)?, object(&self.recipe.train)?);
        leave_out(&mut loss, &mut train);
        Ok([("student", object(&self.recipe.student)?), ("loss", loss), ("train", train)])
    }

    /// The checkpoints of the folder's student and control, and whether they are of this run; `None`: they do not say.
    fn checkpoints(&self, folder: &Path) -> Result<Vec<(PathBuf, Option<bool>)>> {
        let mut found = Vec::new();
        for (name, id) in [("student", self.own_id()?), ("control", self.id(&LossConfig::LABELS)?)] {
            let runs = Checkpoints::runs(&folder.join(name))?;
            found.extend(runs.into_iter().map(|(path, run)| (path, run.map(|run| run == id))));
        }
        Ok(found)
    }
}

/// Takes out of `[loss]` and `[train]` what changes no bit of what is trained.
fn leave_out(loss: &mut Map<String, Value>, train: &mut Map<String, Value>) {
    if let Some(second) = loss.get_mut("second_teacher").and_then(Value::as_object_mut) {
        // Where it lies; what it holds is in [`Identity::data`].
        second.remove("cache");
    }
    train.remove("checkpoint_every");
}

/// The first eight digits of each hash.
fn short(data: &str) -> String {
    data.split(" and ").map(|hash| hash.get(..8).unwrap_or(hash)).collect::<Vec<_>>().join(" and ")
}

fn object<T: Serialize>(value: &T) -> Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => bail!("{other} is no table"),
    }
}

/// `value` without the keys that are what they are where they are left out: a key that a later version adds at a default
/// that changes nothing changes no id.
fn without_defaults<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Result<Map<String, Value>> {
    let all = object(value)?;
    let says_something = |key: &String| {
        let less: Map<String, Value> = all.clone().into_iter().filter(|(other, _)| other != key).collect();
        !serde_json::from_value::<T>(Value::Object(less)).is_ok_and(|default| default == *value)
    };
    Ok(all.clone().into_iter().filter(|(key, _)| says_something(key)).collect())
}

/// What a folder turned out to hold.
enum Holds {
    /// Nothing that would be missed, or this run under an older record; with what is to be said about it.
    Ours(Option<String>),
    /// Something else.
    Others(String),
}

/// Makes the run folder, or checks that it belongs to the same run, and writes its record.
pub fn claim(folder: &Path, identity: &Identity, replace: bool) -> Result<Claim> {
    let mut claim = Claim { lock: None, note: None };
    if folder.is_dir() {
        refuse_foreign(folder)?;
        // Held until the old folder has its new name: a run at work in it is not moved away under its feet.
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
    let Identity { data, recipe, made_from } = identity.clone();
    let made_from: String = made_from.iter().map(|line| format!("# {line}\n")).collect();
    let text = format!(
        "# The resolved recipe of this run; `data` is the id of the cache (or the dataset) it is trained on, and `run`\n\
         # follows from that and from [recipe.student], [recipe.loss] and [recipe.train].\n{made_from}{}",
        toml::to_string(&Record { run: identity.own_id()?, data, recipe })?
    );
    let path = folder.join(RECORD);
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        replace_file(&path, text.as_bytes())?;
    }
    Ok(claim)
}

/// Refuses a folder that holds something else than a run, such as the recipe's own: neither to be written into nor to be moved
/// aside. Hidden files are nobody's concern.
fn refuse_foreign(folder: &Path) -> Result<()> {
    let list = || format!("{}: cannot list it", folder.display());
    for entry in fs::read_dir(folder).with_context(list)? {
        let name = entry.with_context(list)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && ![RECORD, "student", "control", "summary.json"].contains(&name.as_str()) {
            bail!(
                "{}: no run is begun here, the folder holds `{name}`; name another folder with --out",
                folder.display()
            );
        }
    }
    Ok(())
}

/// Compares what a folder holds with the run that wants it.
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
                (true, Some(path)) => Holds::Others(format!("{path}: a checkpoint of another run than its folder is")),
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
        _ if is_ours => Holds::Ours(Some(format!("{problem}; its checkpoints are of this run, so it is written anew"))),
        // A record that is none of ours may be the very recipe that is run.
        None if checkpoints.is_empty() && !has_results && !path.exists() => Holds::Ours(None),
        None => Holds::Others(format!("{problem}, and nothing beside it says which run this is")),
        Some(checkpoint) => Holds::Others(format!("{problem}, and {checkpoint} is of another run")),
    })
}

/// The record of a folder, where there is one, or what is wrong with it.
fn read_record(path: &Path) -> Result<Option<Result<Identity>>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{}: cannot read it", path.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    // The first line of a TOML error is a heading; the last says what it is.
    let record = toml::from_str::<Record>(&text).map_err(|e| anyhow!("{}", e.message()));
    let checked = record.and_then(|Record { run, data, recipe }| {
        let identity = Identity { data, recipe, made_from: Vec::new() };
        let found = identity.own_id()?;
        match found == run {
            true => Ok(identity),
            false => bail!("it says it is the run {}, but its parts make {}", run.short(), found.short()),
        }
    });
    Ok(Some(checked))
}

/// Two runs in one folder would write over each other's checkpoints.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("{}: cannot create it", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{}: another run is at work in this folder", folder.display()),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("{}: cannot lock it", path.display())),
    }
}
