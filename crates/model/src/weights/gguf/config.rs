//! The config that a GGUF file's metadata describe.

use crate::{Error, ModelConfig, Result};
use logitcask_gguf::{GgufFile, TensorType, Value};
use serde_json::{Map, Value as Json, json};

/// The architectures with Hugging Face's name for the family, and whether llama.cpp rotates neighbouring rows of its
/// heads.
const ARCHITECTURES: [(&str, &str, bool); 3] =
    [("llama", "llama", true), ("qwen2", "qwen2", false), ("qwen3", "qwen3", false)];

/// The keys of an architecture that are read, or that repeat what the tensors say.
const KNOWN: [&str; 15] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.type",
    "vocab_size",
];

/// The tensor with the divisors of the rotary speeds, which llama.cpp's converter writes for the scaling `llama3`.
pub(super) const ROTARY_FACTORS: &str = "rope_freqs.weight";
/// The constants of all published models with that scaling, of which the file does not tell: the original length, and
/// how often a pair turns in it at most and at least to be slowed down in part.
const LLAMA3: (f64, f64, f64) = (8192.0, 1.0, 4.0);

const WHOLE: &str = "a whole number";

/// The config, and whether queries and keys are stored in neighbouring pairs.
pub(super) fn read(file: &GgufFile) -> Result<(ModelConfig, bool)> {
    let refuse = |problem: String| Error::Config { path: file.path().to_owned(), problem };
    let parts = file.optional("split.count", WHOLE, Value::as_u64)?.unwrap_or(1);
    if parts > 1 {
        return Err(refuse(format!(
            "is one of {parts} parts of a model; join them first (`llama-gguf-split --merge FIRST_PART WHOLE.gguf`)"
        )));
    }
    let own = file.required("general.architecture", "a text", Value::as_text)?;
    let Some((_, family, has_pairs)) = ARCHITECTURES.into_iter().find(|(name, ..)| *name == own) else {
        let known = ARCHITECTURES.map(|(name, ..)| format!("`{name}`")).join(", ");
        return Err(refuse(format!("`general.architecture` is `{own}`, this build opens GGUF files of {known}")));
    };
    let prefix = format!("{own}.");
    let keys = file.metadata().keys().filter_map(|key| key.strip_prefix(&prefix));
    if let Some(unknown) = keys.into_iter().find(|key| !KNOWN.contains(key)) {
        return Err(refuse(format!("has the key `{prefix}{unknown}`, which this build does not know")));
    }
    let mut config = sizes(file, own)?;
    config.insert("model_type".to_owned(), json!(family));
    config.extend(switches(file));
    config.extend(special_tokens(file)?);
    if let Some(scaling) = scaling(file, own, &config)? {
        config.insert("rope_scaling".to_owned(), scaling);
    }
    Ok((ModelConfig::of_hf(&config).map_err(refuse)?, has_pairs))
}

/// Sizes and constants.
fn sizes(file: &GgufFile, own: &str) -> Result<Map<String, Json>> {
    let whole = |key: &str| file.required(&format!("{own}.{key}"), WHOLE, Value::as_u64);
    let optional = |key: &str| file.optional(&format!("{own}.{key}"), WHOLE, Value::as_u64);
    let number = |key: &str| file.optional(&format!("{own}.{key}"), "a number", Value::as_f64);
    let (hidden, heads) = (whole("embedding_length")?, whole("attention.head_count")?);
    let head_dim = optional("attention.key_length")?.unwrap_or(hidden / heads.max(1));
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = optional(key)?.filter(|&other| other != head_dim) {
            let problem = format!("it is {other}, and this build reads only {head_dim}, the width of a head");
            return Err(file.key_error(&format!("{own}.{key}"), problem).into());
        }
    }
    let embedding = file.tensors().get("token_embd.weight").map_or(0, |tensor| tensor.shape[0]);
    let eps = "attention.layer_norm_rms_epsilon";
    let missing = || file.key_error(&format!("{own}.{eps}"), "it is missing, expected a number".to_owned());
    let sizes = json!({
        "vocab_size": embedding,
        "hidden_size": hidden,
        "intermediate_size": whole("feed_forward_length")?,
        "num_hidden_layers": whole("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": optional("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": whole("context_length")?,
        "rms_norm_eps": number(eps)?.ok_or_else(missing)?,
        "rope_theta": number("rope.freq_base")?.unwrap_or(10_000.0),
    });
    Ok(sizes.as_object().cloned().unwrap_or_default())
}

/// What the tensors tell: whether there is a head of its own, and which projections have biases.
fn switches(file: &GgufFile) -> Map<String, Json> {
    let has = |name: &str| file.tensors().contains_key(name);
    let mut switches = Map::new();
    switches.insert("tie_word_embeddings".to_owned(), json!(!has("output.weight")));
    switches.insert("attention_bias".to_owned(), json!(has("blk.0.attn_output.bias")));
    switches.insert("mlp_bias".to_owned(), json!(has("blk.0.ffn_down.bias")));
    switches
}

/// The tokens that start and end a text: a chat model's end of turn can differ from the end of a text.
fn special_tokens(file: &GgufFile) -> Result<Map<String, Json>> {
    let id = |name: &str| file.optional(&format!("tokenizer.ggml.{name}_token_id"), WHOLE, Value::as_u64);
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(id(name)?.filter(|id| !ends.contains(id)));
    }
    let mut tokens = Map::new();
    tokens.extend(id("bos")?.map(|id| ("bos_token_id".to_owned(), json!(id))));
    if !ends.is_empty() {
        tokens.insert("eos_token_id".to_owned(), json!(ends));
    }
    Ok(tokens)
}

