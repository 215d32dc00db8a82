//! The keys of config.json: each is read, known to leave the forward pass as it is, or refused by its name.

use super::ModelType;
use super::config_serde::KEYS;
use super::hf::{COMMON_KEYS, said};
use serde_json::{Map, Value};

/// Keys that are read for all families, in addition to [`COMMON_KEYS`].
const ALSO_READ: [&str; 9] = [
    "bos_token_id",
    "model_type",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "quantization_config",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "text_config",
];

/// Settings of other decoders that would change the forward pass, with the values that do not. A family that has one
/// reads it itself.
const NEUTRAL: [(&str, &[f64]); 34] = [
    ("_remove_final_layer_norm", &[0.0]),
    ("add_cross_attention", &[0.0]),
    ("alibi", &[0.0]),
    ("attention_bias", &[0.0]),
    ("attention_multiplier", &[]),
    ("attn_logit_softcapping", &[]),
    ("clip_qkv", &[]),
    ("embedding_multiplier", &[1.0]),
    ("final_logit_softcapping", &[]),
    ("is_encoder_decoder", &[0.0]),
    ("layer_types", &[]),
    ("logit_scale", &[1.0]),
    ("logits_scaling", &[1.0]),
    ("mlp_bias", &[0.0]),
    ("mlp_only_layers", &[]),
    ("n_group", &[]),
    ("no_rope_layers", &[]),
    ("num_experts", &[0.0]),
    ("num_experts_per_tok", &[0.0]),
    ("num_kv_shared_layers", &[0.0]),
    ("num_local_experts", &[0.0]),
    ("partial_rotary_factor", &[1.0]),
    ("qk_layernorm", &[0.0]),
    ("query_pre_attn_scalar", &[]),
    ("residual_multiplier", &[1.0]),
    ("scale_attn_by_inverse_layer_idx", &[0.0]),
    ("scale_attn_weights", &[1.0]),
    ("sliding_window", &[]),
    ("use_bidirectional_attention", &[0.0]),
    ("use_mup", &[0.0]),
    ("use_parallel_residual", &[0.0]),
    ("use_qk_norm", &[0.0]),
    ("use_qkv_bias", &[0.0]),
    ("use_sliding_window", &[0.0]),
];

/// Keys of training, generation and bookkeeping.
const WITHOUT_EFFECT: [&str; 57] = [
    "architectures",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "do_sample",
    "dtype",
    "early_stopping",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "init_std",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_window_layers",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "router_z_loss_coef",
    "sep_token_id",
    "decoder_start_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "diversity_penalty",
];

/// Whether a key's name tells that it has no effect: noise of training, initial values, and what begins with `_`.
fn has_name_without_effect(key: &str) -> bool {
    let begins = ["_", "initializer_", "output_", "summary_", "unsloth_", "encoder_no_repeat", "exponential_decay"];
    key.contains("dropout")
        || key.ends_with("pdrop")
        || key.ends_with("layerdrop")
        || begins.iter().any(|begin| key.starts_with(begin))
}

/// Refuses keys that would change the forward pass but are not implemented, instead of ignoring them.
///
/// # Errors
/// The first such key.
pub(super) fn check(all: &Map<String, Value>, model_type: ModelType) -> Result<(), String> {
    let (family, name) = (model_type.family(), model_type.name());
    let own = family.settings().defaults();
    let is_read = |key: &str| {
        let is_optional = KEYS.contains(&key) && family.optional_keys().contains(&key);
        let is_common = COMMON_KEYS.contains(&key) || ALSO_READ.contains(&key) && key != "partial_rotary_factor";
        let is_own = own.contains_key(key) || family.keys_read().contains(&key);
        is_optional || is_common || is_own || family.renamed_keys().iter().any(|(_, theirs)| *theirs == key)
    };
    if let Some(quantization) = said(all, "quantization_config") {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
        if !family.quantizations().contains(&method) {
            return Err(format!(
                "its weights are quantized (`quantization_config` names {method}); in safetensors this build reads f32, f16 \
                 and bf16: take the model that it was made from, or a GGUF file"
            ));
        }
    }
    if let Some(quantization) = said(all, "quantization") {
        return Err(format!(
            "its weights are quantized (`quantization` is {quantization}, as MLX writes it); in safetensors this build \
             reads f32, f16 and bf16: take the model that it was made from, or a GGUF file"
        ));
    }
    for key in all.keys().filter(|key| !is_read(key)) {
        let Some(value) = said(all, key) else { continue };
        if key == "layer_types" && value.as_array().is_some_and(|kinds| kinds.iter().all(|k| k == "full_attention")) {
            continue;
        }
        if key == "position_embedding_type" && value == "rope" {
            continue;
        }
        if let Some((_, neutral)) = NEUTRAL.iter().find(|(name, _)| name == key) {
            let number = value.as_f64().or_else(|| value.as_bool().map(|is_on| f64::from(u8::from(is_on))));
            let is_empty = value.as_array().is_some_and(Vec::is_empty);
            if !is_empty && !number.is_some_and(|number| neutral.contains(&number)) {
                return Err(format!("`{key}` is {value}, which this build's `{name}` models do not have"));
            }
        } else if !WITHOUT_EFFECT.contains(&key.as_str()) && !has_name_without_effect(key) {
            return Err(format!(
                "`{key}` is {value}, and this build does not know what it does in a `{name}` model; if the logits do \
                 not depend on it, remove it from config.json"
            ));
        }
    }
    Ok(())
}
