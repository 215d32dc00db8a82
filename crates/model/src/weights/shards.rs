//! Detection of the files with a model's weights, and of missing ones.

use crate::{Error, Result, files};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The files that hold a model's tensors.
pub(super) struct Shards {
    /// Sorted by name.
    pub files: Vec<PathBuf>,
    /// The index, which maps each tensor to its file. `None` if a single file holds all tensors and there is no index.
    pub index: Option<BTreeMap<String, String>>,
}

/// Finds the weights in `folder`. Rejects incomplete weights, and files that could be two models.
pub(super) fn find(folder: &Path) -> Result<Shards> {
    let refuse = |problem: String| Error::Files { path: folder.to_owned(), problem };
    let names = files::names(folder)?;
    let has = |name: &str| names.iter().any(|there| there == name);
    let numbered: BTreeSet<&str> = names.iter().map(String::as_str).filter(|name| number(name).is_some()).collect();
    if !has(INDEX) {
        if let Some(shard) = numbered.first() {
            return Err(refuse(match has(SINGLE) {
                true => {
                    format!("holds both {SINGLE} and {shard}: of two models at most one can be meant, remove the other")
                }
                false => format!("holds {shard}, but no {INDEX}: the download is incomplete, fetch the model again"),
            }));
        }
        return match has(SINGLE) {
            true => Ok(Shards { files: vec![folder.join(SINGLE)], index: None }),
            false => Err(without_weights(folder, &names)),
        };
    }
    let index = read_index(&folder.join(INDEX))?;
    let named: BTreeSet<&str> = index.values().map(String::as_str).collect();
    let strangers = numbered.iter().copied().chain(has(SINGLE).then_some(SINGLE)).find(|name| !named.contains(name));
    if let Some(stranger) = strangers {
        return Err(refuse(format!(
            "holds {stranger}, which {INDEX} does not name: of two models at most one can be meant, remove the other"
        )));
    }
    if let Some(missing) = named.iter().find(|name| !has(name)) {
        return Err(refuse(format!(
            "{INDEX} names {missing}, which is not there: the download is incomplete, fetch the model again"
        )));
    }
    all_numbers(&named).map_err(refuse)?;
    Ok(Shards { files: named.into_iter().map(|name| folder.join(name)).collect(), index: Some(index) })
}

/// N and M of `model-N-of-M.safetensors`.
fn number(name: &str) -> Option<(u32, u32)> {
    let (rest, total) = name.strip_suffix(".safetensors")?.strip_prefix("model-")?.split_once("-of-")?;
    Some((rest.parse().ok()?, total.parse().ok()?))
}

/// Checks that shards with a total number in their names agree on it and are complete.
fn all_numbers(named: &BTreeSet<&str>) -> std::result::Result<(), String> {
    let numbers: BTreeSet<(u32, u32)> = named.iter().filter_map(|name| number(name)).collect();
    let Some(&(_, total)) = numbers.first() else { return Ok(()) };
    if let Some((n, other)) = numbers.iter().find(|(_, other)| *other != total) {
        return Err(format!("{INDEX} names a shard of {total} and shard {n} of {other}: they are of two models"));
    }
    match (1..=total).find(|n| !numbers.contains(&(*n, total))) {
        Some(n) => Err(format!(
            "{INDEX} names {} of {total} shards and not shard {n}: it is cut off, fetch the model again",
            numbers.len()
        )),
        None => Ok(()),
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let refuse = |problem: String| Error::NotAModel { path: path.to_owned(), problem };
    let parsed: Index =
        serde_json::from_slice(&files::read(path)?).map_err(|e| refuse(format!("not a weight index: {e}")))?;
    let is_plain = |name: &String| Path::new(name).file_name() == Some(std::ffi::OsStr::new(name));
    match parsed.weight_map.values().find(|name| !is_plain(name)) {
        Some(name) => Err(refuse(format!("shard `{name}` is not a plain file name"))),
        None => Ok(parsed.weight_map),
    }
}

/// The error for a folder without safetensors: names the format of its weights, and how to convert them.
fn without_weights(folder: &Path, names: &[String]) -> Error {
    let is_pickle = |name: &&String| name.starts_with("pytorch_model") && !name.ends_with(".json");
    let found = |is: &dyn Fn(&&String) -> bool| names.iter().find(is);
    let problem = if let Some(pickle) = found(&is_pickle) {
        format!(
            "its weights are in {pickle}, a pickle, which this build does not read; in Python, \
             `AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER_FOLDER)` writes them as safetensors"
        )
    } else if let Some(gguf) = found(&|name| name.ends_with(".gguf")) {
        return in_gguf(folder, gguf);
    } else {
        return Error::NotAModel { path: folder.to_owned(), problem: format!("neither {SINGLE} nor {INDEX} is there") };
    };
    Error::Files { path: folder.to_owned(), problem }
}

/// The error for a folder whose weights are in a GGUF file.
pub(crate) fn in_gguf(folder: &Path, gguf: &str) -> Error {
    let problem =
        format!("its weights are in {gguf}; a GGUF file is a model by itself: name {}", folder.join(gguf).display());
    Error::Files { path: folder.to_owned(), problem }
}
