//! Columns beside the logits, from the teacher to the cache.

use crate::fixture::Fixture;
use burn::tensor::{Tensor, TensorData};
use logitcask_cache::{CacheReader, CachedSample};
use logitcask_core::math::log_sum_exp;
use logitcask_model::{CausalLm, DeviceChoice, Precision, PretrainedModel};

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];

/// A fixture whose cache has columns of all kinds.
fn with_columns() -> Fixture {
    let fixture = Fixture::new(60);
    fixture.write_recipe(
        "
        [cache.extras.hidden]
        from = { kind = \"hidden\" }
        precision = \"f32\"
        [cache.extras.last]
        from = { kind = \"hidden\", positions = \"last\" }
        precision = \"f32\"
        [cache.extras.mean]
        from = { kind = \"hidden\", positions = \"mean\" }
        [cache.extras.short]
        from = { kind = \"hidden\", positions = \"all\", project = { kind = \"random\", size = 6, seed = 3 } }
        precision = \"f32\"
        [cache.extras.short_mean]
        from = { kind = \"hidden\", positions = \"mean\", project = { kind = \"random\", size = 6, seed = 3 } }
        precision = \"f32\"
        ",
    );
    fixture
}

fn samples(fixture: &Fixture, names: &[&str]) -> Vec<CachedSample> {
    let reader = CacheReader::open(&fixture.path("cache")).unwrap().with_extras(names).unwrap();
    reader.in_order("train").unwrap().map(Result::unwrap).collect()
}

fn mean(vectors: &[f32], size: usize) -> Vec<f64> {
    let count = (vectors.len() / size) as f64;
    (0..size).map(|i| vectors.iter().skip(i).step_by(size).map(|&x| f64::from(x)).sum::<f64>() / count).collect()
}

#[test]
fn a_stored_hidden_state_times_the_head_gives_the_stored_log_probabilities() {
    let fixture = with_columns();
    fixture.ok(&CACHE);
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = PretrainedModel::open(&fixture.path("teacher")).unwrap().load(&device, Precision::F32).unwrap();
    let head = model.head().weights();
    let [size, vocab_size] = head.dims();
    let (mut positions, mut worst_log_z, mut worst) = (0, 0.0, 0.0);
    for CachedSample { rows, .. } in samples(&fixture, &["hidden"]) {
        assert_eq!(rows.extras[0].values.len(), rows.len() * size);
        let hidden =
            Tensor::<2>::from_data(TensorData::new(rows.extras[0].values.clone(), [rows.len(), size]), &device);
        let logits = hidden.matmul(head.clone()).try_into_vec_as::<f32>().unwrap();
        for (row, logits) in rows.iter().zip(logits.chunks(vocab_size)) {
            let logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            let log_z = log_sum_exp(&logits);
            worst_log_z = f64::max(worst_log_z, (log_z - f64::from(row.log_z)).abs());
            for (&id, &log_prob) in row.class_ids.iter().zip(row.log_probs) {
                // Rounded to f16, whose 11 bits are half a unit in 2,048 off.
                let off = (logits[id as usize] - log_z - f64::from(log_prob)).abs();
                worst = f64::max(worst, off / (f64::from(log_prob).abs() / 2048.0 + 1e-4));
            }
            positions += 1;
        }
    }
    assert!(positions > 500 && worst_log_z < 1e-4 && worst < 1.0, "{positions} positions, {worst_log_z}, {worst}");
}

#[test]
fn pooled_and_projected_columns_follow_from_the_vectors_of_the_positions() {
    let fixture = with_columns();
    fixture.ok(&CACHE);
    for CachedSample { rows, .. } in samples(&fixture, &["hidden", "last", "mean", "short", "short_mean"]) {
        let [hidden, last, pooled, short, short_mean] = &rows.extras[..] else { panic!() };
        let size = hidden.per_position;
        assert_eq!((size, short.per_position, rows.len()), (32, 6, hidden.values.len() / size));
        assert_eq!(last.values, hidden.values[hidden.values.len() - size..]);
        for (vectors, size, pooled, rounding) in [(hidden, 32, pooled, 5e-4), (short, 6, short_mean, 1e-6)] {
            let means = mean(&vectors.values, size);
            assert_eq!((means.len(), pooled.per_position), (pooled.values.len(), 0));
            for (mean, &stored) in means.iter().zip(&pooled.values) {
                assert!((mean - f64::from(stored)).abs() < rounding * mean.abs() + 1e-6, "{mean} {stored}");
            }
        }
        // Linear, so one matrix for all positions: the projection of a difference is the difference of projections,
        // which is zero where two positions have the same vector.
        assert!(short.values.iter().all(|x| x.is_finite()) && short.values.iter().any(|&x| x != short.values[0]));
    }
}

#[test]
fn a_column_changes_nothing_else_and_a_killed_run_resumes_to_the_same_cache() {
    let plain = Fixture::new(60);
    plain.ok(&CACHE);
    let fixture = with_columns();
    fixture.ok(&CACHE);
    for (with, without) in samples(&fixture, &[]).iter().zip(&samples(&plain, &[])) {
        assert_eq!(with, without);
    }
    let files = fixture.cache_files();
    // As a run that was killed after its first unit leaves it.
    for name in ["manifest.json", "README.md", "_commits/00001.json"] {
        std::fs::remove_file(fixture.path("cache").join(name)).unwrap();
    }
    fixture.ok(&CACHE);
    assert_eq!(fixture.cache_files(), files);
    fixture.ok(&["verify", "cache"]);
    let shown = fixture.ok(&["inspect", "cache"]);
    assert!(shown.contains("short_mean"), "{shown}");
}

#[test]
fn a_recipe_with_other_columns_than_its_cache_is_refused() {
    let fixture = with_columns();
    fixture.ok(&CACHE);
    fixture.edit_recipe("positions = \"last\"", "positions = \"mean\"");
    for command in ["cache", "train"] {
        let error = fixture.fails(&[command, "recipe.toml", "--device", "cpu"]);
        assert!(error.contains("extra columns") && error.contains("last (hidden states, last, 32 f32)"), "{error}");
    }
    for (edit, wanted) in [("[cache.extras.Last]", "Last"), ("[cache.extras.log_z]", "log_z")] {
        let fixture = with_columns();
        fixture.edit_recipe("[cache.extras.last]", edit);
        let error = fixture.fails(&CACHE);
        assert!(error.contains(wanted) && error.contains("name"), "{error}");
    }
}
