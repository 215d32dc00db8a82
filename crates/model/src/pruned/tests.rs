//! Pruned models beside the same models with zeros in the place of what is left out.

use super::{PrunedConfig, PrunedModel, choice};
use crate::families::tests::examples;
use crate::{CausalLm, Companions, Error, Model, ModelConfig, Precision, PretrainedModel, Sequences, export, weights};
use burn::tensor::{DType, Device, Int, Tensor};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use tempfile::TempDir;

const TOKENS: usize = 20;

type Values = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// An example of each family with four layers, and random numbers in all of its tensors.
fn sources() -> Vec<(ModelConfig, Values)> {
    let deeper = |mut config: ModelConfig| {
        let layer_types = if config.layer_types.is_empty() { Vec::new() } else { config.layer_types.repeat(2) };
        if let Some(list) = config.settings.get_mut("no_rope_layers").and_then(|list| list.as_array_mut()) {
            *list = [list.clone(), list.clone()].concat();
        }
        ModelConfig { num_hidden_layers: 4, layer_types, ..config }
    };
    let with_values = |config: ModelConfig| {
        let begun = weights::init(&config, 3, &Device::flex());
        let noise = |i: usize, value: f32| 8.0 * value + 0.1 * (i as f32 * 0.7).sin();
        let values = |values: Vec<f32>| values.into_iter().enumerate().map(|(i, value)| noise(i, value)).collect();
        let all = begun.state_dict().map(|(name, shape, own)| (name, (shape, values(own)))).collect();
        (config, all)
    };
    examples().into_iter().map(deeper).map(with_values).collect()
}

fn built(config: &ModelConfig, values: &Values) -> Model {
    let value = |name: &str, _: &[usize]| Ok::<_, std::convert::Infallible>(values[name].1.clone());
    config.build(&Device::flex(), DType::F32, &mut { value }).unwrap()
}

fn saved(config: &ModelConfig, values: &Values) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    export::export(&built(config, values), Precision::F32, None, &Companions::default(), folder.path()).unwrap();
    folder
}

fn logits(model: &Model) -> Vec<f32> {
    let tokens = Tensor::<1, Int>::from_data([3, 1, 4, 1, 5, 9, 2, 6], &Device::flex()).reshape([2, 4]);
    let positions = Tensor::<1, Int>::from_data([0, 1, 2, 3, 4, 5, 6, 7], &Device::flex());
    let hidden = model.hidden_at(tokens, &Sequences::in_rows(2, 4), positions);
    model.head().logits(hidden).try_into_vec_as().unwrap()
}

fn pruned(folder: &TempDir, keys: &PrunedConfig, rows: RangeInclusive<usize>) -> Result<PrunedModel, Error> {
    PrunedModel::new(PretrainedModel::open(folder.path())?, keys, rows)
}

fn opened(folder: &TempDir, keys: PrunedConfig) -> PrunedModel {
    let vocab_size = 23;
    pruned(folder, &keys, TOKENS..=vocab_size).unwrap()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5 * scale, "{what}: {worst} of {scale}");
}

#[test]
fn all_layers_are_the_model_itself_bit_for_bit() {
    for (config, values) in sources() {
        let folder = saved(&config, &values);
        for layers in [None, Some(vec![0, 1, 2, 3])] {
            let model = opened(&folder, PrunedConfig { layers, ..PrunedConfig::default() });
            assert!(model.is_whole());
            assert_eq!(model.config().file_tensors(), config.file_tensors());
            assert_eq!(logits(&model.load(&Device::flex()).unwrap()), logits(&built(&config, &values)));
        }
    }
}

