//! A run is identified by content, resumes from its newest intact checkpoint, and refuses invalid settings before its
//! first step.

use crate::fixture::{Fixture, config, texts, write_teacher};
use logitcask_cache::CacheReader;
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_train::Source;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// A fixture with a filled cache.
fn cached(documents: u64) -> Fixture {
    let fixture = Fixture::new(documents);
    fixture.ok(&CACHE);
    fixture
}

/// Trains and returns the standard error.
fn train(fixture: &Fixture) -> String {
    let output = fixture.run(&TRAIN);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// Checks that training fails with an error that contains all `words`.
fn refused(fixture: &Fixture, words: &[&str]) -> String {
    let error = fixture.fails(&TRAIN);
    for word in words {
        assert!(error.contains(word), "it should mention `{word}`:\n{error}");
    }
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn checkpoint(fixture: &Fixture, step: u64) -> PathBuf {
    fixture.path(&format!("run/student/checkpoints/step-{step:08}"))
}

/// Metrics and weights of a run.
fn outcome(fixture: &Fixture) -> (String, Vec<u8>) {
    let student = fixture.path("run/student");
    let metrics = fs::read_to_string(student.join("metrics.jsonl")).unwrap();
    (metrics, fs::read(student.join("model/model.safetensors")).unwrap())
}

#[test]
fn a_checkpoint_that_is_not_whole_is_passed_over_by_name() {
    let fixture = cached(80);
    // A rule that has a state.
    fixture
        .edit_recipe("alpha = 0.5", "alpha = 0.5\ntemperature_rule = { kind = \"dts\", lowest = 1.0, highest = 4.0 }");
    train(&fixture);
    let whole = outcome(&fixture);
    let newest = checkpoint(&fixture, 12);
    type Damage<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage<'_>, &str); 6] = [
        (
            "model.bpk",
            &|mut b| {
                let n = b.len() / 3;
                b[n..n + 64].fill(0);
                b
            },
            "model.bpk has the BLAKE3",
        ),
        ("model.bpk", &|b| b[..60].to_vec(), "model.bpk has 60 bytes"),
        ("optimizer.bpk", &|b| b[..60].to_vec(), "optimizer.bpk has 60 bytes"),
        ("memory.bin", &|_| Vec::new(), "memory.bin has 0 bytes"),
        ("state.json", &|b| b[..60].to_vec(), "state.json has 60 bytes"),
        ("contents.json", &|b| b[..60].to_vec(), "contents.json: EOF"),
    ];
    for (name, damage, words) in damages {
        let path = newest.join(name);
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        let said = train(&fixture);
        assert!(said.contains("step-00000012: skipped") && said.contains(words), "{name}: {said}");
        assert!(said.contains("continuing after step 10"), "{name}: {said}");
        assert!(outcome(&fixture) == whole, "{name}: the same steps again give the same bits");
        assert!(!train(&fixture).contains("skipped"), "{name}: it was replaced");
    }
    // As if the run was killed while it replaced the damaged checkpoint.
    fs::rename(&newest, newest.with_file_name(".old")).unwrap();
    fs::create_dir(newest.with_file_name(".work")).unwrap();
    assert!(train(&fixture).contains("continuing after step 10"));
    assert!(outcome(&fixture) == whole);
    let left = fs::read_dir(newest.parent().unwrap()).unwrap().count();
    assert_eq!(left, 2, "nothing is left of what was in the making");
}

#[test]
fn where_no_checkpoint_is_whole_one_is_named_and_nothing_is_lost() {
    let fixture = cached(80);
    train(&fixture);
    for step in [10, 12] {
        fs::write(checkpoint(&fixture, step).join("optimizer.bpk"), "torn").unwrap();
    }
    let error = refused(&fixture, &["step-00000012", "optimizer.bpk has 4 bytes", "no other checkpoint", "copy"]);
    assert!(!error.contains("remove"), "{error}");
    assert!(checkpoint(&fixture, 10).is_dir() && checkpoint(&fixture, 12).is_dir());
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let fixture = cached(80);
    train(&fixture);
    fs::rename(fixture.path("run"), fixture.path("first")).unwrap();
    fixture.edit_recipe("steps = 12", "steps = 14");
    fs::create_dir_all(fixture.path("run/student")).unwrap();
    fs::rename(fixture.path("first/student/checkpoints"), fixture.path("run/student/checkpoints")).unwrap();
    refused(&fixture, &["recipe.toml: missing", "step-000000", "belongs to another run", "--out"]);
}

#[test]
fn a_run_goes_on_after_everything_it_names_was_moved() {
    let fixture = cached(80);
    train(&fixture);
    let whole = outcome(&fixture);
    fs::remove_dir_all(checkpoint(&fixture, 12)).unwrap();
    for (from, to) in [("cache", "moved-cache"), ("teacher", "moved-teacher")] {
        fs::rename(fixture.path(from), fixture.path(to)).unwrap();
        let quoted = |name: &str| format!("{}\"", fixture.path(name).display());
        fixture.edit_recipe(&quoted(from), &quoted(to));
    }
    fixture.edit_recipe(
        "checkpoint_every = 5",
        "checkpoint_every = 50\n[export]\nprecision = \"f32\"\n[eval]\nsplit = \"test\"",
    );
    assert!(train(&fixture).contains("continuing after step 10"));
    assert!(outcome(&fixture) == whole);
    let record = fs::read_to_string(fixture.path("run/recipe.toml")).unwrap();
    assert!(record.contains("moved-cache"), "it says where its cache is now: {record}");
}

#[test]
fn another_run_is_told_by_every_key_and_both_values() {
    let fixture = cached(80);
    train(&fixture);
    for (from, to, words) in [
        ("steps = 12", "steps = 13", &["[train] steps: 12 here, 13 wanted"][..]),
        (
            "alpha = 0.5",
            "alpha = 0.6\nclasses = 4",
            &["[loss] alpha: 0.5 here, 0.6 wanted", "[loss] classes: nothing here, 4"],
        ),
        (
            "hidden_size = 16",
            "hidden_size = 32",
            &["[student] hidden_size: 16 here, 32 wanted", "[student] head_dim: 8 here"],
        ),
    ] {
        fixture.edit_recipe(from, to);
        refused(&fixture, words);
        fixture.write_recipe("");
    }
    let cache_id = CacheReader::open(&fixture.path("cache")).unwrap().cache_id().short();
    fixture.edit_recipe("k = 16", "k = 8");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
    refused(&fixture, &[&format!("data: {cache_id} here"), "--replace"]);
    fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
    assert!(fixture.path("run.old-1/recipe.toml").is_file(), "the old run is moved, not removed");
}

#[test]
fn a_damaged_or_missing_record_is_written_again_if_the_checkpoints_are_of_this_run() {
    let fixture = cached(80);
    train(&fixture);
    let (record, whole) = (fixture.path("run/recipe.toml"), outcome(&fixture));
    let text = fs::read_to_string(&record).unwrap();
    let saved = |step| fs::metadata(checkpoint(&fixture, step).join("state.json")).unwrap().modified().unwrap();
    let before = [saved(10), saved(12)];
    // Truncated within a line, truncated after a complete table, and removed.
    let tables = text.find("[recipe.train").unwrap();
    for (torn, words) in [(Some(&text[..60]), "damaged"), (Some(&text[..tables]), "damaged"), (None, "missing")] {
        match torn {
            Some(torn) => fs::write(&record, torn).unwrap(),
            None => fs::remove_file(&record).unwrap(),
        }
        let said = train(&fixture);
        assert!(said.contains(words) && said.contains("written again"), "{said}");
        assert!(said.contains("already complete (12 steps)"), "{said}");
        assert_eq!(fs::read_to_string(&record).unwrap(), text);
    }
    assert_eq!(before, [saved(10), saved(12)], "a finished run is not trained again");
    assert!(outcome(&fixture) == whole);
    // A damaged record of another run is refused.
    fs::write(&record, &text[..60]).unwrap();
    fixture.edit_recipe("steps = 12", "steps = 13");
    refused(&fixture, &["recipe.toml: damaged", "belongs to another run", "--out", "--replace"]);
    assert_eq!(fs::read_to_string(&record).unwrap(), text[..60]);
}

#[test]
fn a_recipe_that_asks_for_more_than_there_is_is_refused_with_both_numbers() {
    let fixture = cached(60);
    for (from, to, words) in [
        ("alpha = 0.5", "alpha = 0.5\nclasses = 17", &["classes = 17", "keeps 16"][..]),
        ("steps = 12", "steps = 12\nmax_length = 49", &["max_length = 49", "48"]),
        ("hidden_size = 16", "hidden_size = 16\nmax_position_embeddings = 8", &["max_position_embeddings = 8", "48"]),
        ("hidden_size = 16", "hidden_size = 16\nvocab_size = 299", &["vocab_size = 299", "300"]),
        (
            "alpha = 0.5",
            "alpha = 0.5\ntemperature = 12.0\ntemperature_rule = { kind = \"idts\" }",
            &["temperature = 12", "0.75 to 10"],
        ),
    ] {
        fixture.edit_recipe(from, to);
        refused(&fixture, words);
        assert!(!fixture.path("run").exists(), "{to}: nothing was begun");
        fixture.write_recipe("");
    }
    // A model is not evaluated on windows that are longer than its context.
    let config = fixture.path("teacher/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"max_position_embeddings\": 64", "\"max_position_embeddings\": 40")).unwrap();
    let error = fixture.fails(&["eval", "teacher", "--cache", "cache", "--device", "cpu"]);
    assert!(error.contains("windows of 48") && error.contains("context of 40"), "{error}");
    fs::write(&config, text).unwrap();
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\nclasses = 16");
    fixture.edit_recipe("hidden_size = 16", "hidden_size = 16\nmax_position_embeddings = 48");
    fixture.edit_recipe("steps = 12", "steps = 2\nmax_length = 48");
    train(&fixture);
}

