//! In every committed family, a part that a recipe names is what is frozen, adapted or trained differently, and nothing else.

use super::*;
use burn::optim::GradientsParams;
use burn::tensor::Int;
use burn::tensor::activation::log_softmax;
use logitcask_model::{DeviceChoice, ModelConfig, Precision, PretrainedModel, Sequences};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Values by the names of parameters.
type Values = BTreeMap<String, Vec<f32>>;

/// The committed checkpoints, in training.
fn families() -> Vec<(String, Model)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/families");
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let device = DeviceChoice::Cpu.open().unwrap().0.autodiff();
    let open = |folder: &std::path::PathBuf| {
        let model = PretrainedModel::open(folder).unwrap().load(&device, Precision::F32).unwrap();
        (folder.file_name().unwrap().to_string_lossy().into_owned(), model)
    };
    folders.iter().map(open).collect()
}

fn config(keys: &Value) -> TrainConfig {
    let mut all = json!({"steps": 1, "batch_size": 1, "learning_rate": 1e-2, "weight_decay": 0.0});
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let config: TrainConfig = serde_json::from_value(all).unwrap();
    config.check().unwrap();
    config
}

fn values(model: &Model) -> Values {
    model.state_dict().map(|(name, _, values)| (name, values)).collect()
}

/// The loss of the next token of 8 texts of 16 tokens, so many that every expert is chosen by some.
fn loss(model: &Model) -> Tensor<1> {
    let mut rng = CounterRng::new("texts of the test", &[]);
    let tokens: Vec<i64> = (0..8 * 16).map(|_| (rng.uniform() * model.vocab_size() as f64) as i64).collect();
    let next: Vec<i64> = tokens.iter().map(|token| (token + 7) % model.vocab_size() as i64).collect();
    let int = |values: Vec<i64>, shape: [usize; 2]| {
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), &model.device())
    };
    let hidden = model.hidden(int(tokens, [8, 16]), &Sequences::in_rows(8, 16));
    let [rows, width, size] = hidden.dims();
    let logits = model.head().logits(hidden.reshape([rows * width, size]));
    -log_softmax(logits, 1).gather(1, int(next, [8 * 16, 1])).mean()
}

/// The weights after one step.
fn trained(start: &Model, keys: &Value) -> Values {
    let config = config(keys);
    config.check_parts(start.config()).unwrap();
    let model = prepared(start.clone(), &config);
    let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
    let mut optimizer = optimizer(&model, &config);
    let (rates, _) = LearningRates::new(&model, &config).at(0);
    let model = optimizer.step(rates, model, grads);
    values(&model.valid().materialize())
}

/// The parameters whose values differ.
fn differing(a: &Values, b: &Values) -> BTreeSet<String> {
    a.iter().filter(|(name, values)| b[*name] != **values).map(|(name, _)| name.clone()).collect()
}

/// Every name of a part that has no number, and some that have.
fn all_parts(config: &ModelConfig) -> BTreeSet<String> {
    let names = config.named_parameters().into_iter().map(|(name, _)| name);
    let components: BTreeSet<String> =
        names.flat_map(|name| name.split('.').map(str::to_owned).collect::<Vec<_>>()).collect();
    let named = components.into_iter().filter(|part| part != "model" && part.parse::<usize>().is_err());
    named.chain(["layers.0", "layers.1.mlp", "self_attn.k_proj"].map(str::to_owned)).collect()
}

/// Whether a parameter belongs to a part, by its text.
fn belongs(name: &str, part: &str) -> bool {
    format!(".{name}.").contains(&format!(".{part}."))
}

#[test]
fn what_is_frozen_stays_and_all_else_is_trained() {
    for (family, start) in families() {
        let before = values(&start);
        for part in all_parts(start.config()) {
            // A model of which only biases are trained, or only matrices, is one too.
            let left: BTreeSet<String> = before.keys().filter(|name| !belongs(name, &part)).cloned().collect();
            let freeze = json!({"freeze": [part]});
            if left.is_empty() {
                let error = config(&freeze).check_parts(start.config()).unwrap_err().to_string();
                assert!(error.contains("leaves nothing to train"), "{family}: {part}: {error}");
                continue;
            }
            let changed = differing(&before, &trained(&start, &freeze));
            assert_eq!(changed, left, "{family}: {part}");
        }
    }
}