/// A layer whose output projections are zero adds nothing to the residual stream.
#[test]
fn a_model_without_layers_is_one_whose_layers_add_nothing() {
    for (config, mut values) in sources() {
        let folder = saved(&config, &values);
        let keys = PrunedConfig { layers: Some(vec![1, 2]), ..PrunedConfig::default() };
        if config.settings.contains_key("scale_attn_by_inverse_layer_idx") {
            let Err(Error::Refused(error)) = pruned(&folder, &keys, TOKENS..=23) else { panic!("{config:?}") };
            assert!(error.to_string().contains("scale_attn_by_inverse_layer_idx"), "{error}");
            continue;
        }
        if config.model_type().name() == "gemma4_text" && !config.layer_types.is_empty() {
            // The second of them has a window, which the last layer of such a model cannot have.
            let Err(Error::Refused(error)) = pruned(&folder, &keys, TOKENS..=23) else { panic!("{config:?}") };
            assert!(error.to_string().contains("layer_types"), "{error}");
            continue;
        }
        let model = opened(&folder, keys);
        if config.settings.contains_key("do_layer_norm_before") || config.model_type().name() == "gemma4_text" {
            // A norm behind the sum, or a factor of it, changes the residual stream even if a layer adds nothing.
            continue;
        }
        for (name, (_, values)) in &mut values {
            let is_output = ["o_proj", "out_proj", "down_proj"].iter().any(|part| name.contains(part));
            if is_output && !["layers.1.", "layers.2."].iter().any(|kept| name.contains(kept)) {
                values.fill(0.0);
            }
        }
        let what = config.model_type().name();
        assert_close(&logits(&model.load(&Device::flex()).unwrap()), &logits(&built(&config, &values)), what);
        let of_source = config.shape().layers;
        for (layer, of) in model.config().shape().layers.iter().zip([1, 2]) {
            assert_eq!(format!("{layer:?}"), format!("{:?}", of_source[of]), "{what}: all of a layer stays as it was");
        }
    }
}

/// Multiplies what belongs to some units of a layer: blocks of a weight's rows, or of its columns.
fn scale(values: &mut Values, layer: usize, part: &str, units: usize, small: &[usize], factor: f32) {
    let Some((shape, values)) = values.get_mut(&format!("model.layers.{layer}.{part}.weight")) else { return };
    let (rows, columns) = (shape[0], shape[1]);
    let in_columns = part.contains("o_proj") || part.contains("down_proj");
    for (i, value) in values.iter_mut().enumerate() {
        let unit = if in_columns { i % columns * units / columns } else { i / columns * units / rows };
        if small.contains(&unit) {
            *value *= factor;
        }
    }
}

/// Heads and channels whose columns of the output projections are zero add nothing either. Those that are left out have
/// weights of a thousandth of the size of the others.
#[test]
fn the_smallest_heads_and_channels_are_left_out_and_nothing_else_changes() {
    for (config, mut values) in sources() {
        let (groups, channels) = (config.num_key_value_heads, config.intermediate_size);
        if groups == 1 {
            continue;
        }
        let small_group = |layer: usize| [layer % groups];
        let small_channels = |layer: usize| [layer, layer + 5, layer + 9];
        for layer in 0..4 {
            for part in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"] {
                scale(&mut values, layer, part, groups, &small_group(layer), 1e-3);
            }
            for part in ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] {
                scale(&mut values, layer, part, channels, &small_channels(layer), 1e-3);
            }
        }
        let folder = saved(&config, &values);
        let shared = config.num_attention_heads / groups;
        let (num_attention_heads, intermediate_size) = (Some((groups - 1) * shared), Some(channels - 3));
        let keys = PrunedConfig { num_attention_heads, intermediate_size, ..PrunedConfig::default() };
        if let Some(key) = keeps_its_width(&config) {
            let error = match pruned(&folder, &keys, TOKENS..=23) {
                Err(Error::Refused(error)) => error.to_string(),
                other => panic!("{config:?}: {:?}", other.map(|model| model.config().clone())),
            };
            assert!(error.contains(key), "{error}");
            continue;
        }
        let model = opened(&folder, keys);
        let sizes = (model.config().num_key_value_heads, model.config().head_dim, model.config().hidden_size);
        assert_eq!(sizes, (groups - 1, config.head_dim, config.hidden_size));
        for layer in 0..4 {
            scale(&mut values, layer, "self_attn.o_proj", groups, &small_group(layer), 0.0);
            scale(&mut values, layer, "mlp.down_proj", channels, &small_channels(layer), 0.0);
        }
        let what = config.model_type().name();
        let got = logits(&model.load(&Device::flex()).unwrap());
        if !what.starts_with("olmo2") && !what.starts_with("olmo3") {
            // Norms over all heads see which heads there are.
            assert_close(&got, &logits(&built(&config, &values)), what);
        }
    }
}

