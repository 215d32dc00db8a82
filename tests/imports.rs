//! Caches of other tools become caches of ours, that every command takes for what they are; and ours become theirs.

use crate::fixture::Fixture;
use logitcask_cache::CacheReader;
use logitcask_core::{GoldSource, RowSource, SampleId, TailSource};
use logitcask_model::PretrainedModel;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The arguments of an import of one of the samples of `data/golden/distillkit`.
fn import(name: &str, out: &str, more: &[&str]) -> Vec<String> {
    let source = repository("data/golden/distillkit").join(name);
    let teacher = repository("data/demo/teacher");
    let args = ["import", "distillkit", source.to_str().unwrap(), "--teacher", "a model that is elsewhere"];
    let target = ["--tokenizer", teacher.to_str().unwrap(), "--out", out];
    args.iter().chain(&target).chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn ok(fixture: &Fixture, args: &[String]) -> String {
    fixture.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn fails(fixture: &Fixture, args: &[String]) -> String {
    fixture.fails(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Compares a cache with what an independent implementation reads: f16 rounds a value by at most 2^-11 of it.
fn agrees(cache: &CacheReader, name: &str) {
    let expected: Value =
        serde_json::from_slice(&fs::read(repository("data/golden/distillkit/expected.json")).unwrap()).unwrap();
    let (variant, tolerance) = match name {
        "legacy" => (&expected["legacy"], 2e-5),
        name => (&expected["variants"][name], expected["variants"][name]["tolerance"].as_f64().unwrap()),
    };
    let rows = variant["rows"].as_array().unwrap();
    assert_eq!(cache.len("train").unwrap(), rows.len() as u64);
    for (id, row) in rows.iter().enumerate() {
        let cached = cache.get("train", SampleId(id as u64)).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(row["input_ids"].clone()).unwrap();
        assert_eq!((&cached.sample.input_ids, cached.sample.origin.document), (&tokens, id as u64));
        let ids: Vec<Vec<u32>> = serde_json::from_value(row["topk_ids"].clone()).unwrap();
        let log_probs: Vec<Vec<f64>> = serde_json::from_value(row["log_probs"].clone()).unwrap();
        assert_eq!(cached.rows.len(), ids.len());
        for (position, (soft, (ids, log_probs))) in cached.rows.iter().zip(ids.iter().zip(&log_probs)).enumerate() {
            let label = tokens[position + 1];
            assert_eq!(soft.gold.is_known(), ids.contains(&label), "{name}: sample {id}, position {position}");
            for (class, stored) in soft.class_ids.iter().zip(soft.log_probs) {
                let exact = log_probs[ids.iter().position(|id| id == class).unwrap()];
                let rounding = exact.abs() / 2048.0;
                assert!((f64::from(*stored) - exact).abs() <= tolerance + rounding, "{name}: {stored}, {exact}");
                assert!(*class != label || soft.gold.log_prob == *stored);
            }
        }
    }
}

#[test]
fn distillkits_files_become_a_whole_cache_that_says_what_is_missing() {
    let fixture = Fixture::new(5);
    for (name, more) in
        [("recommended", &[][..]), ("bins", &[]), ("delta", &[]), ("legacy", &["--values", "log-probs"])]
    {
        let out = ok(&fixture, &import(name, name, more));
        fixture.ok(&["verify", name]);
        let cache = CacheReader::open(&fixture.path(name)).unwrap();
        let told = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
        assert_eq!(cache.plan().keep.source, told);
        agrees(&cache, name);
        assert!(out.contains(&format!("  [cache]\n  path = \"{name}\"\n")), "{out}");
        let shown = fixture.ok(&["inspect", name, "--sample", "0"]);
        assert!(shown.contains(" - "), "{shown}");
        let shown = fixture.ok(&["inspect", name]);
        assert!(shown.contains("told no log_z, gold kept, tail mass") && shown.contains("elsewhere"), "{shown}");
    }
    // 41 rises in 36 positions; the coarse curve of `budget` holds up to 1.21 of the probability at some.
    let error = fails(&fixture, &import("budget", "budget", &[]));
    assert!(error.contains("budget/data_0.parquet: row ") && error.contains("--renormalise"), "{error}");
    let out = ok(&fixture, &import("budget", "budget-2", &["--renormalise"]));
    assert!(out.contains("17 held more than 1 of the probability, and were divided by it"), "{out}");
    fixture.ok(&["verify", "budget-2"]);
}

#[test]
fn the_same_arguments_go_on_and_others_are_refused() {
    let fixture = Fixture::new(5);
    let first = ok(&fixture, &import("delta", "cache", &[]));
    let before = fixture.cache_files();
    assert!(ok(&fixture, &import("delta", "cache", &[])).contains("everything was there already"));
    // As if it had been killed before its only unit was written.
    for lost in ["manifest.json", "_manifest/00000.json", "_commits/00000.json", "data/train-00000-of-00001.parquet"] {
        fs::remove_file(fixture.path("cache").join(lost)).unwrap();
    }
    assert_eq!(ok(&fixture, &import("delta", "cache", &[])), first);
    assert_eq!(fixture.cache_files(), before);
    for more in [&["--pad-token", "0"][..], &["--renormalise"]] {
        let error = fails(&fixture, &import("delta", "cache", more));
        assert!(error.contains("cache of another plan") && error.contains("--replace"), "{error}");
    }
    let moved = ok(&fixture, &import("delta", "cache", &["--pad-token", "0", "--replace"]));
    assert!(moved.contains("83 positions") && fixture.path("cache.old-1/manifest.json").exists(), "{moved}");
    let mut elsewhere = import("delta", "other", &[]);
    elsewhere.truncate(5);
    elsewhere.extend(["--out", "other"].map(str::to_owned));
    assert!(fails(&fixture, &elsewhere).contains("--tokenizer FOLDER"));
}

#[test]
fn splits_are_named_and_a_teacher_that_is_here_is_pinned() {
    let fixture = Fixture::new(5);
    let source = |name: &str| repository("data/golden/distillkit").join(name).display().to_string();
    let (train, test) =
        (format!("train={}", source("delta/data_0.parquet")), format!("test={}", source("delta/data_1.parquet")));
    let teacher = repository("data/demo/teacher").display().to_string();
    let args = ["import", "distillkit", &train, &test, "--teacher", &teacher, "--out", "cache", "--pad-token", "0"];
    fixture.ok(&args);
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    assert_eq!((cache.len("train").unwrap(), cache.len("test").unwrap()), (3, 2));
    let weights = PretrainedModel::open(&repository("data/demo/teacher")).unwrap().fingerprint().unwrap();
    assert_eq!(cache.plan().teacher.fingerprint, weights);
    let twice = ["import", "distillkit", &train, &train, "--teacher", &teacher, "--out", "twice"];
    assert!(fixture.fails(&twice).contains("`train` has a source already"));
}

/// A student of a few steps on `FOLDER`, whose teacher and texts are elsewhere.
const RECIPE: &str = r#"
[dataset]
path = "none/texts"
[teacher]
model = "none/teacher"
[cache]
path = "cache"
max_length = 36
selection = { kind = "top_k", k = 24 }
[student]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
[loss]
alpha = 0.9
tail = "bucket"
[train]
steps = 3
batch_size = 4
learning_rate = 1e-3
[eval]
split = "train"
"#;

#[test]
fn a_student_learns_at_the_temperature_of_the_files_and_at_no_other() {
    let fixture = Fixture::new(5);
    ok(&fixture, &import("recommended", "cache", &[]));
    fs::write(fixture.recipe(), RECIPE).unwrap();
    let train = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];
    fixture.ok(&train);
    assert!(fixture.path("run/student/model/model.safetensors").exists());
    // Positions whose kept classes hold all of the probability, or a little more by rounding.
    for (name, k, more) in [("budget", "k = 16", &["--renormalise"][..]), ("bins", "k = 18", &[])] {
        ok(&fixture, &import(name, name, more));
        fs::write(fixture.path("full.toml"), RECIPE.replace("k = 24", k).replace("\"cache\"", &format!("\"{name}\"")))
            .unwrap();
        fixture.ok(&["train", "full.toml", "--device", "cpu", "--out", &format!("run-{name}")]);
        let metrics = fs::read_to_string(fixture.path(&format!("run-{name}/student/metrics.jsonl"))).unwrap();
        assert!(!metrics.contains("null") && !metrics.contains("NaN"), "{metrics}");
    }
    fixture.edit_recipe("alpha = 0.9", "alpha = 0.9\ntemperature = 2");
    let error = fixture.fails(&["train", "recipe.toml", "--device", "cpu", "--out", "hot"]);
    assert!(error.contains("temperature = 2") && error.contains("1 over this cache"), "{error}");
    assert!(!fixture.path("hot").exists());
    let packed = ["export", "cache", "--layout", "packed", "--out", "packed"];
    fixture.ok(&packed);
    fixture.ok(&["verify", "packed"]);
}

#[test]
fn what_is_written_for_distillkit_comes_back_to_the_bit() {
    let fixture = Fixture::new(40);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["export", "cache", "--layout", "packed", "--out", "packed"]);
    let written = fixture.ok(&["export", "cache", "--to", "distillkit", "--out", "theirs"]);
    assert!(written.contains("theirs/train: ") && written.contains("theirs/test: "), "{written}");
    let import =
        ["import", "distillkit", "train=theirs/train", "test=theirs/test", "--teacher", "teacher", "--out", "back"];
    fixture.ok(&import);
    let (ours, back) =
        (CacheReader::open(&fixture.path("cache")).unwrap(), CacheReader::open(&fixture.path("back")).unwrap());
    assert_eq!(ours.plan().teacher.fingerprint, back.plan().teacher.fingerprint);
    for split in ["train", "test"] {
        let pairs = ours.in_order(split).unwrap().zip(back.in_order(split).unwrap());
        assert_eq!(ours.len(split).unwrap(), back.len(split).unwrap());
        for (a, b) in pairs {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.sample.input_ids, b.sample.input_ids);
            assert_eq!((a.rows.class_ids, a.rows.log_probs), (b.rows.class_ids, b.rows.log_probs));
        }
    }
    // The packed cache has the same values, and another id.
    let error = fixture.fails(&["export", "packed", "--to", "distillkit", "--out", "theirs"]);
    assert!(error.contains("data_0.parquet: this file is not of the cache that is exported"), "{error}");
    fixture.ok(&["export", "packed", "--to", "distillkit", "--out", "theirs-2"]);
    let file = |folder: &str| fs::read(fixture.path(folder).join("train/compression_config.yaml")).unwrap();
    assert_eq!(file("theirs"), file("theirs-2"));
    // What was interrupted goes on, and what is there stays.
    let lost = fixture.path("theirs/train/data_1.parquet");
    let bytes = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    fixture.ok(&["export", "cache", "--to", "distillkit", "--out", "theirs"]);
    assert_eq!(fs::read(&lost).unwrap(), bytes);
}

#[test]
fn a_dense_cache_is_written_in_the_order_of_its_values() {
    let fixture = Fixture::new(20);
    fixture.edit_recipe("{ kind = \"top_k\", k = 16 }", "{ kind = \"dense\" }");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["export", "cache", "--to", "distillkit", "--out", "theirs"]);
    let back = fixture.ok(&["import", "distillkit", "theirs/train", "--teacher", "teacher", "--out", "back"]);
    assert!(back.contains("  0 had values that were not in falling order"), "{back}");
    let open = |name: &str| CacheReader::open(&fixture.path(name)).unwrap().in_order("train").unwrap();
    for (ours, back) in open("cache").zip(open("back")) {
        let (ours, back) = (ours.unwrap().rows, back.unwrap().rows);
        for (ours, back) in ours.iter().zip(back.iter()) {
            let values = back.class_ids.iter().map(|id| ours.log_probs[*id as usize]);
            assert!(back.class_ids.len() == 300 && values.eq(back.log_probs.iter().copied()));
        }
    }
}