#[test]
fn adapters_change_the_linear_maps_of_their_targets_and_nothing_else() {
    for (family, start) in families() {
        let before = values(&start);
        let shapes: BTreeMap<String, usize> = start.state_dict().map(|(name, shape, _)| (name, shape.len())).collect();
        let is_linear = |name: &&String| name.starts_with("model.layers.") && shapes[*name] == 2;
        for part in all_parts(start.config()) {
            let lora = json!({"lora": {"rank": 2, "alpha": 4, "targets": [part]}});
            let targets: BTreeSet<String> =
                before.keys().filter(is_linear).filter(|name| belongs(name, &part)).cloned().collect();
            if targets.is_empty() {
                let error = config(&lora).check_parts(start.config()).unwrap_err().to_string();
                assert!(error.contains(&format!("lora.targets = \"{part}\"")) && error.contains("`q_proj`"), "{error}");
                continue;
            }
            assert_eq!(differing(&before, &trained(&start, &lora)), targets, "{family}: {part}");
        }
    }
}

#[test]
fn rates_and_decay_are_those_of_the_part() {
    for (family, start) in families() {
        let usual = trained(&start, &json!({}));
        let matrices: BTreeSet<String> =
            start.state_dict().filter(|(_, shape, _)| shape.len() == 2).map(|(name, ..)| name).collect();
        for part in all_parts(start.config()) {
            let expected: BTreeSet<String> = usual.keys().filter(|name| belongs(name, &part)).cloned().collect();
            let rate = json!({"parts": [{"part": part, "learning_rate": 1e-3}]});
            assert_eq!(differing(&usual, &trained(&start, &rate)), expected, "{family}: {part}");
            let decay = json!({"parts": [{"part": part, "weight_decay": 0.5}]});
            let decayed: BTreeSet<String> = expected.intersection(&matrices).cloned().collect();
            if decayed.is_empty() {
                let error = config(&decay).check_parts(start.config()).unwrap_err().to_string();
                assert!(error.contains("parts[0].weight_decay = 0.5"), "{family}: {error}");
                continue;
            }
            assert_eq!(differing(&usual, &trained(&start, &decay)), decayed, "{family}: {part}");
        }
    }
}

#[test]
fn names_of_files_are_refused_with_the_names_that_are_meant() {
    let mut refused = BTreeSet::new();
    for (family, start) in families() {
        let known = all_parts(start.config());
        for (name, _) in start.config().file_tensors() {
            let is_theirs = |part: &&str| !known.contains(*part) && *part != "model" && part.parse::<usize>().is_err();
            for part in name.split('.').filter(is_theirs) {
                let keys = [json!({"freeze": [part]}), json!({"lora": {"rank": 2, "alpha": 4, "targets": [part]}})];
                for keys in keys {
                    let error = config(&keys).check_parts(start.config()).unwrap_err().to_string();
                    assert!(error.contains(&format!("\"{part}\" was given")), "{family}: {error}");
                    assert!(error.contains("here it is `"), "{family}: {error}");
                }
                refused.insert(part.to_owned());
            }
        }
    }
    for part in ["c_attn", "qkv_proj", "query_key_value", "dense_h_to_4h", "pre_feedforward_layernorm", "fc1"] {
        assert!(refused.contains(part), "{part}: {refused:?}");
    }
    let (_, gpt2) = families().into_iter().find(|(family, _)| family == "gpt2_hub").unwrap();
    let error = config(&json!({"freeze": ["c_attn"]})).check_parts(gpt2.config()).unwrap_err().to_string();
    assert!(error.contains("in files of `gpt2`, and here it is `k_proj`, `q_proj`, `v_proj`"), "{error}");
}
