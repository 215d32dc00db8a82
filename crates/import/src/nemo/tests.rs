use super::*;
use serde_json::{Value, json};
use std::fs;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/imports").join(name)
}

#[test]
fn learned_positions_are_read_with_their_log_partition() {
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    let source = Nemo::open(&golden("nemo.jsonl")).unwrap();
    assert_eq!(source.info().selection, Selection::TopK { k: 8 });
    assert!(source.notes()[0].starts_with("1 lines have no position"), "{:?}", source.notes());
    let samples: Vec<ForeignSample> = source.samples(0..3).unwrap().map(Result::unwrap).collect();
    for (sample, expected) in samples.iter().zip(expected["nemo"]["samples"].as_array().unwrap()) {
        assert_eq!(json!([sample.document, sample.input_ids]), json!([expected["document"], expected["input_ids"]]));
        let Positions::Chosen(positions) = &sample.positions else { panic!("all positions") };
        assert_eq!(json!(positions), expected["positions"]);
        assert_eq!(sample.rows.len(), positions.len());
        for (i, row) in sample.rows.iter().enumerate() {
            let close = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() < 1e-6;
            assert!(close(row.log_z.unwrap(), &expected["log_z"][i]));
            for (entry, j) in row.entries.iter().zip(0..) {
                assert_eq!(json!(entry.id), expected["ids"][i][j]);
                assert!(close(entry.log_prob, &expected["log_probs"][i][j]), "{entry:?}");
            }
        }
    }
    assert_eq!(source.lengths(), [7, 7, 3]);
    assert_eq!(source.samples(1..3).unwrap().map(Result::unwrap).collect::<Vec<_>>(), samples[1..]);
}

#[test]
fn lines_that_contradict_themselves_are_refused() {
    let line = json!({
        "tokens": [4, 5], "labels": [5, 6], "loss_mask": [1, 1], "topk_logits": [[2.0, 1.0], [2.0, 1.0]],
        "topk_token_ids": [[7, 8], [7, 8]], "log_sum_exp_logits": [3.0, 3.0], "index": 0,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = |line: &Value| -> Result<ForeignSample> {
        fs::write(file.path(), format!("\n{line}\n")).unwrap();
        let source = Nemo::open(file.path())?;
        source.samples(0..1)?.next().unwrap()
    };
    let sample = read(&line).unwrap();
    assert_eq!((sample.input_ids, sample.place.number), (vec![4, 5, 6], 2));
    for (key, value, words) in [
        ("labels", json!([9, 6]), "line 2: position 0: its label is 9, but the next token is 5"),
        ("labels", json!([5, -100]), "-100"),
        ("labels", json!([5]), "`labels` has 1 items, but `tokens` has 2"),
        ("topk_logits", json!([[2.0, 1.0], [2.0]]), "position 1: 2 ids and 1 logits"),
        ("loss_mask", json!([0, 0]), "nothing to import"),
        ("tokens", json!("text"), "line 2: not an object as NeMo-Aligner writes it"),
        ("log_sum_exp_logits", json!([3.0, null]), "not an object"),
    ] {
        let mut bad = line.clone();
        bad[key] = value;
        let error = read(&bad).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
