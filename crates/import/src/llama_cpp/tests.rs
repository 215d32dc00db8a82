use super::*;
use serde_json::{Value, json};
use std::fs;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/imports").join(name)
}

#[test]
fn classes_above_the_clip_are_read() {
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    let source = LlamaCpp::open(&golden("llama_cpp.bin"), 24, Some(0)).unwrap();
    let samples: Vec<ForeignSample> = source.samples(0..2).unwrap().map(Result::unwrap).collect();
    let mut counts = Vec::new();
    for (sample, expected) in samples.iter().zip(expected["llama_cpp"]["samples"].as_array().unwrap()) {
        assert_eq!(json!(sample.input_ids), expected["input_ids"]);
        assert_eq!(sample.positions, Positions::Chosen(vec![4, 5, 6]));
        for (row, expected) in sample.rows.iter().zip(expected["rows"].as_array().unwrap()) {
            counts.push(row.entries.len());
            assert_eq!(json!(row.entries.iter().map(|entry| entry.id).collect::<Vec<_>>()), expected["ids"]);
            for (entry, log_prob) in row.entries.iter().zip(expected["log_probs"].as_array().unwrap()) {
                assert!((entry.log_prob - log_prob.as_f64().unwrap()).abs() < 1e-6, "{entry:?}, {log_prob}");
            }
        }
    }
    assert!(counts.iter().any(|count| *count < 24) && counts.contains(&24), "{counts:?}");
    assert_eq!(source.samples(1..2).unwrap().next().unwrap().unwrap(), samples[1]);
    let as_stored = LlamaCpp::open(&golden("llama_cpp.bin"), 24, None).unwrap();
    let first = as_stored.samples(0..1).unwrap().next().unwrap().unwrap().input_ids[0];
    assert!(first != 0 && as_stored.notes().is_empty());
}

#[test]
fn files_that_are_cut_off_or_others_are_refused() {
    let bytes = fs::read(golden("llama_cpp.bin")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = |bytes: &[u8], k| {
        fs::write(file.path(), bytes).unwrap();
        LlamaCpp::open(file.path(), k, None).err().unwrap().to_string()
    };
    assert!(error(&bytes[..bytes.len() - 1], 24).contains("it is cut off"));
    assert!(error(&bytes[..19], 24).contains("does not begin with `_logits_`"));
    assert!(error(b"GGUF and more than twenty bytes", 24).contains("does not begin with `_logits_`"));
    assert!(error(&bytes, 2049).contains("2049 classes, but 1 to 2048"));
    let mut huge = bytes.clone();
    huge[16..20].copy_from_slice(&(-1i32).to_le_bytes());
    assert!(error(&huge, 24).contains("its header says"), "{}", error(&huge, 24));
}
