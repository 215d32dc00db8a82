//! Datasets in the forms in which they are published are read correctly, or refused before the teacher runs.

use crate::fixture::{Fixture, texts};
use std::fs;
use std::io::Write;
use std::path::Path;
#[cfg(unix)]
use std::process::Child;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// The splits of a cache's plan and their numbers of samples.
fn planned(fixture: &Fixture) -> Vec<(String, u64)> {
    let plan: serde_json::Value = serde_json::from_slice(&fs::read(fixture.path("cache/plan.json")).unwrap()).unwrap();
    let split =
        |split: &serde_json::Value| (split["name"].as_str().unwrap().to_owned(), split["samples"].as_u64().unwrap());
    plan["splits"].as_array().unwrap().iter().map(split).collect()
}

/// Texts short enough for one window each.
fn lines(count: usize) -> String {
    (0..count).map(|i| format!("{{\"text\": \"text {i}\"}}\n")).collect()
}

#[test]
fn a_hubs_folder_is_cached_in_its_own_splits() {
    let fixture = Fixture::new(40);
    let data = fixture.path("set/data");
    fs::create_dir_all(&data).unwrap();
    for (name, count) in [
        ("train-00000-of-00002.jsonl", 12),
        ("train-00001-of-00002.jsonl", 13),
        ("validation-00000-of-00001.jsonl", 3),
        ("test-00000-of-00001.jsonl", 5),
    ] {
        fs::write(data.join(name), lines(count)).unwrap();
    }
    fixture.edit_recipe("/texts.jsonl", "/set");
    let cache = ["cache", "recipe.toml", "--device", "cpu"];
    fixture.ok(&cache);
    let expected = [("train", 25), ("validation", 3), ("test", 5)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(planned(&fixture), expected);

    fs::remove_file(data.join("train-00001-of-00002.jsonl")).unwrap();
    let error = fixture.fails(&cache);
    assert!(error.contains("train-00000-of-00002.jsonl: is one of 2 shards, and number 1 is not there"), "{error}");
}

#[test]
fn a_text_that_spells_out_a_special_token_stops_the_run_before_the_teacher() {
    let fixture = Fixture::new(40);
    let text = fs::read_to_string(fixture.path("texts.jsonl")).unwrap() + "{\"text\": \"one <|endoftext|> two\"}\n";
    fs::write(fixture.path("texts.jsonl"), text).unwrap();
    let cache = ["cache", "recipe.toml", "--device", "cpu"];
    let error = fixture.fails(&cache);
    let expected = "texts.jsonl: document 40 (counted from 0) spells out the special token `<|endoftext|>` (0) at character 4; set `special_tokens` to";
    assert!(error.contains(expected), "{error}");
    assert!(!fixture.path("cache").exists(), "nothing was begun");
    for rule in ["parse", "plain"] {
        fixture.write_recipe("");
        fixture.edit_recipe("held_out = 0.1", &format!("held_out = 0.1\nspecial_tokens = \"{rule}\""));
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
    }
}

/// Rewrites a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn windows_start_with_what_the_tokenizer_puts_in_front() {
    let fixture = Fixture::new(40);
    let (config, tokenizer) = (fixture.path("teacher/config.json"), fixture.path("teacher/tokenizer.json"));
    let run = |expected_bos: serde_json::Value| {
        let output = fixture.run(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let plan = fs::read(fixture.path("cache/plan.json")).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&plan).unwrap()["bos"], expected_bos);
        said
    };
    let first = run(0.into());
    assert!(!first.contains("windows start with"), "{first}");
    // config.json may name another token, or none.
    edit(&config, |config| config["bos_token_id"] = 5.into());
    let said = run(0.into());
    assert!(said.contains("windows start with `<|endoftext|>` (0), as tokenizer.json's post-processor says"), "{said}");
    edit(&config, |config| drop(config.as_object_mut().unwrap().remove("bos_token_id")));
    assert!(!run(0.into()).contains("windows start with"));
    // Without a post-processor there is no first token, even if config.json names one.
    edit(&tokenizer, |tokenizer| tokenizer["post_processor"] = serde_json::Value::Null);
    edit(&config, |config| config["bos_token_id"] = 0.into());
    assert!(run(serde_json::Value::Null).contains("windows start with no token in front"));
}

