//! Students that start from an existing model: whole, pruned, with frozen parts, or with adapters.

use crate::fixture::{Fixture, texts, write_teacher};
use logitcask_cache::CacheReader;
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_model::{CausalLm, Companions, DeviceChoice, ModelConfig, Precision, PretrainedModel, export, weights};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// A fixture with a filled cache, and another model with the teacher's tokenizer in the folder source.
fn cached() -> Fixture {
    let fixture = Fixture::new(80);
    fixture.ok(&CACHE);
    write_source(&fixture, &serde_json::json!({}), 2);
    fixture
}

/// Writes a model of three layers with these keys into the folder source.
fn write_source(fixture: &Fixture, keys: &Value, seed: u64) {
    let mut all = serde_json::json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
    });
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let config = serde_json::from_value::<ModelConfig>(all).unwrap().resolved(300, 64).unwrap();
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = weights::init(&config, seed, &device);
    let tokenizer = fs::read(fixture.path("teacher/tokenizer.json")).unwrap();
    let folder = fixture.path("source");
    export::export(&model, Precision::F32, Some(&tokenizer), &Companions::default(), &folder).unwrap();
}

/// Replaces the recipe's student, and its settings of training.
fn set(fixture: &Fixture, student: &str, train: &str) {
    fixture.write_recipe("");
    let text = fs::read_to_string(fixture.recipe()).unwrap();
    let (before, rest) = text.split_once("[student]").unwrap();
    let (_, after) = rest.split_once("[loss]").unwrap();
    let source = fixture.path("source").display().to_string();
    let train = if train.contains("steps = ") { train.to_owned() } else { format!("{TRAINING}{train}") };
    let (loss, _) = after.split_once("[train]").unwrap();
    let text = format!("{before}[student]\nfrom = \"{source}\"\n{student}\n\n[loss]{loss}[train]\n{train}\n");
    fs::write(fixture.recipe(), text).unwrap();
}

const TRAINING: &str = "steps = 12\nbatch_size = 4\naccumulate = 2\nlearning_rate = 1e-2\nwarmup = 2\n\
    checkpoint_every = 5\n";