/// The key that is named where a family's heads or experts cannot be cut.
fn keeps_its_width(config: &ModelConfig) -> Option<&'static str> {
    match config.model_type().name() {
        "gpt2" | "gpt_neox" | "opt" | "falcon" => Some("head_dim"),
        "gpt_oss" | "granitemoe" | "mixtral" | "qwen3_moe" => Some("intermediate_size"),
        "gemma4_text" => Some("num_attention_heads"),
        _ => None,
    }
}

#[test]
fn of_equal_scores_the_lower_index_is_kept() {
    assert_eq!(choice::largest(&[1.0, 3.0, 1.0, 3.0, 2.0], 3), [1, 3, 4]);
    assert_eq!(choice::largest(&[2.0; 4], 2), [0, 1]);
}

#[test]
fn rows_that_a_model_does_not_have_are_the_mean_of_its_tokens() {
    for (config, values) in sources() {
        let folder = saved(&config, &values);
        for wanted in [21, 23, 25] {
            let keys = PrunedConfig { vocab_size: Some(wanted), ..PrunedConfig::default() };
            let model = pruned(&folder, &keys, TOKENS..=25).unwrap();
            let loaded = model.load(&Device::flex()).unwrap();
            let rows = |name: &str| loaded.state_dict().find(|(own, _, _)| own == name).map(|(_, _, values)| values);
            for name in ["model.embed_tokens.weight", "lm_head.weight"] {
                let (Some(got), Some((shape, own))) = (rows(name), values.get(name)) else { continue };
                if shape[0] != 23 {
                    // A head with a bias has its classes in columns.
                    assert_eq!(got.len(), wanted * shape[0]);
                    continue;
                }
                let d = shape[1];
                assert_eq!(got.len(), wanted * d);
                let there = got.len().min(own.len());
                assert_eq!(got[..there], own[..there]);
                for (i, value) in got[there..].iter().enumerate() {
                    let column = own[..TOKENS * d].iter().skip(i % d).step_by(d);
                    let mean = column.map(|&x| f64::from(x)).sum::<f64>() / TOKENS as f64;
                    assert_eq!(*value, mean as f32);
                }
            }
        }
        let keys = PrunedConfig::default();
        let nearest = |rows| pruned(&folder, &keys, rows);
        assert_eq!(nearest(20..=25).unwrap().config().vocab_size(), 23, "its own rows, where they are allowed");
        assert_eq!(nearest(20..=21).unwrap().config().vocab_size(), 21);
        assert_eq!(nearest(24..=25).unwrap().config().vocab_size(), 24);
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_name() {
    let (config, values) = sources().swap_remove(0);
    let folder = saved(&config, &values);
    let refused = |keys: PrunedConfig, words: &[&str]| {
        let Err(Error::Refused(error)) = pruned(&folder, &keys, TOKENS..=23) else { panic!("{keys:?}") };
        let error = error.to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{error}"));
    };
    let layers = |layers: &[usize]| PrunedConfig { layers: Some(layers.to_vec()), ..PrunedConfig::default() };
    refused(layers(&[]), &["layers = []", "at least one"]);
    refused(layers(&[0, 4]), &["layers = [0, 4]", "0 to 3", "no layer 4"]);
    refused(layers(&[0, 2, 2]), &["2 follows 2"]);
    refused(layers(&[2, 1]), &["ascending", "1 follows 2"]);
    let heads = |count| PrunedConfig { num_attention_heads: Some(count), ..PrunedConfig::default() };
    for count in [0, 3, 6] {
        let named = format!("num_attention_heads = {count}");
        refused(heads(count), &[&named, "a multiple of 2 and at most 4", "share a key head"]);
    }
    let channels = |count| PrunedConfig { intermediate_size: Some(count), ..PrunedConfig::default() };
    [0, 21].into_iter().for_each(|count| refused(channels(count), &["intermediate_size", "1 to 20"]));
    let rows = |count| PrunedConfig { vocab_size: Some(count), ..PrunedConfig::default() };
    refused(rows(19), &["vocab_size = 19", "20 to 23", "20 tokens, none of which can be cut"]);
}
