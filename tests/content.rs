//! Students that one cache can train, and uses of it that are refused.

use crate::fixture::{Fixture, write_teacher};
use logitcask_cache::{CacheReader, CachedSample, Layout};
use logitcask_core::{SampleId, SoftRows};
use serde_json::Value;
use std::fs;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

fn with_selection(selection: &str) -> Fixture {
    let fixture = Fixture::new(60);
    fixture.edit_recipe("{ kind = \"top_k\", k = 16 }", selection);
    fixture
}

fn losses(fixture: &Fixture) -> Vec<String> {
    let metrics = fs::read_to_string(fixture.path("run/student/metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].to_string();
    metrics.lines().map(loss).collect()
}

#[test]
fn every_selection_is_cached_and_taught_from() {
    for selection in [
        "{ kind = \"sample\", n = 12 }",
        "{ kind = \"dense\" }",
        "{ kind = \"top_p\", p = 0.5, k = 40 }\nalways_keep = [7, 3]\nvalues = { kind = \"quantised\", step = 0.0625 }",
    ] {
        let fixture = with_selection(selection);
        fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\ntemperature = 2.0");
        fixture.ok(&CACHE);
        fixture.ok(&TRAIN);
        assert_eq!(losses(&fixture).len(), 12);
    }
}

#[test]
fn layouts_teach_the_same_to_the_last_bit() {
    let fixture = with_selection("{ kind = \"top_p\", p = 0.5, k = 40 }");
    fixture.ok(&CACHE);
    fixture.ok(&TRAIN);
    let plain = losses(&fixture);
    let export = ["export", "cache", "--layout", "packed", "--out", "packed"];
    assert!(!fixture.ok(&export).contains("already"));
    assert!(fixture.ok(&export).contains("packed: already complete, cache id "));
    fixture.edit_recipe("/cache\"", "/packed\"");
    fixture.edit_recipe("[cache]", "[cache]\nlayout = \"packed\"");
    // Converting and caching into a layout result in the same files.
    let up_to_date = fixture.ok(&CACHE);
    assert!(up_to_date.contains("up to date"), "{up_to_date}");
    fs::rename(fixture.path("packed"), fixture.path("converted")).unwrap();
    fixture.ok(&CACHE);
    let cache_id = |name: &str| CacheReader::open(&fixture.path(name)).unwrap().cache_id();
    assert_eq!(cache_id("converted"), cache_id("packed"));
    fs::remove_dir_all(fixture.path("run")).unwrap();
    fixture.ok(&TRAIN);
    assert_eq!(losses(&fixture), plain);
    assert_eq!(CacheReader::open(&fixture.path("packed")).unwrap().plan().layout, Layout::Packed);
}

#[test]
fn a_shorter_prefix_and_fewer_classes_are_read_from_the_same_cache() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    fixture.edit_recipe("steps = 12", "steps = 12\nmax_length = 9");
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\nclasses = 4");
    let up_to_date = fixture.ok(&CACHE);
    assert!(up_to_date.contains("up to date"), "{up_to_date}");
    fixture.ok(&TRAIN);
    assert_eq!(losses(&fixture).len(), 12);
}

/// Every row of the train split under its sample and position, in a form that can be compared bit by bit.
fn rows(fixture: &Fixture) -> Vec<(u64, usize, SoftRows)> {
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    let of_sample = |cached: CachedSample| -> Vec<_> {
        let one = |(position, row)| {
            let mut rows = SoftRows::new(&cache.plan().keep);
            rows.push(row);
            (cached.sample.id.0, position, rows)
        };
        cached.sample.position_indices().zip(cached.rows.iter()).map(one).collect()
    };
    cache.in_order("train").unwrap().flat_map(|cached| of_sample(cached.unwrap())).collect()
}

#[test]
fn chosen_positions_have_the_rows_of_the_whole_cache_and_are_trained_on() {
    let whole = Fixture::new(60);
    whole.ok(&CACHE);
    let all = rows(&whole);
    for layout in ["plain", "packed"] {
        let fixture = Fixture::new(60);
        let lines =
            format!("[cache]\nlayout = \"{layout}\"\npositions = {{ kind = \"share\", share = 0.2, seed = 4 }}");
        fixture.edit_recipe("[cache]", &lines);
        let said = fixture.ok(&CACHE);
        let some = rows(&fixture);
        assert!(some.len() * 4 < all.len(), "{} of {}", some.len(), all.len());
        assert!(some.iter().all(|row| all.contains(row)), "{layout}: a row differs from the whole cache's");
        assert!(said.contains("positions"), "{said}");
        fixture.ok(&TRAIN);
        assert_eq!(losses(&fixture).len(), 12);
        let shown = fixture.ok(&["inspect", "cache", "--sample", "0", "--positions", "40"]);
        let (cached, not) = (shown.matches(" | ").count(), shown.matches("  not cached").count());
        let here = some.iter().filter(|(id, ..)| *id == 0).count();
        let tokens = CacheReader::open(&fixture.path("cache")).unwrap().get("train", SampleId(0)).unwrap();
        let first = tokens.sample.position_indices().next().unwrap();
        assert!(cached >= here && not == (tokens.sample.next_tokens() - first).min(40) - here, "{shown}");
    }
    whole.edit_recipe("[cache]", "[cache]\npositions = { kind = \"share\", share = 0.5 }");
    let refused = whole.fails(&TRAIN);
    assert!(refused.contains("positions: all here, share 0.5"), "{refused}");
    whole.edit_recipe("share\", share = 0.5 }", "marked\" }");
    let refused = whole.fails(&CACHE);
    assert!(refused.contains("marks no positions"), "{refused}");
}

#[test]
fn rows_with_marks_are_cached_and_evaluated_at_their_answers() {
    let fixture = Fixture::new(60);
    let row = |i: u32| {
        let ids: Vec<u32> = (0..20).map(|token| (i * 31 + token * 7) % 290).collect();
        let mask: Vec<u8> = (0..20).map(|token| u8::from(token >= 10 && !i.is_multiple_of(4))).collect();
        serde_json::json!({ "input_ids": ids, "completion_mask": mask }).to_string() + "\n"
    };
    fs::write(fixture.path("texts.jsonl"), (0..80).map(row).collect::<String>()).unwrap();
    fixture.edit_recipe("[dataset]", "[dataset]\ntokens_column = \"input_ids\"\nmask_column = \"completion_mask\"");
    fixture.ok(&CACHE);
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    for cached in cache.in_order("train").unwrap() {
        let sample = cached.unwrap().sample;
        assert_eq!(sample.position_indices().collect::<Vec<_>>(), (9..19).collect::<Vec<_>>());
        assert!(sample.origin.document % 4 != 0, "a row without answers has nothing to learn");
    }
    fixture.ok(&TRAIN);
    let summary: Value = serde_json::from_str(&fs::read_to_string(fixture.path("run/summary.json")).unwrap()).unwrap();
    fixture.edit_recipe("steps = 12", "steps = 12\nmax_length = 10");
    let refused = fixture.fails(&["train", "recipe.toml", "--device", "cpu", "--out", "short"]);
    assert!(
        refused.contains("no sample of a step has a cached position") && refused.contains("max_length"),
        "{refused}"
    );
    let test = cache.in_order("test").unwrap().map(|cached| cached.unwrap().rows.len()).sum::<usize>();
    assert_eq!(summary["student"]["positions"].as_u64(), Some(test as u64));
}

#[test]
fn what_would_pair_a_row_with_another_context_is_refused() {
    let fixture = Fixture::new(60);
    fixture.ok(&CACHE);
    fixture.edit_recipe("max_length = 48", "max_length = 40");
    let error = fixture.fails(&TRAIN);
    assert!(error.contains("other windows") && error.contains("[train] max_length"), "{error}");
    let error = fixture.fails(&CACHE);
    assert!(error.contains("max_length: 48 here, 40 wanted"), "{error}");
    fixture.edit_recipe("max_length = 40", "max_length = 48");
    // The cache's tokenizer is replaced.
    let tokenizer = fixture.path("cache/tokenizer.json");
    let good = fs::read_to_string(&tokenizer).unwrap();
    fs::write(&tokenizer, good.replacen("\"a\"", "\"A\"", 1)).unwrap();
    let error = fixture.fails(&TRAIN);
    assert!(error.contains("tokenizer.json"), "{error}");
    fs::write(&tokenizer, good).unwrap();
    // Changed texts are another dataset.
    let texts = fixture.path("texts.jsonl");
    let text = fs::read_to_string(&texts).unwrap();
    fs::write(&texts, text.replacen("cat", "dog", 1)).unwrap();
    let error = fixture.fails(&CACHE);
    assert!(error.contains("dataset: ") && error.contains("wanted"), "{error}");
}

#[test]
fn a_vocabulary_padded_beyond_the_tokenizer_works() {
    let fixture = Fixture::new(60);
    let tokenizer = fs::read(fixture.path("teacher/tokenizer.json")).unwrap();
    fs::remove_dir_all(fixture.path("teacher")).unwrap();
    // The tokenizer has fewer tokens than the teacher has classes.
    write_teacher(&fixture.path("teacher"), 1, 384, &tokenizer);
    fixture.ok(&CACHE);
    fixture.ok(&TRAIN);
    let plan = CacheReader::open(&fixture.path("cache")).unwrap().plan().clone();
    assert_eq!((plan.vocab_size, plan.keep.padding), (300, 84), "what no token has is never kept");
    let student = fs::read_to_string(fixture.path("run/student/model/config.json")).unwrap();
    assert!(student.contains("\"vocab_size\": 300"), "nor inherited unasked: {student}");
    for seed in ["0", "1", "2"] {
        // A random model would sample from all rows of its head, a fifth of which belong to no token.
        fixture.ok(&["generate", "teacher", "--seed", seed, "--count", "4", "--max-tokens", "30", "--device", "cpu"]);
    }
    for selection in ["{ kind = \"dense\" }", "{ kind = \"sample\", n = 12, seed = 0 }"] {
        fixture.edit_recipe("{ kind = \"top_k\", k = 16 }", selection);
        fixture.edit_recipe("/cache\"", "/other\"");
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
        fixture.ok(&["verify", "other"]);
        let json = fixture.ok(&["eval", "teacher", "--cache", "other", "--device", "cpu", "--json"]);
        if selection.contains("dense") {
            let judged: Value = serde_json::from_str(&json).unwrap();
            let agrees = judged["kl_to_teacher"].as_f64().unwrap() < 5e-5 && judged["top1_agreement"] == 1.0;
            assert!(agrees, "a teacher agrees with itself: {json}");
        }
        let out = if selection.contains("dense") { "run-dense" } else { "run-sample" };
        fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", out]);
        fixture.write_recipe("");
    }
    fixture.edit_recipe("k = 16", "k = 300");
    assert!(fixture.fails(&CACHE).contains("use dense"));
    fixture.write_recipe("");
    let shown = fixture.ok(&["inspect", "cache"]);
    assert!(shown.contains("padding      84 classes"), "{shown}");
    fixture.edit_recipe("[student]", "[student]\nvocab_size = 384");
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run-of-all-classes"]);
    fixture.edit_recipe("vocab_size = 384", "vocab_size = 385");
    let error = fixture.fails(&["train", "recipe.toml", "--device", "cpu", "--out", "run-of-more"]);
    assert!(error.contains("300 to 384"), "{error}");
    fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
    fixture.ok(&["inspect", "cache", "--sample", "0"]);
}

#[test]
fn a_plan_says_what_a_cache_would_take() {
    let fixture = Fixture::new(60);
    let plan = fixture.ok(&["estimate", "recipe.toml", "--device", "cpu", "--samples", "8"]);
    for words in ["top_k k=16 *", "bytes per token", "kept mass", "packed 1/16", "stage 1", "caching pays off after"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(!fixture.path("cache").exists(), "a plan writes nothing");
    // The selections that a dense cache is compared with have a tail, so their error of log Z is not 0.
    fixture.edit_recipe("{ kind = \"top_k\", k = 16 }", "{ kind = \"dense\" }");
    let plan = fixture.ok(&["estimate", "recipe.toml", "--device", "cpu", "--samples", "8"]);
    let error = |name: &str| {
        let line = plan.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {plan}"));
        line.trim_start_matches(name).split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    assert!(error("top_k k=16") > 0.0 && plan.contains("dense *"), "{plan}");
}
