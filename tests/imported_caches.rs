//! Recipes without texts, which train from a cache that exists; and imported caches that are repaired.

use crate::fixture::Fixture;
use std::fs;
use std::path::Path;

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// The arguments that import a sample with a train and a test split, whose teacher is elsewhere.
fn import() -> Vec<String> {
    let source = |file: &str| repository("data/golden/distillkit/delta") + "/" + file;
    let (train, test) = (source("data_0.parquet"), source("data_1.parquet"));
    let args = ["import", "distillkit", &format!("train={train}"), &format!("test={test}"), "--pad-token", "0"];
    let target = ["--teacher", "elsewhere", "--tokenizer", &repository("data/demo/teacher"), "--out", "cache"];
    args.iter().chain(&target).map(|arg| (*arg).to_owned()).collect()
}

fn ok(fixture: &Fixture, args: &[String]) -> String {
    fixture.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

const RECIPE: &str = r#"
[cache]
path = "cache"

[student]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2

[loss]
alpha = 0.9

[train]
steps = 3
batch_size = 2
learning_rate = 1e-3
"#;

const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// A fixture with the imported cache, and a recipe that names nothing else.
fn imported() -> Fixture {
    let fixture = Fixture::new(5);
    let said = ok(&fixture, &import());
    assert!(said.contains("  [cache]\n  path = \"cache\"\n  [loss]\n"), "{said}");
    fs::write(fixture.recipe(), RECIPE).unwrap();
    fixture
}

#[test]
fn a_recipe_that_names_the_cache_alone_trains_and_evaluates() {
    let fixture = imported();
    let output = fixture.run(&TRAIN);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("missing"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("on test"));
    let compared = fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
    assert!(compared.contains("top-1 agreement"), "{compared}");
    // The run records the settings of its cache, which may be written out just as well.
    let record: toml::Table = fs::read_to_string(fixture.path("run/recipe.toml")).unwrap().parse().unwrap();
    let recorded = record["recipe"].as_table().unwrap();
    assert_eq!(recorded["cache"]["selection"]["k"].as_integer(), Some(10));
    assert!(!recorded.contains_key("dataset") && !recorded.contains_key("teacher"));
    let mut recipe: toml::Table = RECIPE.parse().unwrap();
    recipe.insert("cache".to_owned(), recorded["cache"].clone());
    fs::write(fixture.path("again.toml"), recipe.to_string()).unwrap();
    let again = fixture.run(&["train", "again.toml", "--device", "cpu", "--out", "run"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && said.contains("training is already complete (3 steps)"), "{said}");
}

#[test]
fn the_cache_of_a_recipe_is_trained_from_by_its_path_as_well() {
    let fixture = Fixture::new(60);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&TRAIN);
    let text = fs::read_to_string(fixture.recipe()).unwrap();
    let rest = &text[text.find("[student]").unwrap()..];
    let alone = format!("[cache]\npath = \"cache\"\nlayout = \"plain\"\n\n{rest}");
    fs::write(fixture.recipe(), &alone).unwrap();
    let again = fixture.run(&TRAIN);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && said.contains("training is already complete (12 steps)"), "{said}");
    fs::write(fixture.path("over.toml"), "extends = \"recipe.toml\"\n[loss]\nalpha = 0.5\ntemperature = 2.0\n")
        .unwrap();
    fixture.ok(&["train", "over.toml", "--device", "cpu", "--out", "hot"]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let fixture = imported();
    let refused = |from: &str, to: &str, words: &[&str]| {
        fs::write(fixture.recipe(), RECIPE.replace(from, to)).unwrap();
        let error = fixture.fails(&TRAIN);
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
        assert!(!fixture.path("run").exists());
    };
    refused(
        "\"cache\"",
        "\"none\"",
        &["recipe.toml", "[cache] path: there is no cache", "none/plan.json", "logitcask import"],
    );
    refused("path = \"cache\"", "", &["name the texts with [dataset] path, or a cache that exists with [cache] path"]);
    refused(
        "path = \"cache\"",
        "path = \"cache\"\nmax_length = 20",
        &["max_length", "not the cache that the recipe describes"],
    );
    refused("[student]", "[tokenizer]\npath = \"t.json\"\n[student]", &["a run on labels alone needs texts"]);
    refused("[student]", "[generations]\ncount = 1\n[student]", &["a run on labels alone needs texts"]);
    refused("alpha = 0.9", "alpha = 0.9\ntemperature = 2", &["temperature = 2", "1 over this cache"]);
    refused(
        "alpha = 0.9",
        "alpha = 0.9\ntarget = { kind = \"similar\", classes = 4, temperature = 1.0 }",
        &["[loss] target", "name the model that made the cache with [teacher] model"],
    );
    refused("[student]", "[teacher]\nmodel = \"teacher\"\n[student]", &["teacher: elsewhere (", "here, teacher ("]);
    fs::write(fixture.recipe(), RECIPE).unwrap();
    for command in ["cache", "estimate", "repair", "prepare"] {
        let error = fixture.fails(&[command, "recipe.toml"]);
        assert!(error.contains("the recipe has no [teacher]"), "{command}: {error}");
    }
    fs::write(fixture.recipe(), RECIPE.replace("[student]", "[teacher]\nmodel = \"teacher\"\n[student]")).unwrap();
    let error = fixture.fails(&["repair", "recipe.toml"]);
    assert!(error.contains("the recipe has no [dataset]"), "{error}");
}

#[test]
fn a_damaged_import_is_repaired_by_the_command_that_made_it() {
    let fixture = imported();
    let before = fixture.cache_files();
    let shard = fixture.path("cache/data/train-00000-of-00001.parquet");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    fs::remove_file(fixture.path("cache/data/test-00000-of-00001.parquet")).unwrap();
    let output = fixture.run(&["verify", "cache"]);
    let (findings, advice) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && findings.contains("train-00000-of-00001.parquet"), "{findings}");
    assert!(advice.contains("`logitcask import` or `logitcask export`, whichever made it, rebuilds them"), "{advice}");
    let error = fixture.fails(&TRAIN);
    assert!(error.contains("rebuild it with the command that made it") && !error.contains("repair"), "{error}");
    let said = ok(&fixture, &import());
    assert!(said.contains("cache: repaired, cache id "), "{said}");
    assert_eq!(fixture.cache_files(), before);
    assert!(ok(&fixture, &import()).contains("everything was there already"));
    fixture.ok(&TRAIN);
}
