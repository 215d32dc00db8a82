//! Every mistake of a user results in an error that names it.

use crate::fixture::{Fixture, config, texts, write_teacher};
use logitcask_data::tokenizer::train_byte_level_bpe;
use std::fs;

/// Checks that `args` fail with an error that contains all `words`.
fn fails_with(fixture: &Fixture, args: &[&str], words: &[&str]) {
    let error = fixture.fails(args);
    for word in words {
        assert!(error.contains(word), "{args:?} should mention `{word}`:\n{error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

#[test]
fn help_shows_examples() {
    let fixture = Fixture::new(5);
    for command in ["cache", "train", "eval", "inspect", "generate", "import", "serve", "export", "tokenizer"] {
        let help = fixture.ok(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("logitcask {command}")), "{help}");
    }
}

#[test]
fn recipe_mistakes_name_file_and_key() {
    let fixture = Fixture::new(5);
    fails_with(&fixture, &["cache", "nowhere.toml"], &["nowhere.toml", "cannot read"]);
    for (from, to, words) in [
        ("alpha = 0.5", "alfa = 0.5", &["recipe.toml", "alfa"][..]),
        ("[loss]", "[los]", &["recipe.toml", "unknown key `los`", "`extends`", "`dataset`", "`loss`"]),
        ("alpha = 0.5", "alpha = 1.5", &["alpha", "it must be 0 to 1"]),
        ("k = 16", "k = 301", &["k = 301", "1 to 300"]),
        ("accumulate = 2", "accumulate = 3", &["accumulate", "divisor"]),
        ("{ kind = \"top_k\", k = 16 }", "{ kind = \"dense\", k = 16 }", &["unknown key `k`"]),
        ("max_length = 48", "max_length = 65", &["max_length = 65", "context of 64"]),
        ("max_length = 48", "max_length = 1", &["max_length"]),
        (
            "num_hidden_layers = 1",
            "num_hiden_layers = 1",
            &["| num_hiden_layers = 1", "unknown key `num_hiden_layers`"],
        ),
        ("num_hidden_layers = 1", "num_hidden_layers = \"1\"", &["| num_hidden_layers = \"1\"", "a whole number"]),
        ("[student]", "[student]\nmodel_type = \"gpt9\"", &["unknown value `gpt9`", "`llama`, `cohere`"]),
        ("[student]", "[student]\nmodel_type = 9", &["model_type = 9"]),
    ] {
        fixture.edit_recipe(from, to);
        fails_with(&fixture, &CACHE, words);
        fixture.write_recipe("");
    }
    fixture
        .edit_recipe("steps = 12", "steps = 12\npruning = { share = 0.5 }\nschedule = { kind = \"wsd\", decay = 0.0 }");
    fails_with(&fixture, &TRAIN, &["schedule.decay = 0", "floor = 1.0"]);
    fixture.edit_recipe("decay = 0.0", "decay = 0.5");
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.0");
    fails_with(&fixture, &TRAIN, &["[train] pruning", "alpha = 0"]);
    fixture.write_recipe("");
    fixture.edit_recipe("[teacher]", "[tokenizer]\npath = \"x\"\n\n[teacher]");
    fails_with(&fixture, &CACHE, &["[tokenizer]", "[teacher]"]);
    fixture.write_recipe("");
    let over = "extends = \"recipe.toml\"\n[student]\nnum_hidden_layers = \"1\"\n";
    fs::write(fixture.path("over.toml"), over).unwrap();
    fails_with(&fixture, &["cache", "over.toml"], &["over.toml", "student.num_hidden_layers"]);
    fs::write(fixture.path("corpus.parquet"), b"PAR1\xff\xfe").unwrap();
    for other in ["texts.jsonl", "corpus.parquet", "teacher"] {
        fails_with(&fixture, &["cache", other], &[other, "not a recipe", "TOML"]);
    }
}

#[test]
fn a_student_may_name_its_family() {
    let fixture = Fixture::new(5);
    fixture.edit_recipe("[student]", "[student]\nmodel_type = \"llama\"");
    fixture.ok(&CACHE);
}

#[test]
fn data_mistakes_name_file_and_place() {
    let fixture = Fixture::new(5);
    for (text, words) in [
        ("", &["texts.jsonl"][..]),
        ("{\"text\": \"  \"}\n", &["texts.jsonl"]),
        ("{\"text\": \"a b\"}\n{\"text\": \n", &["texts.jsonl", "2"]),
        ("{\"body\": \"a b\"}\n", &["texts.jsonl", "text", "body"]),
    ] {
        fs::write(fixture.path("texts.jsonl"), text).unwrap();
        fails_with(&fixture, &CACHE, words);
    }
    fs::remove_file(fixture.path("texts.jsonl")).unwrap();
    fails_with(&fixture, &CACHE, &["texts.jsonl"]);
}

#[test]
fn model_mistakes_name_the_tensor() {
    let fixture = Fixture::new(5);
    let config_path = fixture.path("teacher/config.json");
    let config = fs::read_to_string(&config_path).unwrap();
    let norms = "model.layers.2.input_layernorm.weight";
    for (from, to, words) in [
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", &[norms, "missing"][..]),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", &["model.layers.1.", "no place"]),
        ("\"intermediate_size\": 48", "\"intermediate_size\": 47", &["mlp", "[48, 32]", "[47, 32]"]),
        ("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", &["lm_head.weight", "missing"]),
        ("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"", &["config.json", "gpt2"]),
    ] {
        assert!(config.contains(from), "{config}");
        fs::write(&config_path, config.replace(from, to)).unwrap();
        fails_with(&fixture, &CACHE, words);
    }
    fs::write(&config_path, config).unwrap();
    let weights = fixture.path("teacher/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 3]).unwrap();
    fails_with(&fixture, &CACHE, &["model.safetensors", "cut off"]);
    fs::remove_file(&weights).unwrap();
    fails_with(&fixture, &CACHE, &["model.safetensors"]);
    fs::remove_file(fixture.path("teacher/config.json")).unwrap();
    fails_with(&fixture, &CACHE, &["teacher", "config.json"]);
    fails_with(&fixture, &["generate", "no-model"], &["no-model", "no such file"]);
}

#[test]
fn a_foreign_tokenizer_is_refused() {
    let fixture = Fixture::new(40);
    let larger = train_byte_level_bpe(texts(40).into_iter(), 301).unwrap();
    fs::write(fixture.path("teacher/tokenizer.json"), larger.json()).unwrap();
    fails_with(&fixture, &CACHE, &["301", "300", "belong together"]);

    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    let other = train_byte_level_bpe(["quite other words here".to_owned()].into_iter().cycle().take(9), 270).unwrap();
    write_teacher(&fixture.path("other"), 7, 300, other.json());
    assert_eq!(config().vocab_size(), 300);
    fails_with(&fixture, &["eval", "other", "--cache", "cache", "--device", "cpu"], &["tokenizer"]);
}

#[test]
fn another_plan_is_refused_with_what_differs_and_replaced_on_request() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    fixture.edit_recipe("k = 16", "k = 8");
    fails_with(&fixture, &CACHE, &["k=16", "k=8", "--replace"]);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
    assert!(fixture.path("cache.old-1/manifest.json").is_file(), "the old cache is moved, not removed");

    fixture.ok(&TRAIN);
    fixture.edit_recipe("steps = 12", "steps = 13");
    fails_with(&fixture, &TRAIN, &["another recipe", "--replace"]);
}

#[test]
fn a_damaged_cache_teaches_nobody() {
    let fixture = Fixture::new(60);
    fails_with(&fixture, &TRAIN, &["cache", "logitcask cache"]);
    fixture.ok(&CACHE);
    let shard = fs::read_dir(fixture.path("cache/data")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let name = shard.file_name().unwrap().to_string_lossy().into_owned();
    let good = fs::read(&shard).unwrap();

    // Shards that are read only for the evaluation are checked before the training.
    let judged = fs::read_dir(fixture.path("cache/data")).unwrap().map(|e| e.unwrap().path());
    let judged = judged.into_iter().find(|path| path.to_string_lossy().contains("/test-")).unwrap();
    let tested = fs::read(&judged).unwrap();
    let mut flipped = tested.clone();
    flipped[tested.len() / 2] ^= 1;
    fs::write(&judged, flipped).unwrap();
    fails_with(&fixture, &TRAIN, &["test-00000", "logitcask repair recipe.toml"]);
    assert!(!fixture.path("run").exists(), "no step was made");
    fs::write(&judged, &tested).unwrap();

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&shard, flipped).unwrap();
    fails_with(&fixture, &TRAIN, &[&name]);
    fs::write(&shard, &good[..good.len() / 2]).unwrap();
    fails_with(&fixture, &TRAIN, &[&name]);
    fs::remove_file(&shard).unwrap();
    fails_with(&fixture, &TRAIN, &[&name]);

    fs::write(&shard, &good).unwrap();
    let manifest = fixture.path("cache/manifest.json");
    let kept = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fails_with(&fixture, &TRAIN, &["again"]);
    fs::write(&manifest, kept).unwrap();
    fixture.ok(&TRAIN);
}

#[test]
fn what_cannot_be_written_is_said() {
    let fixture = Fixture::new(20);
    fs::write(fixture.path("cache"), "a file where the folder should be").unwrap();
    fails_with(&fixture, &CACHE, &["cache"]);
    fs::remove_file(fixture.path("cache")).unwrap();
    fixture.ok(&CACHE);
    fs::write(fixture.path("run"), "a file where the folder should be").unwrap();
    fails_with(&fixture, &TRAIN, &["run"]);
    let generate = |out: &'static str| ["generate", "teacher", "--max-tokens", "3", "--device", "cpu", "--out", out];
    fails_with(&fixture, &generate("missing/texts.parquet"), &["missing", "no such folder"]);
    fails_with(&fixture, &generate("texts.txt"), &["texts.txt", ".parquet"]);
    fs::create_dir(fixture.path("notes")).unwrap();
    fs::write(fixture.path("notes/mine.txt"), "").unwrap();
    fails_with(&fixture, &["export", "teacher", "--out", "notes"], &["notes", "mine.txt"]);
    let export = ["export", "cache", "--layout", "packed", "--precision", "f16", "--out", "packed"];
    fails_with(&fixture, &export, &["leave out --precision"]);
    fails_with(
        &fixture,
        &["export", "cache", "--precision", "f16", "--out", "packed"],
        &["leave out --precision", "--layout"],
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused_as_such() {
    let fixture = Fixture::new(20);
    let generate = |arguments: [&'static str; 2]| [&["generate", "teacher"][..], &arguments].concat();
    fails_with(&fixture, &generate(["--temperature", "-1"]), &["-1", "0 or a positive number"]);
    fails_with(&fixture, &generate(["--top-p", "0"]), &["above 0"]);
    fails_with(&fixture, &generate(["--seed", "-1"]), &["-1", "a whole number, 0 or more"]);
    fails_with(&fixture, &generate(["--count", "0"]), &["0", "a whole number, 1 or more"]);
    fails_with(&fixture, &["inspect", "nowhere"], &["nowhere: there is no such folder"]);
    fails_with(&fixture, &["eval", "teacher"], &["--cache", "--data"]);
}

#[test]
fn a_split_that_is_missing_is_missed_before_training() {
    let fixture = Fixture::new(40);
    fixture.edit_recipe("held_out = 0.1", "held_out = 0.0");
    let words = ["no text fell into the split `test`", "[eval] split", "held_out"];
    fails_with(&fixture, &CACHE, &words);
    assert!(!fixture.path("cache").exists(), "the teacher did not run");
    fixture.edit_recipe("[train]", "[eval]\nsplit = \"train\"\n\n[train]\nvalidate_every = 5");
    fails_with(&fixture, &CACHE, &["`validation`", "[train] validate_every needs", "held_out_validation"]);
    fixture.edit_recipe("\nvalidate_every = 5", "");
    fixture.ok(&CACHE);
    // The cache is up to date; the student is refused before it is trained.
    fixture.edit_recipe("split = \"train\"", "split = \"test\"");
    fixture.ok(&CACHE);
    fails_with(&fixture, &TRAIN, &["needs a split `test`", "held_out"]);
    assert!(!fixture.path("run").exists());
    // A recipe without a student needs no split.
    let fixture = Fixture::new(40);
    fixture.edit_recipe("held_out = 0.1", "held_out = 0.0");
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    fs::write(fixture.recipe(), recipe.split("[student]").next().unwrap()).unwrap();
    fixture.ok(&CACHE);
    // Nothing is left to train on.
    let fixture = Fixture::new(40);
    fixture.edit_recipe("held_out = 0.1", "held_out = 0.99");
    fs::write(fixture.path("texts.jsonl"), "{\"text\": \"Once upon a time there was one text.\"}\n").unwrap();
    fails_with(&fixture, &CACHE, &["`train`", "more documents"]);
    assert!(!fixture.path("cache").exists());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn cuda_is_refused_by_the_feature_it_takes() {
    let fixture = Fixture::new(5);
    for device in ["cuda", "cuda:1"] {
        let how = ["built without the feature cuda", "--features cuda", "untested"];
        fails_with(&fixture, &["cache", "recipe.toml", "--device", device], &how);
    }
    fails_with(&fixture, &["cache", "recipe.toml", "--device", "cuda:first"], &["cuda:first", "cuda:0"]);
}

#[cfg(unix)]
#[test]
fn two_runs_in_one_folder_do_not_mix() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    fixture.edit_recipe("steps = 12", "steps = 100000");
    let mut first = fixture.command(&TRAIN).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !fixture.path("run/student/metrics.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fails_with(&fixture, &TRAIN, &["run", "another run is active"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_temperature_beyond_the_caches_range_is_refused_with_the_way_out() {
    let fixture = Fixture::new(40);
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\ntemperature = 12.0");
    fails_with(&fixture, &CACHE, &["recipe.toml", "temperature = 12", "0.75 to 10", "temperature_range"]);
    fixture.edit_recipe("temperature = 12.0", "temperature = 12.0\ntail = \"renorm\"");
    fixture.ok(&CACHE);
    fixture.edit_recipe("[student]", "[student]\neos_token_id = 3");
    fails_with(&fixture, &TRAIN, &["eos_token_id", "inherited"]);
    fixture.edit_recipe("\neos_token_id = 3", "");
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run-2"]);
}

#[test]
fn inspect_shows_rows_with_their_words() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    let rows = fixture.ok(&["inspect", "cache", "--sample", "1", "--positions", "3"]);
    assert!(rows.contains("train sample 1") && rows.contains("log Z"), "{rows}");
    fails_with(&fixture, &["inspect", "cache", "--sample", "99999"], &["99999"]);
    fails_with(&fixture, &["inspect", "cache", "--sample", "1", "--split", "dev"], &["dev", "train, test"]);
    fails_with(&fixture, &["inspect", "cache", "--split", "dev"], &["dev", "train, test"]);
    fails_with(&fixture, &["inspect", "cache", "--split", "test"], &["--sample 0"]);
    fails_with(&fixture, &["inspect", "teacher"], &["teacher"]);
}
