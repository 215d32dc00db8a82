//! From dataset to student: the same inputs result in the same bytes, and the student is a model that can be opened.

use crate::fixture::Fixture;
use logitcask_cache::CacheReader;
use logitcask_core::rng::CounterRng;
use serde_json::Value;
use std::fs;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_same_inputs_give_the_same_cache_byte_for_byte() {
    let (a, b) = (Fixture::new(80), Fixture::new(80));
    for fixture in [&a, &b] {
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    }
    assert_eq!(a.cache_files(), b.cache_files());
    let again = a.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    assert!(again.contains("up to date"), "{again}");
}

#[test]
fn the_whole_way_ends_in_a_model_that_can_teach() {
    let fixture = Fixture::new(80);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let table = fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--control", "--out", "run"]);
    assert!(table.contains("control") && table.contains("perplexity"), "{table}");
    let again = fixture.run(&["train", "recipe.toml", "--device", "cpu", "--control", "--out", "run"]);
    let notes = String::from_utf8(again.stderr).unwrap();
    assert!(
        notes.contains("student: training is already complete (12 steps)") && !notes.contains(" 0 steps"),
        "{notes}"
    );
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table);

    let summary = json(&fs::read_to_string(fixture.path("run/summary.json")).unwrap());
    for who in ["student", "control"] {
        for figure in ["perplexity", "kl_to_teacher", "top1_agreement"] {
            assert!(summary[who][figure].as_f64().unwrap() > 0.0, "{who} {figure}");
        }
    }
    let inspected = json(&fixture.ok(&["inspect", "cache", "--json"]));
    for figure in ["cache_id", "bytes_per_position", "bytes_per_entry", "kept_mass"] {
        assert_eq!(summary["cache"][figure], inspected[figure], "{figure}");
        assert!(!inspected[figure].is_null());
    }
    let judged = json(&fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu", "--json"]));
    let (one, other) = (judged["perplexity"].as_f64().unwrap(), summary["student"]["perplexity"].as_f64().unwrap());
    assert!((one / other - 1.0).abs() < 1e-5, "{one} from the exported folder, {other} in training");

    // A student can be the next teacher.
    fixture.edit_recipe("teacher\"", "run/student/model\"");
    fixture.edit_recipe("/cache\"", "/cache-2\"");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
}

#[test]
fn top_p_keeps_few_where_few_are_enough_and_trains() {
    let fixture = Fixture::new(60);
    fixture.edit_recipe("{ kind = \"top_k\", k = 16 }", "{ kind = \"top_p\", p = 0.2, k = 64 }");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    let rows = cache.in_order("train").unwrap().map(Result::unwrap);
    let counts: Vec<u16> = rows.flat_map(|row| row.rows.counts).collect();
    let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / counts.len() as f64;
    // The number of classes that reach a fifth of the probability varies from position to position.
    assert!((2.0..60.0).contains(&mean), "{mean} on average");
    assert!(counts.iter().any(|&count| f64::from(count) < mean / 2.0) || counts.iter().min() < counts.iter().max());
}

#[test]
fn the_order_of_training_depends_on_seed_and_epoch_alone() {
    let fixture = Fixture::new(300);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    let order = |seed, epoch, skip| -> Vec<u64> {
        cache.shuffled("train", seed, epoch, skip).unwrap().map(|row| row.unwrap().sample.id.0).collect()
    };
    let first = order(1, 0, 0);
    assert_eq!(first, std::thread::scope(|s| s.spawn(|| order(1, 0, 0)).join().unwrap()));
    assert_ne!(first, order(2, 0, 0));
    assert_ne!(first, order(1, 1, 0));
    let skip = CounterRng::new("test", &[5]).below(first.len() as u64);
    assert_eq!(first[skip as usize..], order(1, 0, skip));
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..cache.len("train").unwrap()).collect::<Vec<_>>());
}

#[test]
fn generated_texts_do_not_depend_on_the_batch() {
    let fixture = Fixture::new(20);
    let write = |batch: &str, out: &str| {
        fixture.ok(&["generate", "teacher", "--count", "9", "--batch", batch, "--device", "cpu", "--out", out]);
        let config = logitcask_data::DatasetConfig::at(&fixture.path(out));
        logitcask_data::read_documents(&config).unwrap().documents.into_iter().map(|d| d.content).collect::<Vec<_>>()
    };
    let texts = write("4", "a.parquet");
    assert!(texts.len() > 5, "{texts:?}");
    assert_eq!(texts, write("9", "b.parquet"));
}
