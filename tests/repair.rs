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
