//! Caches and runs are recognised by content: the same inputs resume, changed ones are refused, whatever the names are.

use crate::fixture::Fixture;
use logitcask_cache::{CacheReader, CacheWriter};
use logitcask_core::{RowErrors, SampleId};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];
const LIVE: [&str; 8] = ["verify", "cache", "--live", "3", "--recipe", "recipe.toml", "--device", "cpu"];

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

fn cache_id(fixture: &Fixture) -> String {
    let report: Value = serde_json::from_str(&fixture.ok(&["inspect", "cache", "--json"])).unwrap();
    report["cache_id"].as_str().unwrap().to_owned()
}

/// Checks that the cache is accepted everywhere: an incomplete one resumes, and a complete one is up to date, verified,
/// repaired and trained from.
fn goes_on(fixture: &Fixture, wanted: &str, what: &str) {
    assert!(fixture.ok(&CACHE).contains("is up to date"), "{what}");
    assert!(fixture.ok(&LIVE).contains(": intact"), "{what}");
    let shard = fs::read_dir(fixture.path("cache/data")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    fs::remove_file(shard).unwrap();
    let repaired = fixture.ok(&["repair", "recipe.toml", "--device", "cpu"]);
    assert!(repaired.contains("with the same cache id as before"), "{what}: {repaired}");
    assert_eq!(cache_id(fixture), wanted, "{what}");
}

#[test]
fn a_cache_of_another_build_folder_or_serialiser_is_the_same_cache() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    let wanted = cache_id(&fixture);

    edit(&fixture.path("cache/plan.json"), &format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"0.0.9\"");
    goes_on(&fixture, &wanted, "another version of the program");

    edit(&fixture.path("teacher/config.json"), "{", "{\"_a_new_key\": [1, 2.5], \"torch_dtype\": \"float32\",");
    goes_on(&fixture, &wanted, "a key of the config that this build does not know");

    fs::rename(fixture.path("teacher"), fixture.path("a.b-c")).unwrap();
    fixture.edit_recipe("/teacher\"", "/a.b-c\"");
    goes_on(&fixture, &wanted, "the teacher's folder renamed");

    fs::rename(fixture.path("texts.jsonl"), fixture.path("corpus.jsonl")).unwrap();
    fixture.edit_recipe("texts.jsonl", "corpus.jsonl");
    goes_on(&fixture, &wanted, "the corpus renamed");

    for name in ["plan.json", "manifest.json"] {
        let path = fixture.path("cache").join(name);
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::write(&path, value.to_string()).unwrap();
    }
    goes_on(&fixture, &wanted, "written anew by another serialiser");

    fs::remove_file(fixture.path("cache/manifest.json")).unwrap();
    fs::remove_file(fixture.path("cache/_commits/00000.json")).unwrap();
    let shard = fs::read_dir(fixture.path("cache/data")).unwrap().map(|entry| entry.unwrap().path()).min();
    fs::remove_file(shard.unwrap()).unwrap();
    fixture.ok(&CACHE);
    assert_eq!(cache_id(&fixture), wanted, "taken up half-made");
}

#[test]
fn what_changes_the_rows_is_another_cache_and_said_to_be() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    let stale = |words: &[&str], what: &str| {
        for args in [&CACHE[..], &TRAIN[..], &LIVE[..]] {
            let error = fixture.fails(args);
            assert!(words.iter().all(|word| error.contains(word)), "{what}: {args:?}: {error}");
        }
        assert!(!fixture.path("run").exists(), "{what}: nothing was trained");
    };
    let weights = fs::read(fixture.path("teacher/model.safetensors")).unwrap();
    let mut other = weights.clone();
    let last = other.len() - 2;
    other[last] ^= 1;
    fs::write(fixture.path("teacher/model.safetensors"), other).unwrap();
    stale(&["teacher: teacher (", ") here, teacher ("], "one bit of a weight");
    fs::write(fixture.path("teacher/model.safetensors"), weights).unwrap();

    let texts = fs::read_to_string(fixture.path("texts.jsonl")).unwrap();
    fs::write(fixture.path("texts.jsonl"), texts.replacen("the", "tha", 1)).unwrap();
    stale(&["dataset: texts (", "wanted"], "one letter of a text");
    fs::write(fixture.path("texts.jsonl"), texts).unwrap();
    assert!(fixture.ok(&CACHE).contains("is up to date"), "all is as it was");
}

