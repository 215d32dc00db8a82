//! Reading of configs: what config.json means, and what is refused.

use super::super::{LayerType, ModelConfig, ModelType};
use serde_json::{Value, json};

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 64,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        ..ModelConfig::default()
    }
}

fn hf(changes: Value) -> Result<ModelConfig, String> {
    let mut all = json!({
        "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 32, "max_position_embeddings": 16,
    });
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    ModelConfig::of_hf(all.as_object().unwrap())
}

#[test]
fn sizes_beyond_any_model_are_refused_by_arithmetic() {
    let most = 1 << 24;
    for (config, message) in [
        (
            ModelConfig { num_hidden_layers: most, ..config() },
            "num_hidden_layers = 16777216 was given, but it must be at most 4096",
        ),
        (
            ModelConfig { hidden_size: most, intermediate_size: most, head_dim: 2, ..config() },
            "parameters, and at most",
        ),
        (ModelConfig { num_attention_heads: most, num_key_value_heads: most, head_dim: most, ..config() }, "2^44"),
        (ModelConfig { rms_norm_eps: f64::NAN, ..config() }, "rms_norm_eps = NaN"),
        (ModelConfig { rope_theta: f64::INFINITY, ..config() }, "rope_theta = inf"),
        (ModelConfig { sliding_window: Some(0), ..config() }, "sliding_window = 0"),
    ] {
        let error = config.resolved(0, 16).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn one_end_token_is_a_number_several_are_a_list() {
    for (eos_token_id, written) in [(vec![7], "7"), (vec![7, 8], "[7,8]")] {
        let config = ModelConfig { eos_token_id, ..config() };
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(value["eos_token_id"].to_string(), written);
        assert_eq!(serde_json::from_value::<ModelConfig>(value).unwrap(), config);
    }
    assert!(serde_json::to_value(config()).unwrap().get("eos_token_id").is_none());
}

#[test]
fn a_key_that_a_family_lacks_is_refused() {
    use ModelType::{Llama, Mistral, Qwen2, Qwen3};
    let windows = ModelConfig {
        sliding_window: Some(4),
        layer_types: vec![LayerType::Full, LayerType::Sliding, LayerType::Full],
        ..config()
    };
    for (changed, lacking) in [
        (ModelConfig { attention_bias: true, ..config() }, &[Mistral, Qwen2][..]),
        (ModelConfig { mlp_bias: true, ..config() }, &[Mistral, Qwen2, Qwen3]),
        (ModelConfig { sliding_window: Some(4), ..config() }, &[Llama]),
        (windows, &[Llama, Mistral]),
    ] {
        for model_type in [Llama, Mistral, Qwen2, Qwen3] {
            let resolved = ModelConfig { model_type, ..changed.clone() }.resolved(0, 16);
            assert_eq!(resolved.is_err(), lacking.contains(&model_type), "{resolved:?}");
            if let Err(error) = resolved {
                assert!(error.to_string().contains("models have no such setting"), "{error}");
            }
        }
    }
    let unsaid = ModelConfig { model_type: Qwen2, layer_types: vec![LayerType::Sliding; 3], ..config() };
    assert!(unsaid.resolved(0, 16).unwrap_err().to_string().contains("sliding_window"));
}

#[test]
fn hf_defaults_apply_where_a_file_is_silent() {
    let config = hf(json!({"eos_token_id": [7, 8], "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
    let config = config.unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.tie_word_embeddings), (32, 2, false));
    assert_eq!((config.rms_norm_eps, config.rope_theta, config.eos_token_id), (1e-6, 5e5, vec![7, 8]));
    for (model_type, key_heads, head_dim, window) in
        [("qwen2", 32, 2, None), ("qwen3", 32, 128, None), ("mistral", 8, 2, Some(4096))]
    {
        let config = hf(json!({"model_type": model_type})).unwrap();
        let found = (config.num_key_value_heads, config.head_dim, config.sliding_window);
        assert_eq!(found, (key_heads, head_dim, window), "{model_type}");
        let null = hf(json!({"model_type": model_type, "num_key_value_heads": null})).unwrap();
        assert_eq!(null.num_key_value_heads, 32, "null is as many as query heads");
    }
}

#[test]
fn what_would_change_the_forward_is_refused() {
    for (change, message) in [
        (json!({"attention_bias": 1}), "attention_bias"),
        (json!({"mlp_bias": "yes"}), "mlp_bias"),
        (json!({"hidden_act": "quick_gelu"}), "quick_gelu"),
        (json!({"some_new_key": 1}), "`some_new_key` is 1"),
        (json!({"hidden_act": 3}), "hidden_act"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
        (json!({"model_type": "cohere"}), "`rope_theta` is missing"),
        (json!({"model_type": "gpt_neox", "attention_bias": false}), "`attention_bias` is false"),
        (json!({"model_type": "falcon", "alibi": true}), "`alibi` is true"),
        (json!({"model_type": "granite", "residual_multiplier": "half"}), "`residual_multiplier` is \"half\""),
        (json!({"rope_scaling": {"rope_type": "other", "factor": 2.0}}), "`other`, this build knows `default`"),
        (json!({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}), "short_factor"),
        (json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "low_freq_factor"),
        (json!({"rope_scaling": {"rope_type": "yarn"}}), "factor"),
        (json!({"rope_scaling": {"type": "linear", "factor": -1.0}}), "rope_scaling.factor = -1"),
        (json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta": 1.0}}), "`beta`"),
        (json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "llama_4_scaling_beta": 0.1}}), "llama_4"),
        (json!({"rope_parameters": {"sliding_attention": {}, "full_attention": {}}}), "`full_attention`"),
        (
            json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 2.0}}),
            "`rope_parameters` and `rope_scaling`",
        ),
        (json!({"clip_qkv": 8.0}), "clip_qkv"),
        (json!({"residual_multiplier": 0.2}), "residual_multiplier"),
        (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        (json!({"num_key_value_heads": 3}), "multiple"),
        (json!({"head_dim": 7}), "must be even"),
        (json!({"hidden_size": null}), "hidden_size"),
        (json!({"num_hidden_layers": 1_000_000}), "num_hidden_layers"),
        (json!({"eos_token_id": "</s>"}), "a list of token ids"),
        (json!({"model_type": "mistral", "layer_types": ["full_attention"]}), "layer_types"),
        (json!({"model_type": "qwen2", "layer_types": ["linear_attention"]}), "linear_attention"),
        (
            json!({"model_type": "qwen2", "layer_types": ["sliding_attention", "full_attention", "full_attention"]}),
            "sliding_window",
        ),
    ] {
        let error = hf(change).unwrap_err();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn neutral_settings_are_no_settings() {
    let silent = hf(json!({})).unwrap();
    for same in [
        json!({"some_new_key": null, "attention_dropout": 0.1, "_name_or_path": "x", "transformers_version": "5"}),
        json!({"attention_bias": false, "partial_rotary_factor": 1.0, "clip_qkv": null, "logits_scaling": 1}),
        json!({"hidden_act": null, "rope_scaling": null, "rope_parameters": {"rope_type": "default"}}),
        json!({"rope_theta": 10000}),
    ] {
        assert_eq!(hf(same).unwrap(), silent);
    }
}

#[test]
fn both_spellings_of_the_rotary_embedding_are_one() {
    let table = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4, "rope_theta": 700.0});
    let five = hf(json!({"rope_parameters": table})).unwrap();
    let scaling = json!({"type": "yarn", "factor": 4, "original_max_position_embeddings": 4, "beta_fast": 32});
    let four = hf(json!({"rope_theta": 700, "rope_scaling": scaling})).unwrap();
    let outside = json!({"type": "yarn", "original_max_position_embeddings": 8});
    let outside = json!({"rope_theta": 700, "rope_scaling": outside, "original_max_position_embeddings": 4});
    assert_eq!((&five, &hf(outside).unwrap()), (&four, &four), "the outer length counts, and gives the factor");
    assert_eq!(five.rope_scaling.unwrap().beta_slow, Some(1.0));
}

#[test]
fn windows_are_read_as_each_family_means_them() {
    use LayerType::{Full, Sliding};
    let qwen = |changes: Value| {
        let mut all = json!({"model_type": "qwen2", "sliding_window": 7});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        hf(all).map(|config| (config.sliding_window, config.layer_types()))
    };
    let full = (None, vec![Full; 3]);
    assert_eq!(qwen(json!({})).unwrap(), full, "a size alone is no window");
    assert_eq!(qwen(json!({"use_sliding_window": true})).unwrap(), full, "the first 28 layers see everything");
    assert_eq!(qwen(json!({"use_sliding_window": true, "sliding_window": null})).unwrap(), full);
    let some = (Some(7), vec![Full, Sliding, Sliding]);
    assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 1})).unwrap(), some);
    let types = json!({"use_sliding_window": true, "max_window_layers": 3, "layer_types": some.1});
    assert_eq!(qwen(types).unwrap(), some, "types decide");
    let mistral = |window: Value| hf(json!({"model_type": "mistral", "sliding_window": window})).unwrap();
    assert_eq!(mistral(json!(7)).layer_types(), vec![Sliding; 3]);
    assert_eq!(mistral(Value::Null).sliding_window, None);
}