#[test]
fn what_distillkit_has_no_place_for_is_refused() {
    for (from, to, words) in [
        ("{ kind = \"top_k\", k = 16 }", "{ kind = \"top_p\", p = 0.9, k = 16 }", "different numbers of classes"),
        ("{ kind = \"top_k\", k = 16 }", "{ kind = \"sample\", n = 16 }", "drawn at random"),
        (
            "samples_per_unit = 32",
            "samples_per_unit = 32\npositions = { kind = \"share\", share = 0.5 }",
            "chosen positions",
        ),
    ] {
        let fixture = Fixture::new(20);
        fixture.edit_recipe(from, to);
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
        let error = fixture.fails(&["export", "cache", "--to", "distillkit", "--out", "theirs"]);
        assert!(error.contains(words), "{error}");
        assert!(!fixture.path("theirs").exists());
    }
    let fixture = Fixture::new(5);
    let error = fixture.fails(&["export", "teacher", "--to", "distillkit", "--out", "theirs"]);
    assert!(error.contains("this is not a cache"), "{error}");
}

#[test]
fn the_other_formats_become_whole_caches_too() {
    let fixture = Fixture::new(5);
    let teacher = repository("data/demo/teacher").display().to_string();
    let file = |name: &str| repository("data/golden/imports").join(name).display().to_string();
    let expected: Value =
        serde_json::from_slice(&fs::read(repository("data/golden/imports/expected.json")).unwrap()).unwrap();
    for (format, name, more, told) in [
        (
            "nemo",
            "nemo.jsonl",
            &[][..],
            RowSource { gold: GoldSource::Kept, tail: TailSource::Mass, ..RowSource::FULL },
        ),
        (
            "llama-cpp",
            "llama_cpp.bin",
            &["--classes", "24"],
            RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass },
        ),
    ] {
        let args = ["import", format, &file(name), "--teacher", &teacher, "--out", format];
        fixture.ok(&[&args, more].concat());
        fixture.ok(&["verify", format]);
        let cache = CacheReader::open(&fixture.path(format)).unwrap();
        assert_eq!(cache.plan().keep.source, told);
        let samples = expected[format.replace('-', "_")]["samples"].as_array().unwrap();
        assert_eq!(cache.len("train").unwrap(), samples.len() as u64);
        for (id, sample) in samples.iter().enumerate() {
            let cached = cache.get("train", SampleId(id as u64)).unwrap();
            assert_eq!(serde_json::json!(cached.sample.input_ids), sample["input_ids"]);
            let positions: Vec<usize> = cached.sample.position_indices().collect();
            assert_eq!(serde_json::json!(positions), sample["positions"]);
            for (place, row) in cached.rows.iter().enumerate() {
                let (ids, log_probs) = match format {
                    "nemo" => (&sample["ids"][place], &sample["log_probs"][place]),
                    _ => (&sample["rows"][place]["ids"], &sample["rows"][place]["log_probs"]),
                };
                let mut expected: Vec<(u32, f64)> = serde_json::from_value::<Vec<u32>>(ids.clone())
                    .unwrap()
                    .into_iter()
                    .zip(serde_json::from_value::<Vec<f64>>(log_probs.clone()).unwrap())
                    .collect();
                expected.sort_by_key(|(id, _)| *id);
                let mut kept: Vec<(u32, f32)> =
                    row.class_ids.iter().copied().zip(row.log_probs.iter().copied()).collect();
                kept.sort_by_key(|(id, _)| *id);
                assert_eq!(kept.len(), expected.len());
                for ((id, stored), (expected, log_prob)) in kept.iter().zip(&expected) {
                    let rounding = log_prob.abs() / 2048.0 + 1e-6;
                    assert!(
                        id == expected && (f64::from(*stored) - log_prob).abs() <= rounding,
                        "{stored}, {log_prob}"
                    );
                }
                if format == "nemo" {
                    let log_z = sample["log_z"][place].as_f64().unwrap();
                    assert!((f64::from(row.log_z) - log_z).abs() < 1e-5, "{} {log_z}", row.log_z);
                }
            }
        }
    }
}