#[test]
fn what_is_no_longer_finite_is_named() {
    let fixture = cached(60);
    fixture.edit_recipe("learning_rate = 1e-2\nwarmup = 2", "learning_rate = 1e30\nweight_decay = 0.0");
    let error = refused(&fixture, &["step ", "lower the learning rate"]);
    let is_named = ["the norm of the gradient is", "the weight ", "the loss is NaN", "the loss is inf"];
    assert!(is_named.iter().any(|name| error.contains(name)), "{error}");
    assert!(["NaN", "inf", "no longer finite"].iter().any(|value| error.contains(value)), "{error}");
}

#[test]
fn likeness_of_classes_is_read_from_the_model_that_the_cache_was_made_with() {
    let fixture = cached(60);
    let tokenizer = fs::read(fixture.path("teacher/tokenizer.json")).unwrap();
    write_teacher(&fixture.path("other"), 2, 300, &tokenizer);
    let smaller = train_byte_level_bpe(texts(60).into_iter(), 280).unwrap();
    write_teacher(&fixture.path("small"), 1, 280, smaller.json());
    assert_eq!(config().vocab_size(), 300);
    let similar = "alpha = 0.5\ntail = \"uniform\"\ntarget = { kind = \"similar\", classes = 8, temperature = 0.1 }";
    fixture.edit_recipe("alpha = 0.5", similar);
    let named = |model: &str| format!("model = \"{}\"", fixture.path(model).display());
    for (from, model, words) in [
        ("teacher", "other", &["stale", "teacher: teacher (", "other ("][..]),
        ("other", "small", &["stale", "vocab_size: 300 here, 280 wanted"]),
    ] {
        fixture.edit_recipe(&named(from), &named(model));
        refused(&fixture, words);
        assert!(!fixture.path("run").exists());
    }
    fixture.edit_recipe(&named("small"), &named("teacher"));
    train(&fixture);
}

