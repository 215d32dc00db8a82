//! Export of a model to a folder that `transformers` can open.

use crate::families::FileTensor;
use crate::{CausalLm, Companions, Error, Model, ModelConfig, Precision, Result, StoredParameter, files};
use half::{bf16, f16};

use logitcask_files::replace;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";

/// Writes a model into `folder`, which is created if necessary: config.json, model.safetensors, tokenizer.json if
/// given, and `companions`, byte for byte. If these do not include tokenizer_config.json, one is made from config and
/// tokenizer.
///
/// Weights that `precision` cannot represent are an error before anything is written. An existing model in `folder` is
/// replaced. Each file is created atomically. config.json, without which the folder cannot be opened, is removed first
/// and written last, so that an interrupted export is never opened as a model. One tensor at a time is in memory in
/// addition to the model.
///
/// # Errors
/// [`Error::Tensor`] names a weight that `precision` cannot represent, [`Error::Target`] an existing shard of another
/// model; [`Error::Io`] if a file cannot be written.
pub fn export(
    model: &Model,
    precision: Precision,
    tokenizer_json: Option<&[u8]>,
    companions: &Companions,
    folder: &Path,
) -> Result<()> {
    let weights = folder.join(WEIGHTS);
    check_values(model, precision, &weights)?;
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    clear(folder)?;
    replace(&weights, |file| write_tensors(model, precision, file)).map_err(Error::io(&weights, "write"))?;
    if let Some(json) = tokenizer_json {
        write(&folder.join(TOKENIZER), json)?;
        if companions.get(Companions::TOKENIZER_CONFIG).is_none() {
            let made = tokenizer_config(model.config(), json);
            write(&folder.join(Companions::TOKENIZER_CONFIG), &made)?;
        }
    }
    for (name, bytes) in companions.iter() {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(Error::io(&path, "create"))?;
        write(&path, bytes)?;
    }
    let dtype = match precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    };
    let config = format!("{:#}\n", Value::Object(companions.complete(model.config().to_hf(dtype))));
    write(&folder.join(CONFIG), config.as_bytes())
}

/// Writes a small file atomically.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes)).map_err(Error::io(path, "write"))
}

/// Rejects a target where the export of `source` would overwrite itself or another model.
///
/// # Errors
/// [`Error::Target`] with the obstacle and a remedy; [`Error::Io`] if the target cannot be examined.
pub fn check_target(source: &Path, target: &Path) -> Result<()> {
    let refuse = |problem: String| Err(Error::Target { path: target.to_owned(), problem });
    let (from, to) = (real(source)?, real(target)?);
    if to.starts_with(&from) {
        let place = if to == from { "is" } else { "lies in" };
        return refuse(format!("{place} the model that is read, {}; name a folder of its own", source.display()));
    }
    let there = if to.is_dir() { files::names(&to)? } else { Vec::new() };
    let of_a_model = there.iter().find(|name| is_of_a_model(name));
    match of_a_model.or(there.iter().find(|name| !name.starts_with('.'))) {
        Some(name) if is_of_a_model(name) => {
            refuse(format!("holds a model already ({name}); remove it, or name another folder"))
        }
        Some(name) => refuse(format!("holds {name}; name an empty folder, or one that is not there")),
        None => Ok(()),
    }
}

fn is_of_a_model(name: &str) -> bool {
    let endings = [".safetensors", ".safetensors.index.json", ".bin", ".gguf"];
    [CONFIG, TOKENIZER].contains(&name) || endings.iter().any(|ending| name.ends_with(ending))
}

/// Resolves links; the part of the path that does not exist yet is kept as it is.
fn real(path: &Path) -> Result<PathBuf> {
    let mut there = std::path::absolute(path).map_err(Error::io(path, "find"))?;
    let mut missing = Vec::new();
    while !there.exists() {
        let Some(name) = there.file_name().map(ToOwned::to_owned) else { break };
        missing.push(name);
        there.pop();
    }
    let there = there.canonicalize().map_err(Error::io(path, "find"))?;
    Ok(missing.into_iter().rev().fold(there, |path, name| path.join(name)))
}

/// Removes an earlier export, config.json first, so that a mixture of two models is never opened.
fn clear(folder: &Path) -> Result<()> {
    let shard = files::names(folder)?
        .into_iter()
        .find(|name| *name != WEIGHTS && name.starts_with("model") && is_of_a_model(name));
    if let Some(name) = shard {
        let problem = format!("holds {name} of another model; remove it, or name another folder");
        return Err(Error::Target { path: folder.to_owned(), problem });
    }
    let old = [CONFIG, TOKENIZER].map(str::to_owned).into_iter().chain(Companions::names_in(folder)?);
    for path in old.map(|name| folder.join(name)).filter(|path| files::is_there(path)) {
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
    }
    Ok(())
}

/// Rejects values that are NaN or would be written as infinity.
fn check_values(model: &Model, precision: Precision, path: &Path) -> Result<()> {
    for (name, _, values) in model.state_dict() {
        if let Some(value) = values.iter().find(|&&value| !precision.round(value).is_finite()) {
            let problem = match value.is_finite() {
                true => format!(
                    "holds {value}; {precision} ends at {}. Export in f32, or in bf16, which reaches as far",
                    precision.largest()
                ),
                false => format!("holds {value}; a weight must be a finite number"),
            };
            return Err(Error::Tensor { path: path.to_owned(), name, problem });
        }
    }
    Ok(())
}

/// Writes safetensors: the header with the location of every tensor, in the order of their names, then their values.
fn write_tensors(model: &Model, precision: Precision, file: &mut dyn Write) -> std::io::Result<()> {
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::Bf16 => Dtype::BF16,
        Precision::F16 => Dtype::F16,
    };
    let layout = model.config().layout();
    let mut tensors: Vec<&FileTensor> = layout.tensors().iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let place = |tensor: &&FileTensor| {
        let (start, shape) = (end, tensor.shape.clone());
        end += precision.bytes() * shape.iter().product::<usize>();
        (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    };
    let places = tensors.iter().map(place).collect();
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    let metadata = Metadata::new(metadata, places).map_err(std::io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let parameters: HashMap<String, StoredParameter> = model.named_parameters().into_iter().collect();
    let values = |name: &str| parameters.get(name).map(StoredParameter::values).unwrap_or_default();
    for tensor in tensors {
        file.write_all(&encode(&tensor.assembled(values), precision))?;
    }
    Ok(())
}

/// Creates tokenizer_config.json. Without it `AutoTokenizer` guesses a slow tokenizer class from the model type and
/// fails, and does not know which tokens start and end a text.
fn tokenizer_config(config: &ModelConfig, tokenizer_json: &[u8]) -> Vec<u8> {
    let tokenizer: Value = serde_json::from_slice(tokenizer_json).unwrap_or_default();
    let special = |id: Option<u32>| {
        let added = tokenizer["added_tokens"].as_array()?;
        let token = added.iter().find(|token| token["id"].as_u64() == id.map(u64::from))?;
        token["content"].as_str().map(str::to_owned)
    };
    let value = json!({
        "bos_token": special(config.bos_token_id()),
        "clean_up_tokenization_spaces": false,
        "eos_token": special(config.eos_token_ids().first().copied()),
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    format!("{value:#}\n").into_bytes()
}

fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        Precision::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
    }
}
