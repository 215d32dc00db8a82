//! The identity of a model as far as its logits are concerned: the fingerprint that pins a teacher.
//!
//! It hashes what affects a model's logits, and nothing else: a model has the same fingerprint in one file or twenty
//! shards, in whatever order, with whatever name and whatever tokenizer. A llama2.c file has that of the f32 folder it
//! is exported to.
//!
//! It is BLAKE3 in key derivation mode with the context [`TEACHER_CONTEXT`], over these bytes, all numbers as unsigned
//! 64-bit little-endian integers and every string as its length in bytes followed by its bytes:
//!
//! 1. a string: config.json in RFC 8785 form, reduced to `model_type` and the keys that shape the forward. A key that
//!    models cannot do without is always there, any other only where it differs from its default, which is the same for
//!    all families. A setting that a later version reads joins them in the same way: its default says what models did
//!    before. `vocab_size`, `hidden_size`, `intermediate_size`, `num_hidden_layers` and `num_attention_heads` are
//!    always there; `num_key_value_heads` (`num_attention_heads`), `head_dim` (`hidden_size / num_attention_heads`),
//!    `rms_norm_eps` (1e-6), `rope_theta` (10000), `tie_word_embeddings`, `attention_bias` and `mlp_bias` (false),
//!    `rope_scaling`, `sliding_window` and `layer_types` (none) are there where they differ. `rope_scaling` has the
//!    keys that its type reads, with those filled in whose default is a constant or a length. `sliding_window` is that
//!    of the layers that have one, and `layer_types` is there only if layers differ. `hidden_act`,
//!    `partial_rotary_factor` and a family's own settings are there where they differ from the family's default;
//! 2. for every tensor that the family's files have, in the order of the names' bytes: its name, a string; its number
//!    format as safetensors calls it (`F32`, `F16`, `BF16`), a string; the number of its dimensions and each of them;
//!    the length of its data in bytes and 32 bytes, the plain BLAKE3 hash of its data, row-major and little-endian as
//!    safetensors holds it.
//!
//! Tensors that the decoder does not read are left out: rotary angles and causal masks in older files, the copy of a tied
//! head, and what belongs to other modalities. Names are those of `transformers`, without the prefix that some files add
//! or leave out.

use crate::weights::{self, WeightSource};
use crate::{Error, ModelConfig, Result};
use logitcask_core::Fingerprint;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Version of the definition in [this module](self), and key of the hash. It must be incremented whenever the hashed
/// bytes change: a cache made with another version has another hash of its teacher.
pub const TEACHER_CONTEXT: &str = "logitcask teacher v1";

/// The fingerprint of a model: see [this module](self).
pub(crate) fn fingerprint(config: &ModelConfig, source: &(dyn WeightSource + Send + Sync)) -> Result<Fingerprint> {
    weights::check(config, source)?;
    let mut tensors = config.file_tensors();
    tensors.sort();
    let digests: Vec<blake3::Hash> = tensors.par_iter().map(|(name, _)| source.digest(name)).collect::<Result<_>>()?;
    let mut hasher = blake3::Hasher::new_derive_key(TEACHER_CONTEXT);
    let number = |hasher: &mut blake3::Hasher, n: u64| {
        hasher.update(&n.to_le_bytes());
    };
    let string = |hasher: &mut blake3::Hasher, bytes: &[u8]| {
        number(hasher, bytes.len() as u64);
        hasher.update(bytes);
    };
    string(&mut hasher, canonical(config).map_err(canonical_problem(source))?.as_bytes());
    for ((name, shape), digest) in tensors.iter().zip(digests) {
        let stored = source.stored(name)?;
        string(&mut hasher, name.as_bytes());
        string(&mut hasher, stored.safetensors_name().as_bytes());
        number(&mut hasher, shape.len() as u64);
        shape.iter().for_each(|&n| number(&mut hasher, n as u64));
        number(&mut hasher, shape.iter().map(|&n| n as u64).product::<u64>() * stored.bytes() as u64);
        hasher.update(digest.as_bytes());
    }
    Ok(hasher.finalize().into())
}

/// The part of config.json that affects the forward pass, in RFC 8785 form.
fn canonical(config: &ModelConfig) -> serde_json::Result<String> {
    serde_json_canonicalizer::to_string(&fields(config))
}

/// The part of config.json that affects the forward pass.
pub(crate) fn fields(config: &ModelConfig) -> Value {
    let ModelConfig {
        model_type,
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        rms_norm_eps,
        rope_theta,
        rope_scaling,
        attention_bias,
        mlp_bias,
        sliding_window,
        layer_types,
        tie_word_embeddings,
        hidden_act,
        partial_rotary_factor,
        settings,
        // The training length does not affect the logits, nor do the tokens that delimit texts. For which texts a model is
        // used is no property of the model.
        text_length: _,
        max_position_embeddings: _,
        bos_token_id: _,
        eos_token_id: _,
    } = config;
    let mut fields = json!({
        "model_type": model_type,
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
    });
    let with_defaults = [
        ("num_key_value_heads", json!(num_key_value_heads), json!(num_attention_heads)),
        ("head_dim", json!(head_dim), json!(hidden_size / num_attention_heads)),
        ("rms_norm_eps", json!(rms_norm_eps), json!(1e-6)),
        ("rope_theta", json!(rope_theta), json!(10_000.0)),
        ("rope_scaling", json!(rope_scaling), Value::Null),
        ("attention_bias", json!(attention_bias), json!(false)),
        ("mlp_bias", json!(mlp_bias), json!(false)),
        ("sliding_window", json!(sliding_window), Value::Null),
        ("layer_types", json!(layer_types), json!([])),
        ("tie_word_embeddings", json!(tie_word_embeddings), json!(false)),
        ("hidden_act", json!(hidden_act), Value::Null),
        ("partial_rotary_factor", json!(partial_rotary_factor), Value::Null),
    ];
    for (key, value, default) in with_defaults {
        if value != default {
            fields[key] = value;
        }
    }
    settings.iter().for_each(|(key, value)| fields[key] = value.clone());
    fields
}