#[test]
fn agreement_on_a_cache_of_drawn_classes_is_exact_or_absent() {
    let fixture = Fixture::new(60);
    // One class is sampled, or all but one are kept with certainty.
    for (n, exact) in [(1, false), (299, true)] {
        fixture.write_recipe("");
        fixture.edit_recipe("kind = \"top_k\", k = 16", &format!("kind = \"sample\", n = {n}"));
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        let json = fixture.ok(&["eval", "teacher", "--cache", "cache", "--device", "cpu", "--json"]);
        let evaluation: Value = serde_json::from_str(&json).unwrap();
        match exact {
            true => assert_eq!(evaluation["top1_agreement"], 1.0, "n = {n}: {json}"),
            false => assert!(evaluation.get("top1_agreement").is_none(), "n = {n}: {json}"),
        }
        assert!(evaluation["kl_to_teacher"].as_f64().unwrap() < 1e-3, "{json}");
        let text = fixture.ok(&["eval", "teacher", "--cache", "cache", "--device", "cpu"]);
        assert!(text.contains(if exact { "agreement  1.0000" } else { "agreement  -" }), "{text}");
    }
}

/// The fixture's texts with a column of splits, and a run whose perplexity increases after a while.
fn with_validation() -> Fixture {
    let fixture = Fixture::new(80);
    let split = |i: usize| ["train", "train", "train", "validation", "test"][i % 5];
    let line = |(i, text): (usize, String)| format!("{{\"text\": \"{text}\", \"split\": \"{}\"}}\n", split(i));
    fs::write(fixture.path("texts.jsonl"), texts(80).into_iter().enumerate().map(line).collect::<String>()).unwrap();
    fixture.edit_recipe("held_out = 0.1", "split_column = \"split\"");
    fixture.edit_recipe("steps = 12", "steps = 400\nvalidate_every = 4\npatience = 3");
    fixture.edit_recipe("learning_rate = 1e-2", "learning_rate = 0.1");
    fixture.ok(&CACHE);
    fixture
}