#[test]
fn a_corpus_under_another_name_is_the_same_dataset() {
    let fixture = Fixture::new(40);
    let dataset = || {
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        let plan = fs::read(fixture.path("cache/plan.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&plan).unwrap()["dataset"]["fingerprint"].clone()
    };
    let first = dataset();
    fs::rename(fixture.path("texts.jsonl"), fixture.path("renamed.jsonl")).unwrap();
    fixture.edit_recipe("/texts.jsonl", "/renamed.jsonl");
    assert_eq!(dataset(), first);
    let more: String = texts(41).iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
    fs::write(fixture.path("renamed.jsonl"), more).unwrap();
    assert_ne!(dataset(), first);
}

#[test]
fn a_prepared_dataset_makes_the_same_cache() {
    let fixture = Fixture::new(40);
    let cached = || {
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        fs::read(fixture.path("cache/manifest.json")).unwrap()
    };
    let in_memory = cached();
    assert!(!fixture.path("_datasets").exists(), "a small dataset stays in memory");
    let said = fixture.ok(&["prepare", "recipe.toml"]);
    assert!(said.contains(", 1 part\n") && said.contains("train: "), "{said}");
    let folder = fs::read_dir(fixture.path("_datasets")).unwrap().next().unwrap().unwrap().path();
    let tokens = folder.join("part-00000-00000.tokens");
    assert_eq!(fixture.ok(&["prepare", "recipe.toml"]), said);

    // The damage shows that the prepared dataset is what is read.
    let whole = fs::read(&tokens).unwrap();
    fs::write(&tokens, &whole[4..]).unwrap();
    fs::remove_dir_all(fixture.path("cache")).unwrap();
    let error = fixture.fails(&["cache", "recipe.toml", "--device", "cpu"]);
    assert!(error.contains("part-00000-00000.tokens: this part of the prepared dataset has"), "{error}");
    assert_eq!(fixture.ok(&["prepare", "recipe.toml"]), said);
    assert_eq!(fs::read(&tokens).unwrap(), whole);
    assert_eq!(cached(), in_memory, "another cache id would make every cache stale");
}

#[test]
fn a_large_dataset_is_prepared_on_disk_without_being_asked_to() {
    let fixture = Fixture::new(40);
    fixture.edit_recipe("held_out = 0.1", "held_out = 0.1\nmax_documents = 40");
    let cached = || {
        let output = fixture.run(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (fs::read(fixture.path("cache/manifest.json")).unwrap(), said)
    };
    let (small, _) = cached();
    assert!(!fixture.path("_datasets").exists());
    // Behind the documents that are wanted, one that makes the file large.
    let mut file = fs::OpenOptions::new().append(true).open(fixture.path("texts.jsonl")).unwrap();
    file.write_all(format!("{{\"text\": \"{}\"}}\n", "a cat saw the sun ".repeat(4 << 20)).as_bytes()).unwrap();
    assert!(file.metadata().unwrap().len() > 64 << 20);
    fs::remove_dir_all(fixture.path("cache")).unwrap();
    let (large, said) = cached();
    assert!(said.contains("preparing the dataset in ") && fixture.path("_datasets").exists(), "{said}");
    assert!(small == large, "another cache id would make every cache stale");
    // It is not prepared twice.
    fs::remove_dir_all(fixture.path("cache")).unwrap();
    let (again, said) = cached();
    assert!(!said.contains("preparing") && again == small, "{said}");
}

#[test]
fn generated_texts_that_were_interrupted_are_completed_to_the_same_bytes() {
    let fixture = Fixture::new(20);
    let generate = |out| ["generate", "teacher", "--count", "300", "--batch", "1", "--device", "cpu", "--out", out];
    fixture.ok(&generate("whole.parquet"));
    let (command, folder) = (generate("a.parquet"), fixture.path("a.parquet.parts"));
    let there = || {
        let names = fs::read_dir(&folder).map(|files| files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>());
        names.unwrap_or_default().iter().filter(|name| name.to_string_lossy().starts_with("part-")).count()
    };
    let begin = |least: usize| {
        let mut child = fixture.command(&command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        while there() < least && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        child
    };
    let mut killed = begin(1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!fixture.path("a.parquet").exists());
    #[cfg(unix)]
    interrupt(begin(there() + 20));
    let before = there();
    assert!(before > 0 && !fixture.path("a.parquet").exists());
    let error = fixture.fails(&[&command[..], &["--seed", "1"]].concat());
    assert!(error.contains("holds a part of other texts (seed: 0 there, 1 wanted)"), "{error}");
    let output = fixture.run(&command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{before} of 300 batches are already written")), "{said}");
    let [whole, completed] = ["whole.parquet", "a.parquet"].map(|name| fs::read(fixture.path(name)).unwrap());
    assert!(whole == completed && !folder.exists());
    assert!(fixture.fails(&command).contains("a.parquet: this file already exists"));
}

/// Presses Ctrl-C, which says what is lost and what to do.
#[cfg(unix)]
fn interrupt(child: Child) {
    let process = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    for words in ["stopping; batches that are not finished are dropped", "the same command goes on with the others"] {
        assert!(said.contains(words), "{said}");
    }
}