/// The scaling of the rotary embedding, in Hugging Face's words.
fn scaling(file: &GgufFile, own: &str, config: &Map<String, Json>) -> Result<Option<Json>> {
    let refuse = |problem: String| Error::Config { path: file.path().to_owned(), problem };
    let key = format!("{own}.rope.scaling.type");
    let factor = file.optional(&format!("{own}.rope.scaling.factor"), "a number", Value::as_f64)?;
    // As llama.cpp reads it: a factor without a type scales linearly, and none is 1 or 0.
    let usual = if factor.is_some_and(|factor| factor != 0.0 && factor != 1.0) { "linear" } else { "none" };
    let kind = file.optional(&key, "a text", Value::as_text)?.unwrap_or(usual);
    let factors = rotary_factors(file)?;
    match (kind, factors) {
        ("none", None) => Ok(None),
        ("none", Some(factors)) => match llama3(&factors, config) {
            Some(scaling) => Ok(Some(scaling)),
            None => Err(refuse(format!(
                "`{ROTARY_FACTORS}` scales the rotary embedding otherwise than `llama3` does with the constants of the \
                 published models, which is what this build reads"
            ))),
        },
        ("linear", None) => {
            let factor = file.required(&format!("{own}.rope.scaling.factor"), "a number", Value::as_f64)?;
            Ok(Some(json!({"rope_type": "linear", "factor": factor})))
        }
        ("linear", Some(_)) => Err(refuse(format!(
            "scales the rotary embedding both by a factor (`{own}.rope.scaling.factor`) and by the divisors \
             `{ROTARY_FACTORS}`; this build reads one of both"
        ))),
        (other, _) => Err(refuse(format!(
            "`{key}` is `{other}`, this build reads `none` and `linear`, and the divisors `{ROTARY_FACTORS}` of `llama3`"
        ))),
    }
}

fn rotary_factors(file: &GgufFile) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = file.tensors().get(ROTARY_FACTORS) else { return Ok(None) };
    if tensor.tensor_type != TensorType::F32 {
        let problem = format!("`{ROTARY_FACTORS}` has the type {}, expected F32", tensor.tensor_type.name());
        return Err(Error::Config { path: file.path().to_owned(), problem });
    }
    let mut factors = Vec::new();
    file.for_each_group(ROTARY_FACTORS, tensor.row_bytes(), |bytes| TensorType::F32.dequantise(bytes, &mut factors))?;
    Ok(Some(factors))
}

/// The scaling of type `llama3` that has these divisors, if there is one.
fn llama3(factors: &[f32], config: &Map<String, Json>) -> Option<Json> {
    let (original, low, high) = LLAMA3;
    let (theta, head_dim) = (config.get("rope_theta")?.as_f64()?, config.get("head_dim")?.as_f64()?);
    // The slowest pair is divided by the whole factor.
    let factor = f64::from(*factors.last()?);
    let expected = |pair: usize| {
        let turns = original * theta.powf(-2.0 * pair as f64 / head_dim) / std::f64::consts::TAU;
        let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / (share + (1.0 - share) / factor)
    };
    let is_near = |(pair, &found): (usize, &f32)| (f64::from(found) / expected(pair) - 1.0).abs() < 1e-4;
    let fits = 2.0 * factors.len() as f64 == head_dim && factors.iter().enumerate().all(is_near);
    fits.then(|| {
        json!({
            "rope_type": "llama3", "factor": factor, "original_max_position_embeddings": original as u64,
            "low_freq_factor": low, "high_freq_factor": high,
        })
    })
}