fn canonical_problem(source: &dyn WeightSource) -> impl FnOnce(serde_json::Error) -> Error {
    let path = source.path().to_owned();
    move |e| Error::Config { path, problem: format!("cannot be written in RFC 8785 form: {e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PretrainedModel;
    use safetensors::SafeTensors;
    use std::path::Path;

    fn canonical_of(changes: Value) -> String {
        let mut all = json!({
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
            "num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        canonical(&serde_json::from_value::<ModelConfig>(all).unwrap().resolved(0, 16).unwrap()).unwrap()
    }

    #[test]
    fn a_default_is_not_written_and_a_change_is() {
        let least = r#"{"hidden_size":32,"intermediate_size":48,"model_type":"llama","num_attention_heads":4,"num_hidden_layers":1,"vocab_size":64}"#;
        assert_eq!(canonical_of(json!({})), least);
        let same = json!({"head_dim": 8, "bos_token_id": 1, "eos_token_id": [2, 3], "max_position_embeddings": 99});
        assert_eq!(canonical_of(same), least);
        let changes = json!({"head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "num_key_value_heads": 2});
        assert_eq!(
            canonical_of(changes),
            r#"{"head_dim":16,"hidden_size":32,"intermediate_size":48,"model_type":"llama","num_attention_heads":4,"num_hidden_layers":1,"num_key_value_heads":2,"rms_norm_eps":0.00001,"rope_theta":500000,"vocab_size":64}"#
        );
    }

    #[test]
    fn settings_of_other_families_are_written_in_one_form() {
        let windows = json!({"model_type": "qwen2", "sliding_window": 7, "layer_types": ["sliding_attention"]});
        assert_eq!(
            canonical_of(windows),
            r#"{"hidden_size":32,"intermediate_size":48,"model_type":"qwen2","num_attention_heads":4,"num_hidden_layers":1,"sliding_window":7,"vocab_size":64}"#
        );
        let short = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}, "attention_bias": true});
        let long = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "beta_fast": 32,
            "beta_slow": 1, "truncate": true, "mscale": 0.5});
        let long = json!({"rope_scaling": long, "attention_bias": true});
        for changes in [short, long] {
            assert_eq!(
                canonical_of(changes),
                r#"{"attention_bias":true,"hidden_size":32,"intermediate_size":48,"model_type":"llama","num_attention_heads":4,"num_hidden_layers":1,"rope_scaling":{"beta_fast":32,"beta_slow":1,"factor":4,"original_max_position_embeddings":16,"rope_type":"yarn","truncate":true},"vocab_size":64}"#
            );
        }
    }

    /// The definition a second time, from the bytes of a folder with one file.
    fn by_the_definition(weights: &[u8], config: &str) -> Fingerprint {
        let weights = SafeTensors::deserialize(weights).unwrap();
        let mut tensors = weights.tensors();
        tensors.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        let mut bytes = Vec::new();
        let string = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        string(&mut bytes, config);
        for (name, tensor) in tensors {
            string(&mut bytes, &name);
            string(&mut bytes, "F32");
            bytes.extend((tensor.shape().len() as u64).to_le_bytes());
            tensor.shape().iter().for_each(|&n| bytes.extend((n as u64).to_le_bytes()));
            bytes.extend((tensor.data().len() as u64).to_le_bytes());
            bytes.extend(blake3::hash(tensor.data()).as_bytes());
        }
        blake3::Hash::from_bytes(blake3::derive_key("logitcask teacher v1", &bytes)).into()
    }

    /// Where this fails, every cache there is would be another teacher's: count [`TEACHER_CONTEXT`] up, on purpose.
    #[test]
    fn the_definition_never_changes_under_its_version() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden");
        let folder = golden.join("llama-gqa");
        let found = PretrainedModel::open(&folder).unwrap().fingerprint().unwrap();
        let config = r#"{"hidden_size":64,"intermediate_size":128,"model_type":"llama","num_attention_heads":4,"num_hidden_layers":2,"num_key_value_heads":2,"rms_norm_eps":0.00001,"vocab_size":256}"#;
        assert_eq!(found, by_the_definition(&std::fs::read(folder.join("model.safetensors")).unwrap(), config));
        // Computed by another program as well, with Python's blake3.
        let pinned = [
            ("llama-gqa", "ca4cdf416fa370c9201577da31a9d5d6e3c135d9541259084eb7fe16fa931445"),
            ("llama-f16-sharded", "b6e046bcdc397d184fa1989395055c80b815db06851e32b96864d7e076355737"),
        ];
        for (name, wanted) in pinned {
            let found = PretrainedModel::open(&golden.join(name)).unwrap().fingerprint().unwrap();
            assert_eq!(found.to_string(), wanted, "{name}");
        }
    }
}