#[test]
fn inputs_are_known_again_by_their_lengths_and_times_and_a_change_is_noticed() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    assert!(!fixture.path("cache/_inputs.json").exists(), "files as young as this may change within a clock's tick");
    // Files older than the tick of the file system's clock.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert!(fixture.ok(&CACHE).contains("is up to date"));
    assert!(fixture.path("cache/_inputs.json").exists());
    let path = fixture.path("teacher/model.safetensors");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 2;
    bad[last] ^= 1;
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, bad).unwrap();
    // A changed file with the same length and modification time.
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert!(fixture.fails(&CACHE).contains("teacher: teacher ("), "a changed weight is noticed all the same");
}

#[test]
fn a_cache_whose_inputs_cannot_be_recorded_is_up_to_date_all_the_same() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    // The record cannot be replaced, as in a read-only folder.
    fs::create_dir(fixture.path("cache/_inputs.json")).unwrap();
    assert!(fixture.ok(&CACHE).contains("is up to date"));
}

#[cfg(unix)]
#[test]
fn a_link_of_another_name_tells_another_split() {
    let fixture = Fixture::new(40);
    fs::create_dir(fixture.path("hub")).unwrap();
    for (name, from) in [("train.jsonl", "texts.jsonl"), ("test.jsonl", "more.jsonl")] {
        fs::write(fixture.path(from), fs::read(fixture.path("texts.jsonl")).unwrap()).unwrap();
        std::os::unix::fs::symlink(fixture.path(from), fixture.path("hub").join(name)).unwrap();
    }
    fixture.edit_recipe("texts.jsonl", "hub");
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    fixture.ok(&CACHE);
    assert!(fixture.path("cache/_inputs.json").is_file());
    fs::rename(fixture.path("hub/test.jsonl"), fixture.path("hub/validation.jsonl")).unwrap();
    let error = fixture.fails(&CACHE);
    assert!(error.contains("validation") && error.contains("wanted"), "{error}");
}

#[test]
fn a_conversion_goes_on_and_brings_what_lies_beside_the_tokenizer() {
    let fixture = Fixture::new(60);
    fs::write(fixture.path("teacher/chat_template.jinja"), "{{ messages }}").unwrap();
    fixture.ok(&CACHE);
    let packed = ["export", "cache", "--layout", "packed", "--out", "packed"];
    fixture.ok(&packed);
    // As after a stop.
    fs::remove_file(fixture.path("packed/manifest.json")).unwrap();
    fixture.ok(&packed);
    assert!(fixture.path("packed/chat_template.jinja").is_file());
    assert!(fixture.fails(&["export", "cache", "--layout", "plain", "--out", "cache"]).contains("name another folder"));
    fixture.ok(&TRAIN);
    assert!(fixture.path("run/student/model/chat_template.jinja").is_file());
}

#[test]
fn nothing_of_the_users_is_written_over() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    let before = fs::read(fixture.recipe()).unwrap();
    for out in [".", "teacher", "cache"] {
        let error = fixture.fails(&["train", "recipe.toml", "--device", "cpu", "--out", out, "--replace"]);
        assert!(error.contains("no run is started in it"), "{error}");
    }
    fs::create_dir(fixture.path("alone")).unwrap();
    fs::copy(fixture.recipe(), fixture.path("alone/recipe.toml")).unwrap();
    let error = fixture.fails(&["train", "alone/recipe.toml", "--device", "cpu", "--out", "alone"]);
    assert!(error.contains("recipe.toml"), "{error}");
    assert!(
        fs::read(fixture.recipe()).unwrap() == before && fs::read(fixture.path("alone/recipe.toml")).unwrap() == before
    );
    let there = "already exists";
    assert!(fixture.fails(&["tokenizer", "texts.jsonl", "--size", "280", "--out", "texts.jsonl"]).contains(there));
    let generate = ["generate", "teacher", "--max-tokens", "3", "--device", "cpu", "--out", "texts.jsonl"];
    assert!(fixture.fails(&generate).contains(there));
}

