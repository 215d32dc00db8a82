//! What can be known before hours of work is checked before them.

use crate::chats;
use crate::fixture::Fixture;
use std::fs;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];

/// Checks that caching fails with an error that contains all words, and that no model was loaded for it.
fn refused(fixture: &Fixture, words: &[&str]) {
    let error = fixture.fails(&CACHE);
    for word in ["recipe.toml"].iter().chain(words) {
        assert!(error.contains(word), "it should mention `{word}`:\n{error}");
    }
    assert!(!error.contains("M parameters") && !fixture.path("cache").exists(), "the teacher did not run: {error}");
}

#[test]
fn a_loss_that_the_cache_cannot_serve_is_refused_before_the_teacher_runs() {
    let fixture = Fixture::new(20);
    for (from, to, words) in [
        ("alpha = 0.5", "alpha = 0.5\ntail = \"sampled\"", &["[loss] tail = \"sampled\"", "drawn at random"][..]),
        ("alpha = 0.5", "alpha = 0.5\nclasses = 17", &["[loss] classes = 17", "16 at most"]),
        ("alpha = 0.5", "alpha = 0.5\ntemperature = 0.5", &["[loss] temperature = 0.5", "0.75 to 10"]),
        (
            "alpha = 0.5",
            "alpha = 0.5\nrelations = { column = \"h\" }",
            &["[loss] relations column = h", "[cache.extras.h]"],
        ),
        ("steps = 12", "steps = 12\nmax_length = 49", &["[train] max_length = 49", "48 tokens"]),
        ("k = 16 }", "k = 16 }\ntemperature_range = [2.0, 10.0]", &["[cache] temperature_range[0] = 2 ", "0.05 to 1"]),
        ("k = 16 }", "k = 16 }\ntemperature_range = [1.0, 1.0]", &["[cache] temperature_range[1] = 1 ", "above 1"]),
        ("held_out = 0.1", "held_out = 1.5", &["[dataset]", "`held_out` is 1.5", "0 to 1"]),
    ] {
        fixture.edit_recipe(from, to);
        refused(&fixture, words);
        fixture.write_recipe("");
    }
    // What mixes caches cannot prune samples, whichever caches they are.
    fixture.edit_recipe("steps = 12", "steps = 12\npruning = { share = 0.5 }");
    fixture.edit_recipe("[student]", "[[data]]\ncache = \"later\"\n\n[student]");
    refused(&fixture, &["[train] pruning", "[[data]]"]);
}

#[test]
fn a_student_that_does_not_fit_the_teacher_is_refused_before_it_runs() {
    let fixture = Fixture::new(20);
    let whole = fs::read_to_string(fixture.recipe()).unwrap();
    let (head, tail) = (whole.split("[student]").next().unwrap(), whole.split("[loss]").nth(1).unwrap());
    let pruned = |keys: &str| format!("{head}[student]\nfrom = \"teacher\"\n{keys}\n[loss]{tail}");
    for (recipe, words) in [
        (pruned("layers = [0, 99]"), &["[student]", "layers = [0, 99]", "from 0 to 1"][..]),
        (pruned("intermediate_size = 49"), &["[student]", "intermediate_size = 49", "1 to 48"]),
        (whole.replace("steps = 12", "steps = 12\nfreeze = [\"ghost\"]"), &["[train] freeze", "ghost"]),
        (
            whole.replace("steps = 12", "steps = 12\nlora = { rank = 2, alpha = 4.0, targets = [\"q_proj\"] }"),
            &["[train] lora", "[student] from"],
        ),
        (whole.replace("[student]", "[student]\nvocab_size = 299"), &["[student]", "vocab_size = 299", "300"]),
        (
            whole.replace("[student]", "[student]\nmax_position_embeddings = 8"),
            &["[student] max_position_embeddings = 8", "48"],
        ),
    ] {
        fs::write(fixture.recipe(), recipe).unwrap();
        refused(&fixture, words);
        // Sizes can be estimated and texts prepared all the same.
        for command in
            [&["estimate", "recipe.toml", "--device", "cpu", "--samples", "4"][..], &["prepare", "recipe.toml"]]
        {
            let output = fixture.run(command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && words.iter().all(|word| said.contains(word)), "{command:?}: {said}");
        }
    }
    // The model may be on another machine.
    fs::write(fixture.recipe(), pruned("layers = [0]").replace("from = \"teacher\"", "from = \"elsewhere/model\""))
        .unwrap();
    fixture.ok(&CACHE);
    // A finished cache is up to date for any student.
    fs::write(fixture.recipe(), whole.replace("steps = 12", "steps = 12\nfreeze = [\"ghost\"]")).unwrap();
    assert!(fixture.ok(&CACHE).contains("up to date"));
}

#[test]
fn a_teacher_writes_no_answers_for_a_student_that_does_not_fit() {
    let fixture = chats::fixture();
    fixture.edit_recipe("[teacher]", "[dataset.generate]\nmax_tokens = 4\n\n[teacher]");
    fixture.edit_recipe("steps = 12", "steps = 12\nfreeze = [\"ghost\"]");
    refused(&fixture, &["[train] freeze", "ghost"]);
    assert!(!fixture.path("cache.answers.parquet").exists());
    fixture.edit_recipe("\nfreeze = [\"ghost\"]", "");
    let output = fixture.run(&["estimate", "recipe.toml", "--device", "cpu", "--samples", "4"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("%) are answers"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_a_text_is_generated() {
    let fixture = Fixture::new(20);
    // Nobody can write there, not even the administrator.
    for command in [
        &["generate", "teacher", "--count", "3", "--max-tokens", "9", "--device", "cpu", "--out", "/proc/x.parquet"][..],
        &["tokenizer", "texts.jsonl", "--size", "280", "--out", "/proc/tokenizer.json"],
    ] {
        let error = fixture.fails(command);
        assert!(error.contains("/proc/") && error.contains("cannot be written"), "{error}");
        assert!(!error.contains(" tokens in "), "nothing was generated: {error}");
    }
    let output = fixture.run(&[
        "generate",
        "teacher",
        "--count",
        "3",
        "--max-tokens",
        "9",
        "--device",
        "cpu",
        "--out",
        "x.parquet",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("teacher writes 3 texts on "), "{said}");
}

#[test]
fn numbers_of_the_command_line_are_refused_in_words() {
    let fixture = Fixture::new(5);
    for (command, least) in [
        (&["estimate", "recipe.toml", "--samples", "0"][..], 2),
        (&["estimate", "recipe.toml", "--samples", "x"], 2),
        (&["generate", "teacher", "--count", "1.5"], 1),
        (&["inspect", "cache", "--sample", "-1"], 0),
        (&["train", "recipe.toml", "--seed", "one"], 0),
    ] {
        let error = fixture.fails(command);
        assert!(error.contains(&format!("it must be a whole number, {least} or more")), "{error}");
    }
}