#[test]
fn megatrons_files_and_their_tokens_become_whole_caches() {
    let fixture = Fixture::new(5);
    let teacher = repository("data/demo/teacher").display().to_string();
    let folder = |name: &str| repository("data/golden/imports/megatron").join(name).display().to_string();
    let expected: Value = serde_json::from_slice(&fs::read(folder("expected.json")).unwrap()).unwrap();
    let command = |name: &str, tokens: &str| {
        let args = ["import", "megatron", &folder(name), "--tokens", tokens, "--teacher", &teacher, "--out", name];
        args.map(str::to_owned)
    };
    for (name, selection) in [("version-1", "top_p p=0.3 k=8"), ("version-2", "top_k k=8")] {
        let said = ok(&fixture, &command(name, &folder(&format!("{name}/tokens.jsonl"))));
        assert!(said.contains(" have their label among the kept classes"), "{said}");
        fixture.ok(&["verify", name]);
        let cache = CacheReader::open(&fixture.path(name)).unwrap();
        let told = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
        assert_eq!((cache.plan().keep.source, &*cache.plan().selection()), (told, selection));
        let samples = expected[name]["samples"].as_array().unwrap();
        assert_eq!(cache.len("train").unwrap(), samples.len() as u64);
        for id in 0..samples.len() as u64 {
            let cached = cache.get("train", SampleId(id)).unwrap();
            let sample = &samples[cached.sample.origin.document as usize];
            assert_eq!(serde_json::json!(cached.sample.input_ids), sample["input_ids"]);
            for (place, row) in cached.rows.iter().enumerate() {
                let ids: Vec<u32> = serde_json::from_value(sample["ids"][place].clone()).unwrap();
                let log_probs: Vec<f64> = serde_json::from_value(sample["log_probs"][place].clone()).unwrap();
                assert_eq!(row.class_ids.len(), ids.len());
                for (class, stored) in row.class_ids.iter().zip(row.log_probs) {
                    let exact = log_probs[ids.iter().position(|id| id == class).unwrap()];
                    assert!((f64::from(*stored) - exact).abs() <= exact.abs() / 2048.0 + 1e-6, "{stored}, {exact}");
                }
            }
        }
    }
    let error = fails(&fixture, &command("wide", &folder("wide/tokens.jsonl")));
    assert!(error.contains("but the tokenizer has 2048 tokens"), "{error}");
    let error = fails(&fixture, &command("version-2", &format!("test={}", folder("version-2/tokens.jsonl"))));
    assert!(error.contains("the files hold no tokens; name those of the split with --tokens train=PATH"), "{error}");
}