/// Steps and perplexities of the validations.
fn validations(metrics: &str) -> Vec<(u64, f64)> {
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|l| Some((l["step"].as_u64()?, l.get("validation")?["perplexity"].as_f64()?))).collect()
}

#[test]
fn a_run_that_gets_worse_ends_early_with_its_best_weights() {
    let fixture = with_validation();
    train(&fixture);
    let whole = outcome(&fixture);
    let seen = validations(&whole.0);
    let &(best, lowest) = seen.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let &(last, worse) = seen.last().unwrap();
    assert!(last < 400 && last == best + 12 && worse > lowest, "three evaluations without a better one: {seen:?}");
    let args = ["eval", "run/student/model", "--cache", "cache", "--split", "validation", "--device", "cpu", "--json"];
    let judged: Value = serde_json::from_str(&fixture.ok(&args)).unwrap();
    let perplexity = judged["perplexity"].as_f64().unwrap();
    assert!((perplexity - lowest).abs() < 1e-6 * lowest, "{perplexity}, at its best {lowest}");

    // As if the run was killed before its end: the best weights so far are kept.
    fs::remove_dir_all(checkpoint(&fixture, last)).unwrap();
    let said = train(&fixture);
    assert!(said.contains("continuing after step"), "{said}");
    assert!(outcome(&fixture) == whole, "resumed");

    // Damaged best weights are not exported: the previous checkpoint has them too.
    let rotten = checkpoint(&fixture, last).join("best.bpk");
    let mut bytes = fs::read(&rotten).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    let said = train(&fixture);
    assert!(said.contains("best.bpk has the BLAKE3"), "{said}");
    assert!(outcome(&fixture) == whole, "resumed beside rotten weights");
}

#[test]
fn a_second_teacher_is_read_beside_the_first_sample_by_sample() {
    let fixture = Fixture::new(300);
    fixture.ok(&CACHE);
    let reader = || CacheReader::open(&fixture.path("cache")).unwrap();
    let both = Source::both(reader(), reader()).unwrap();
    let mut count = 0;
    for samples in [both.shuffled("train", 3, 1, 0).unwrap(), both.in_order("train").unwrap()] {
        for sample in samples {
            let (sample, rows) = sample.unwrap();
            assert!(
                rows.len() == 2 && rows[0] == rows[1] && rows[0].len() == sample.position_count(),
                "{:?}",
                sample.id
            );
            count += 1;
        }
    }
    assert_eq!(count, 2 * both.len("train").unwrap());
}

#[test]
fn generations_move_no_cache_aside_unasked() {
    let fixture = Fixture::new(60);
    fixture.edit_recipe("[teacher]\nmodel = \"", "[tokenizer]\neos = 0\npath = \"");
    fixture.edit_recipe("/teacher\"\nbatch_tokens = 512", "/teacher/tokenizer.json\"");
    fixture.edit_recipe("[train]", "[generations]\ncount = 1\n\n[train]");
    train(&fixture);
    fixture.edit_recipe("k = 16", "k = 8");
    refused(&fixture, &["generation-1.cache", "--replace"]);
    assert!(!fixture.path("run/generation-1.old-1").exists() && !fixture.path("run/generation-1.cache.old-1").exists());
    fixture.ok(&[&TRAIN[..], &["--replace"]].concat());
}