/// One step with the whole learning rate.
const ONE_STEP: &str = "steps = 1\nbatch_size = 4\nlearning_rate = 1e-2\nweight_decay = 0.0\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn refused(fixture: &Fixture, words: &[&str]) {
    let error = fixture.fails(&TRAIN);
    for word in words {
        assert!(error.contains(word), "it should mention `{word}`:\n{error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(folder: &Path) -> Tensors {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = PretrainedModel::open(folder).unwrap().load(&device, Precision::F32).unwrap();
    model.state_dict().map(|(name, shape, values)| (name, (shape, values))).collect()
}

/// Trains, and returns the tensors of the student and of the model that it started from.
fn trained(fixture: &Fixture) -> (Tensors, Tensors) {
    fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
    (tensors(&fixture.path("run/student/model")), tensors(&fixture.path("source")))
}

#[test]
fn the_first_loss_is_that_of_the_model_it_starts_from() {
    let fixture = cached();
    let samples = CacheReader::open(&fixture.path("cache")).unwrap().len("train").unwrap();
    let args = ["eval", "source", "--cache", "cache", "--split", "train", "--device", "cpu", "--json"];
    let wanted = json(&fixture.ok(&args));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    // A divergence this small is a difference of log-probabilities near -6, each rounded to f32.
    let close = |got: f64, wanted: f64, what: &str| {
        assert!((got - wanted).abs() < 1e-7 * wanted.abs().max(1.0), "{what}: {got}, evaluated {wanted}");
    };
    let cases = [
        ("", ""),
        ("layers = [0, 1, 2]", ""),
        ("num_attention_heads = 4\nintermediate_size = 48", "freeze = [\"embed_tokens\", \"layers.0\"]"),
        ("", "lora = { rank = 3, alpha = 6, targets = [\"self_attn\", \"down_proj\"] }"),
    ];
    for (student, train) in cases {
        // A step over all samples.
        set(&fixture, student, &format!("steps = 1\nbatch_size = {samples}\nlearning_rate = 1e-3\n{train}"));
        fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
        let metrics = fs::read_to_string(fixture.path("run/student/metrics.jsonl")).unwrap();
        let first = json(metrics.lines().next().unwrap());
        assert_eq!(first["positions"], wanted["positions"]);
        close(number(&first, "cross_entropy"), number(&wanted, "perplexity").ln(), "cross entropy");
        close(number(&first, "divergence"), number(&wanted, "kl_to_teacher"), "KL");
        let test = json(&fixture.ok(&["eval", "source", "--cache", "cache", "--device", "cpu", "--json"]));
        let summary = json(&fs::read_to_string(fixture.path("run/summary.json")).unwrap());
        close(number(&summary["before"], "perplexity"), number(&test, "perplexity"), "before");
        let exported =
            json(&fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu", "--json"]));
        close(number(&summary["student"], "perplexity"), number(&exported, "perplexity"), "exported");
    }
}

#[test]
fn a_run_that_was_stopped_gives_the_same_bytes() {
    let fixture = cached();
    let cases = [
        ("layers = [0, 2]\nnum_attention_heads = 2\nintermediate_size = 24", "freeze = [\"embed_tokens\"]"),
        ("", "parts = [{ part = \"mlp\", learning_rate = 1e-3 }, { part = \"q_proj\", weight_decay = 0.5 }]"),
        ("", "lora = { rank = 2, alpha = 4, targets = [\"q_proj\", \"mlp\"] }"),
    ];
    for (student, train) in cases {
        set(&fixture, student, train);
        let outcome = || {
            let folder = fixture.path("run/student");
            let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
            (metrics, fs::read(folder.join("model/model.safetensors")).unwrap())
        };
        fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
        let whole = outcome();
        assert_eq!(whole.0.lines().count(), 12);
        // As if the run was killed after step 10, before its last checkpoint.
        fs::remove_dir_all(fixture.path("run/student/checkpoints/step-00000012")).unwrap();
        fs::remove_dir_all(fixture.path("run/student/model")).unwrap();
        fixture.ok(&TRAIN);
        assert!(outcome() == whole, "{student} {train}");
    }
}

#[test]
fn layers_that_are_computed_again_give_the_same_bytes() {
    let fixture = cached();
    let cases = [
        ("", ""),
        ("layers = [0, 2]", "freeze = [\"embed_tokens\", \"layers.0\"]"),
        ("", "lora = { rank = 2, alpha = 4, targets = [\"layers\"] }"),
    ];
    for (student, train) in cases {
        let outcome = |train: &str| {
            set(&fixture, student, train);
            fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
            let folder = fixture.path("run/student");
            let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
            (metrics, fs::read(folder.join("model/model.safetensors")).unwrap())
        };
        let kept = outcome(train);
        assert!(outcome(&format!("gradient_checkpointing = true\n{train}")) == kept, "{student} {train}");
    }
}

#[test]
fn frozen_parts_stay_as_they_are_and_all_others_change() {
    let fixture = cached();
    let frozen = |name: &str| name.contains("embed_tokens") || name.contains("layers.1.") || name.contains("k_proj");
    set(&fixture, "", "freeze = [\"embed_tokens\", \"layers.1\", \"k_proj\"]");
    let (student, source) = trained(&fixture);
    for (name, values) in &source {
        assert_eq!(student[name] == *values, frozen(name), "{name}");
    }
    // Of a separate head alone, hidden states are in no graph.
    write_source(&fixture, &serde_json::json!({"tie_word_embeddings": false}), 2);
    set(&fixture, "", "freeze = [\"model\"]");
    let (student, source) = trained(&fixture);
    for (name, values) in &source {
        assert_eq!(student[name] == *values, name != "lm_head.weight", "{name}");
    }
    set(&fixture, "", "freeze = [\"lm_head\"]");
    let (student, source) = trained(&fixture);
    for (name, values) in &source {
        assert_eq!(student[name] == *values, name == "lm_head.weight", "{name}");
    }
}

/// The size of what remains of a matrix without its `rank` largest directions, relative to its size.
fn beyond_rank((shape, mut values): (Vec<usize>, Vec<f64>), rank: usize) -> f64 {
    let columns = shape[1];
    let square = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    let whole = square(&values);
    for _ in 0..rank {
        let longest = values.chunks(columns).max_by(|a, b| square(a).total_cmp(&square(b))).unwrap().to_vec();
        for row in values.chunks_mut(columns) {
            let along = row.iter().zip(&longest).map(|(a, b)| a * b).sum::<f64>() / square(&longest);
            row.iter_mut().zip(&longest).for_each(|(a, b)| *a -= along * b);
        }
    }
    (square(&values) / whole).sqrt()
}

#[test]
fn adapters_change_their_targets_by_a_matrix_of_low_rank_and_nothing_else() {
    let fixture = cached();
    set(&fixture, "", "lora = { rank = 2, alpha = 4, targets = [\"q_proj\", \"layers.0.mlp\"] }");
    let (student, source) = trained(&fixture);
    for (name, (shape, values)) in &source {
        let is_target = name.contains("q_proj") || name.contains("layers.0.mlp");
        assert_eq!(student[name].1 != *values, is_target, "{name}");
        if is_target {
            let change = student[name].1.iter().zip(values).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
            let change = (shape.clone(), change);
            assert!(beyond_rank(change.clone(), 1) > 0.01, "{name} has both directions");
            assert!(beyond_rank(change, 2) < 1e-4, "{name}");
        }
    }
    let config = json(&fs::read_to_string(fixture.path("run/student/model/config.json")).unwrap());
    assert_eq!(config["model_type"], "llama");
    assert!(!fixture.path("run/student/model/adapter_config.json").exists(), "an ordinary model");
}

#[test]
fn parts_have_their_own_learning_rate_and_decay() {
    let fixture = cached();
    set(&fixture, "", "parts = [{ part = \"mlp\", learning_rate = 1e-30 }]");
    let (student, source) = trained(&fixture);
    for (name, values) in &source {
        assert_eq!(student[name] == *values, name.contains("mlp"), "{name}");
    }
    // Decoupled decay: a step takes rate * decay * weight away, in addition to the same step without it.
    set(&fixture, "", ONE_STEP);
    let (plain, source) = trained(&fixture);
    set(&fixture, "", &format!("{ONE_STEP}parts = [{{ part = \"layers.1\", weight_decay = 5.0 }}]"));
    let (decayed, _) = trained(&fixture);
    for (name, (shape, before)) in &source {
        let decay = if name.contains("layers.1.") && shape.len() == 2 { 1e-2 * 5.0 } else { 0.0 };
        for (i, before) in before.iter().enumerate() {
            let wanted = f64::from(plain[name].1[i]) - decay * f64::from(*before);
            assert!((f64::from(decayed[name].1[i]) - wanted).abs() < 1e-7, "{name}[{i}]");
        }
    }
}

#[test]
fn a_run_belongs_to_the_model_it_starts_from_wherever_that_lies() {
    let fixture = cached();
    set(&fixture, "layers = [0, 2]", "");
    fixture.ok(&TRAIN);
    let result = fs::read(fixture.path("run/student/model/model.safetensors")).unwrap();
    fs::rename(fixture.path("source"), fixture.path("moved")).unwrap();
    fixture.edit_recipe("/source\"", "/moved\"");
    let output = fixture.run(&TRAIN);
    assert!(String::from_utf8_lossy(&output.stderr).contains("already complete"), "the same model in another place");
    assert_eq!(fs::read(fixture.path("run/student/model/model.safetensors")).unwrap(), result);
    fixture.edit_recipe("layers = [0, 2]", "layers = [1, 2]");
    refused(&fixture, &["[student] layers: [0,2] here, [1,2] wanted"]);
    fixture.edit_recipe("layers = [1, 2]", "layers = [0, 2]");
    fixture.edit_recipe("warmup = 2", "warmup = 2\nfreeze = [\"norm\"]");
    refused(&fixture, &["[train] freeze: nothing here, [\"norm\"] wanted"]);
    fixture.edit_recipe("freeze = [\"norm\"]", "");
    write_source(&fixture, &serde_json::json!({}), 3);
    fixture.edit_recipe("/moved\"", "/source\"");
    refused(&fixture, &["[student] from: the model ", " here, ", "--replace"]);
}

#[test]
fn the_exported_student_keeps_family_keys_and_companions() {
    let fixture = cached();
    let types = ["full_attention", "sliding_attention", "full_attention"];
    let keys = serde_json::json!({"model_type": "qwen2", "sliding_window": 5, "layer_types": types});
    write_source(&fixture, &keys, 4);
    let path = fixture.path("source/config.json");
    let mut config = json(&fs::read_to_string(&path).unwrap());
    config["pad_token_id"] = 7.into();
    config["_of_its_authors"] = "kept".into();
    fs::write(&path, config.to_string()).unwrap();
    let companions = [
        ("generation_config.json", "{\"eos_token_id\": [0, 5], \"temperature\": 0.6}"),
        ("chat_template.jinja", "{{ messages }}"),
    ];
    companions.iter().for_each(|(name, text)| fs::write(fixture.path("source").join(name), text).unwrap());
    set(&fixture, "layers = [0, 1]\nnum_attention_heads = 2", "");
    fixture.ok(&TRAIN);
    let exported = fixture.path("run/student/model");
    let text = |name: &str| fs::read_to_string(exported.join(name)).unwrap();
    companions.iter().for_each(|(name, wanted)| assert_eq!(text(name), *wanted));
    let source = |name: &str| fs::read_to_string(fixture.path("source").join(name)).unwrap();
    assert_eq!(text("tokenizer.json"), source("tokenizer.json"));
    let got = json(&text("config.json"));
    let wanted = serde_json::json!({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "hidden_size": 32, "sliding_window": 5, "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"], "pad_token_id": 7, "_of_its_authors": "kept",
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&got[key], value, "{key}");
    }
    fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let fixture = cached();
    let refuse = |student: &str, train: &str, words: &[&str]| {
        set(&fixture, student, train);
        refused(&fixture, words);
        assert!(!fixture.path("run").exists(), "{student} {train}");
    };
    refuse("hidden_size = 32", "", &["`hidden_size`", "`layers`", "everything else from that model"]);
    refuse("layers = []", "", &["[student]", "layers = []"]);
    refuse("layers = [0, 3]", "", &["layers = [0, 3]", "no layer 3"]);
    refuse("num_attention_heads = 3", "", &["num_attention_heads = 3", "a multiple of 2"]);
    refuse("vocab_size = 299", "", &["vocab_size = 299", "300 tokens"]);
    refuse("vocab_size = 301", "", &["vocab_size = 301", "300 to 300"]);
    refuse("", "freeze = [\"embed\"]", &["[train] freeze = \"embed\"", "`embed_tokens`"]);
    refuse("", "freeze = [\"model\"]", &["leaves nothing to train"]);
    refuse("", "lora = { rank = 2, alpha = 4, targets = [\"lm_head\"] }", &["lora.targets = \"lm_head\"", "`q_proj`"]);
    refuse("", "[[train.parts]]\npart = \"lm_head\"\nlearning_rate = 1e-3", &["parts[0].part = \"lm_head\""]);
    set(&fixture, "", "");
    fixture.edit_recipe("/source\"", "/nowhere\"");
    refused(&fixture, &["nowhere", "no such file or folder"]);

    // Another tokenizer, and a context that is shorter than the windows.
    let other = train_byte_level_bpe(texts(60).into_iter(), 300).unwrap();
    write_teacher(&fixture.path("source"), 2, 300, other.json());
    set(&fixture, "", "");
    refused(&fixture, &["source", "tokenizer is not the one of the data"]);
    // The same file, but another token is a special one.
    write_source(&fixture, &serde_json::json!({}), 2);
    fs::write(fixture.path("source/tokenizer_config.json"), r#"{"pad_token": "e"}"#).unwrap();
    refused(&fixture, &["source", "tokenizer is not the one of the data", "1 of them in tokenizer_config.json"]);
    write_source(&fixture, &serde_json::json!({"max_position_embeddings": 32}), 2);
    refused(&fixture, &["context of 32", "windows of 48"]);
    fixture.write_recipe("lora = { rank = 2, alpha = 4, targets = [\"q_proj\"] }");
    refused(&fixture, &["[train] lora", "[student] from"]);
}

#[test]
fn a_recipe_that_extends_one_with_a_shape_can_name_a_model_instead() {
    let fixture = cached();
    fs::rename(fixture.recipe(), fixture.path("base.toml")).unwrap();
    let own = "extends = \"base.toml\"\n[student]\nfrom = \"source\"\nlayers = [0]\n";
    fs::write(fixture.recipe(), own).unwrap();
    fixture.ok(&TRAIN);
    let config = json(&fs::read_to_string(fixture.path("run/student/model/config.json")).unwrap());
    assert_eq!((&config["num_hidden_layers"], &config["hidden_size"]), (&1.into(), &32.into()));
    fs::write(fixture.recipe(), format!("{own}num_attention_head = 2\n")).unwrap();
    refused(&fixture, &["recipe.toml (over ", "`num_attention_head`", "`num_attention_heads`"]);
}
