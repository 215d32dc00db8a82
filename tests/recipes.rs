//! Every recipe under data/recipes/methods runs for a few steps, with the fixture's teacher and texts.

use crate::fixture::Fixture;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recipes/methods")
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The recipe of a method with the fixture's texts and teacher: its own [loss], [cache] selection and [generations],
/// and a few steps of training.
fn shrunk(fixture: &Fixture, name: &str) -> PathBuf {
    let method: Table = fs::read_to_string(folder().join(name).with_extension("toml")).unwrap().parse().unwrap();
    let mut recipe: Table = fs::read_to_string(fixture.recipe()).unwrap().parse().unwrap();
    let in_fixture = |path: &str| toml::Value::String(fixture.path(path).display().to_string());
    let (table, own) = (|value: &mut toml::Value| value.as_table_mut().unwrap().clone(), |key: &str| method.get(key));
    recipe.insert("loss".into(), method["loss"].clone());
    let mut cache = table(&mut recipe["cache"]);
    let method_cache = own("cache").and_then(toml::Value::as_table);
    let selection = method_cache.filter(|_| own("extends").is_some()).and_then(|cache| cache.get("selection"));
    if let Some(selection) = selection {
        cache.insert("selection".into(), selection.clone());
    }
    let extras = method_cache.and_then(|cache| cache.get("extras"));
    cache.extend(extras.map(|extras| ("extras".to_owned(), extras.clone())));
    // Recipes with the same selection share a cache, as the real ones do.
    let cache_name = match (own("teacher").or(extras), selection) {
        (Some(_), _) => format!("cache-{name}"),
        (None, None) => "cache".to_owned(),
        (None, Some(selection)) => format!("cache-{}", selection["kind"].as_str().unwrap()),
    };
    cache.insert("path".into(), in_fixture(&cache_name));
    recipe.insert("cache".into(), cache.into());
    let mut train = table(&mut recipe["train"]);
    train.insert("steps".into(), 4.into());
    for (key, value) in own("train").and_then(toml::Value::as_table).into_iter().flatten() {
        if ["pruning", "schedule"].contains(&key.as_str()) {
            train.insert(key.clone(), value.clone());
        } else if key == "accumulate" {
            // The few samples of the fixture's steps in one part.
            train.insert(key.clone(), 1.into());
        }
    }
    recipe.insert("train".into(), train.into());
    // The caches of the fixture keep fewer classes than the demo's.
    if let Some(classes) = recipe["loss"].as_table_mut().unwrap().get_mut("classes") {
        *classes = 8.into();
    }
    if let Some(second) =
        recipe["loss"].as_table_mut().unwrap().get_mut("second_teacher").and_then(toml::Value::as_table_mut)
    {
        second.insert("cache".into(), in_fixture("cache"));
        recipe["teacher"].as_table_mut().unwrap().insert("model".into(), in_fixture("run-kd/student/model"));
    }
    if let Some(generations) = own("generations") {
        recipe.insert("generations".into(), generations.clone());
        recipe.remove("teacher");
        let tokenizer = [("path", in_fixture("teacher/tokenizer.json")), ("eos", 0.into())];
        recipe.insert("tokenizer".into(), Table::from_iter(tokenizer.map(|(k, v)| (k.to_owned(), v))).into());
    }
    let path = fixture.path(&format!("{name}.toml"));
    fs::write(&path, toml::to_string(&recipe).unwrap()).unwrap();
    path
}

#[test]
fn every_method_recipe_trains() {
    let fixture = Fixture::new(120);
    let names = names();
    assert!(names.len() >= 30, "{names:?}");
    // Its cache is the second teacher of other recipes.
    let first = names.iter().filter(|name| *name == "kd");
    for name in first.chain(names.iter().filter(|name| *name != "kd")) {
        let path = shrunk(&fixture, name).display().to_string();
        if fs::read_to_string(&path).unwrap().contains("[teacher]") {
            fixture.ok(&["cache", &path, "--device", "cpu"]);
        }
        let run = fixture.path(&format!("run-{name}")).display().to_string();
        let table = fixture.ok(&["train", &path, "--device", "cpu", "--out", &run]);
        assert!(table.contains("perplexity"), "{name}: {table}");
        let run = if name == "dr-kd" { format!("{run}/generation-1") } else { run };
        let metrics = fs::read_to_string(format!("{run}/student/metrics.jsonl")).unwrap();
        let steps: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps.len(), 4, "{name}");
        assert!(steps.iter().all(|step| step["divergence"].as_f64().is_some_and(f64::is_finite)), "{name}: {metrics}");
    }
}

#[test]
fn every_method_recipe_is_a_recipe_and_says_what_it_is() {
    for name in names() {
        let path = folder().join(&name).with_extension("toml");
        let text = fs::read_to_string(&path).unwrap();
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert_eq!(comment.len(), 3, "{name}: three lines");
        assert!(comment[0].contains("(") && comment[1].contains("Needs:") && comment[2].contains("Expect:"), "{name}");
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/methods.md")).unwrap();
        assert!(page.contains(&format!("methods/{name}.toml")), "docs/methods.md does not name {name}");
    }
}
