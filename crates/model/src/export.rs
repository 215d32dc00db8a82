//! A folder that `transformers` opens.

use crate::{Error, Llama, Precision, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
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

    let mut config = model.config().to_hf(name).to_string().into_bytes();
    if let Ok(pretty) = serde_json::to_vec_pretty(&model.config().to_hf(name)) {
        config = pretty;
    }
    config.push(b'\n');
    publish(&folder.join("config.json"), &config)?;
    if let Some(json) = tokenizer_json {
        publish(&folder.join("tokenizer.json"), json)?;
        publish(&folder.join("tokenizer_config.json"), TOKENIZER_CONFIG.as_bytes())?;
    }
    Ok(())
}

/// Without it `AutoTokenizer` guesses a slow tokenizer class from the model type and fails.
const TOKENIZER_CONFIG: &str = "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n";

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
