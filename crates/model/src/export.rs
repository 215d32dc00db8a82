//! A folder that `transformers` opens.

use crate::{Error, Llama, LlamaConfig, Precision, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Writes config.json and model.safetensors (and tokenizer.json, where given) into `folder`, which is made if missing.
/// Each file appears whole or not at all.
pub fn export(model: &Llama, precision: Precision, tokenizer_json: Option<&[u8]>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let (dtype, name) = match precision {
        Precision::F32 => (Dtype::F32, "float32"),
        Precision::Bf16 => (Dtype::BF16, "bfloat16"),
        Precision::F16 => (Dtype::F16, "float16"),
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = model
        .named_values()
        .into_iter()
        .map(|(name, shape, values)| (name, shape, encode(&values, precision)))
        .collect();
    let path = folder.join("model.safetensors");
    let problem = |name: &str, e: safetensors::SafeTensorError| Error::Tensor {
        path: path.clone(),
        name: name.to_owned(),
        problem: e.to_string(),
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, bytes) in &tensors {
        views.push((name, TensorView::new(dtype, shape.clone(), bytes).map_err(|e| problem(name, e))?));
    }
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    let weights = safetensors::serialize(views, metadata).map_err(|e| problem("all", e))?;
    publish(&path, &weights)?;

    let config = format!("{:#}\n", model.config().to_hf(name));
    publish(&folder.join("config.json"), config.as_bytes())?;
    if let Some(json) = tokenizer_json {
        publish(&folder.join("tokenizer.json"), json)?;
        publish(&folder.join("tokenizer_config.json"), &tokenizer_config(model.config(), json))?;
    }
    Ok(())
}

/// tokenizer_config.json: without it `AutoTokenizer` guesses a slow tokenizer class from the model type and fails, and
/// does not know which tokens start and end a text.
fn tokenizer_config(config: &LlamaConfig, tokenizer_json: &[u8]) -> Vec<u8> {
    let tokenizer: Value = serde_json::from_slice(tokenizer_json).unwrap_or_default();
    let special = |id: Option<u32>| {
        let added = tokenizer["added_tokens"].as_array()?;
        let token = added.iter().find(|token| token["id"].as_u64() == id.map(u64::from))?;
        token["content"].as_str().map(str::to_owned)
    };
    let value = json!({
        "bos_token": special(config.bos_token_id),
        "clean_up_tokenization_spaces": false,
        "eos_token": special(config.eos_token_id),
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

/// Temporary name, fsync, rename: a reader sees the old file or the new one.
fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // The umask decides who may read, as for any file; a temporary file's own 0600 would lock others out.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io(path, "create"))?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    file.as_file().sync_all().map_err(Error::io(path, "write"))?;
    file.persist(path).map_err(|e| Error::io(path, "publish")(e.error))?;
    Ok(())
}