#[test]
fn what_students_inherit_beside_the_tokenizer_is_what_the_teacher_had() {
    let fixture = Fixture::new(40);
    let theirs = fixture.path("teacher/generation_config.json");
    fs::write(&theirs, "{\"eos_token_id\": [0, 5000]}").unwrap();
    assert!(fixture.fails(&CACHE).contains("5000"), "known before the teacher runs");
    let good = "{\"eos_token_id\": [0, 5]}";
    fs::write(&theirs, good).unwrap();
    fixture.ok(&CACHE);
    let ours = fixture.path("cache/generation_config.json");
    let before = cache_id(&fixture);
    for changed in [None, Some("{\"eos_tok"), Some("{\"eos_token_id\": [0, 6]}")] {
        fs::remove_file(&ours).unwrap();
        if let Some(text) = changed {
            fs::write(&ours, text).unwrap();
        }
        for command in [&TRAIN[..], &["verify", "cache"]] {
            let output = fixture.run(command);
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!output.status.success() && said.contains("generation_config.json"), "{command:?}: {said}");
        }
        fixture.ok(&["repair", "recipe.toml", "--device", "cpu"]);
        assert_eq!(fs::read_to_string(&ours).unwrap(), good);
        fixture.ok(&["verify", "cache"]);
    }
    // Another file in the teacher's folder does not change rows, and the cache keeps its copy.
    fs::write(&theirs, "{\"eos_token_id\": [0, 6]}").unwrap();
    let output = fixture.run(&CACHE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("generation_config.json: the teacher's file has changed"),
        "{said}"
    );
    assert_eq!((fs::read_to_string(&ours).unwrap().as_str(), cache_id(&fixture)), (good, before));
    fs::write(&ours, "{}").unwrap();
    let output = fixture.run(&["repair", "recipe.toml", "--device", "cpu"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("restore it there"), "{said}");
}

#[test]
fn a_plan_of_a_later_format_is_not_repaired_away() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    edit(&fixture.path("cache/plan.json"), "\"format_version\": 2", "\"format_version\": 9");
    let before = fs::read(fixture.path("cache/plan.json")).unwrap();
    let error = fixture.fails(&["repair", "recipe.toml", "--device", "cpu"]);
    assert!(error.contains("format version 9"), "{error}");
    assert!(fs::read(fixture.path("cache/plan.json")).unwrap() == before);
}

#[test]
fn a_cache_of_the_first_format_is_refused_with_what_to_do_and_replaced() {
    let fixture = Fixture::new(40);
    fixture.ok(&CACHE);
    edit(&fixture.path("cache/plan.json"), "\"format_version\": 2", "\"format_version\": 1");
    for command in [&["inspect", "cache"][..], &CACHE, &TRAIN] {
        let error = fixture.fails(command);
        let wanted = "format version 1, but this build reads version 2: make the cache again with `logitcask cache RECIPE --replace`";
        assert!(error.contains(wanted) && error.contains("the version of the program that made it"), "{error}");
    }
    fixture.ok(&[&CACHE[..], &["--replace"]].concat());
    fixture.ok(&["verify", "cache"]);
    assert!(fixture.path("cache.old-1/plan.json").is_file(), "the old cache is moved, not removed");
}

#[test]
fn an_inherited_path_is_taken_from_the_recipe_in_which_it_stands() {
    let fixture = Fixture::new(40);
    let dir = fixture.dir.path().display().to_string();
    edit(&fixture.recipe(), &format!("{dir}/"), "");
    fs::create_dir(fixture.path("sub")).unwrap();
    fs::write(fixture.path("sub/x.toml"), "extends = \"../recipe.toml\"\n[train]\nsteps = 8\n").unwrap();
    fixture.ok(&["cache", "sub/x.toml", "--device", "cpu"]);
    assert!(fixture.path("cache/manifest.json").is_file() && !fixture.path("sub/cache").exists());
    assert!(fixture.ok(&CACHE).contains("is up to date"));
}

