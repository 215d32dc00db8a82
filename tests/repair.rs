//! Damage is found and repaired, and nothing else is changed.

use crate::fixture::Fixture;
use serde_json::Value;
use std::fs;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const REPAIR: [&str; 4] = ["repair", "recipe.toml", "--device", "cpu"];

#[test]
fn damage_is_found_and_repaired_to_the_same_bytes() {
    let fixture = Fixture::new(120);
    fixture.ok(&CACHE);
    let whole = fixture.cache_files();
    let verified = fixture.ok(&["verify", "cache"]);
    assert!(verified.contains(": intact"), "{verified}");
    assert!(fixture.ok(&REPAIR).contains("nothing to repair"));

    let shards: Vec<&String> = whole.iter().map(|(name, _)| name).filter(|name| name.ends_with(".parquet")).collect();
    let damaged = fixture.path("cache").join(shards[0]);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::remove_file(fixture.path("cache").join(shards[1])).unwrap();
    fs::write(fixture.path("cache/tokenizer.json"), b"{}").unwrap();

    let output = fixture.run(&["verify", "cache", "--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files: Vec<&str> = report["findings"].as_array().unwrap().iter().map(|f| f["file"].as_str().unwrap()).collect();
    for file in [shards[0].as_str(), shards[1].as_str(), "tokenizer.json"] {
        assert!(files.contains(&file), "{file}: {report}");
    }
    let error = fixture.fails(&["verify", "cache"]);
    assert!(error.contains("missing parts or damaged") && error.contains("repair"), "{error}");

    let repaired = fixture.ok(&REPAIR);
    assert!(repaired.contains("repaired, with the same cache id as before"), "{repaired}");
    assert!(fixture.cache_files() == whole, "the same bytes");
}

#[test]
fn a_recipe_that_the_cache_was_not_made_with_is_told_from_an_intact_cache() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    let whole = fixture.cache_files();
    fixture.edit_recipe("k = 16", "k = 8");
    for is_damaged in [false, true] {
        if is_damaged {
            fs::remove_file(
                fixture.path("cache").join(&whole.iter().find(|(name, _)| name.ends_with(".parquet")).unwrap().0),
            )
            .unwrap();
        }
        let error = fixture.fails(&REPAIR);
        assert!(error.contains("another plan") && error.contains("k=16") && error.contains("k=8"), "{error}");
        assert!(error.contains("the recipe that it was made with"), "{error}");
    }
    fixture.edit_recipe("k = 8", "k = 16");
    fixture.ok(&REPAIR);
    assert!(fixture.cache_files() == whole, "the same bytes");
}

#[test]
fn an_export_into_a_damaged_one_repairs_it() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    let export = ["export", "cache", "--layout", "packed", "--out", "packed"];
    fixture.ok(&export);
    let shard = fs::read_dir(fixture.path("packed/data")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let good = fs::read(&shard).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [Some(flipped), None] {
        match damaged {
            Some(bytes) => fs::write(&shard, bytes).unwrap(),
            None => fs::remove_file(&shard).unwrap(),
        }
        let error = fixture.fails(&["verify", "packed"]);
        assert!(error.contains("logitcask export"), "{error}");
        let said = fixture.ok(&export);
        assert!(said.contains("packed: repaired, cache id ") && !said.contains("already"), "{said}");
        assert!(fs::read(&shard).unwrap() == good, "the same bytes");
    }
    assert!(fixture.ok(&export).contains("packed: already complete"));
    fixture.ok(&["verify", "packed"]);
}

#[test]
fn the_live_teacher_agrees_with_its_cache_and_another_does_not() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    let live = ["verify", "cache", "--live", "4", "--recipe", "recipe.toml", "--device", "cpu", "--json"];
    let report: Value = serde_json::from_str(&fixture.ok(&live)).unwrap();
    assert_eq!(report["whole"], true);
    let live_report = &report["live"];
    assert!(live_report["positions"].as_u64().unwrap() > 20, "{report}");
    assert!(live_report["stored_against_live"].as_f64() <= live_report["tolerance"].as_f64(), "{report}");
    fixture.edit_recipe("max_length = 48", "max_length = 40");
    let error = fixture.fails(&live);
    assert!(error.contains("the cache was not made from recipe.toml") && error.contains("max_length"), "{error}");
}