#[test]
fn a_cache_that_lost_a_shard_is_never_called_up_to_date() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    let shard = fs::read_dir(fixture.path("cache/data")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let good = fs::read(&shard).unwrap();
    let name = shard.file_name().unwrap().to_string_lossy().into_owned();
    let damaged = |what: &str| {
        for args in [&CACHE[..], &TRAIN[..]] {
            let error = fixture.fails(args);
            let says = error.contains("logitcask repair recipe.toml") && !error.contains("no cache to train from");
            assert!(says && error.contains("damaged"), "{what}: {args:?}: {error}");
        }
    };
    fs::write(&shard, &good[..good.len() - 5]).unwrap();
    damaged(&name);
    fs::remove_file(&shard).unwrap();
    damaged(&name);
    fs::write(&shard, &good).unwrap();
    let tokenizer = fixture.path("cache/tokenizer.json");
    let json = fs::read(&tokenizer).unwrap();
    fs::write(&tokenizer, [&json[..], b"\n"].concat()).unwrap();
    damaged("tokenizer.json");
    fs::write(&tokenizer, json).unwrap();
    let plan = fixture.path("cache/plan.json");
    let json = fs::read(&plan).unwrap();
    fs::write(&plan, &json[..1]).unwrap();
    damaged("plan.json");
    fixture.ok(&["repair", "recipe.toml", "--device", "cpu"]);
    assert!(fixture.ok(&CACHE).contains("is up to date"));
}

#[test]
fn a_cache_from_elsewhere_is_trained_from_without_teacher_and_texts() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    fs::remove_dir_all(fixture.path("teacher")).unwrap();
    fs::remove_file(fixture.path("texts.jsonl")).unwrap();
    fixture.ok(&TRAIN);
    let record = fs::read_to_string(fixture.path("run/recipe.toml")).unwrap();
    assert!(record.contains("# teacher: teacher (") && record.contains("# dataset: texts ("), "{record}");
}

/// Writes the cache of the fixture as a program with an older forward pass would have done, without its last units.
fn made_by_an_older_version(fixture: &Fixture, missing: usize) {
    let newer = fixture.path("newer");
    fs::rename(fixture.path("cache"), &newer).unwrap();
    let cache = CacheReader::open(&newer).unwrap();
    let mut plan = cache.plan().clone();
    assert!(plan.versions.forward > 1);
    plan.versions.forward = 1;
    let tokenizer = fs::read(newer.join("tokenizer.json")).unwrap();
    let writer = CacheWriter::open(&fixture.path("cache"), plan.clone(), &tokenizer).unwrap();
    for unit in 0..plan.unit_count() - missing {
        let of = plan.unit(unit);
        let rows: Vec<_> = of.ids().map(|id| cache.get(of.split, SampleId(id)).unwrap()).collect();
        let rows: Vec<_> = rows.into_iter().map(|cached| (cached.sample, cached.rows)).collect();
        writer.write_unit(unit, &rows, &RowErrors::new(&plan.keep)).unwrap();
    }
    let companions = cache.companions().unwrap();
    writer.lay_companions(companions.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]))).unwrap();
    if missing == 0 {
        writer.finish().unwrap();
    }
}

#[test]
fn a_finished_cache_of_an_older_version_goes_on_serving_and_an_unfinished_one_is_not_continued() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    made_by_an_older_version(&fixture, 0);
    let older = cache_id(&fixture);
    let output = fixture.run(&CACHE);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("is up to date"), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    for words in ["another version of this program", "forward 1", "--replace"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(fixture.ok(&LIVE).contains(": intact"));
    fixture.ok(&TRAIN);
    let repair = ["repair", "recipe.toml", "--device", "cpu"];
    assert!(fixture.ok(&repair).contains("nothing to repair"));
    assert_eq!(cache_id(&fixture), older);
    let shard = fs::read_dir(fixture.path("cache/data")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    fs::remove_file(&shard).unwrap();
    let refused = fixture.fails(&repair);
    assert!(refused.contains("Only the version") && refused.contains("forward 1"), "{refused}");

    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    made_by_an_older_version(&fixture, 1);
    let refused = fixture.fails(&CACHE);
    for words in ["versions: ", "forward 1", "--replace"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
}
