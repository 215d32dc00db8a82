use super::*;
use crate::source::Entry;
use arrow_array::ArrayRef;
use arrow_array::builder::{Int64Builder, ListBuilder, UInt8Builder};
use parquet::arrow::ArrowWriter;
use serde::Deserialize;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

/// Samples of the five kinds of settings, and what an independent implementation reads from them.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/distillkit").join(name)
}

#[derive(Deserialize)]
struct Expected {
    variants: HashMap<String, Variant>,
    legacy: Rows,
}

#[derive(Deserialize)]
struct Variant {
    tolerance: f64,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<u64>,
    topk_ids: Vec<Vec<u64>>,
    log_probs: Vec<Vec<f64>>,
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn open(folder: &Path, legacy_values: Option<LegacyValues>, pad_token: Option<u64>) -> Result<DistillKit> {
    let settings = Settings::read(None, folder)?;
    DistillKit::open(folder, Reading { settings, legacy_values, pad_token })
}

fn read(source: &DistillKit, range: Range<u64>) -> Result<Vec<ForeignSample>> {
    source.samples(range)?.collect()
}

fn agree(samples: &[ForeignSample], rows: &[Row], tolerance: f64, what: &str) {
    assert_eq!(samples.len(), rows.len(), "{what}");
    for (sample, row) in samples.iter().zip(rows) {
        assert_eq!((&sample.input_ids, sample.rows.len()), (&row.input_ids, row.topk_ids.len()), "{what}");
        for (position, (ids, log_probs)) in sample.rows.iter().zip(row.topk_ids.iter().zip(&row.log_probs)) {
            let of_sample: Vec<u64> = position.entries.iter().map(|entry| entry.id).collect();
            assert_eq!(of_sample, *ids, "{what}");
            for (entry, log_prob) in position.entries.iter().zip(log_probs) {
                assert!((entry.log_prob - log_prob).abs() <= tolerance, "{what}: {entry:?}, expected {log_prob}");
            }
        }
    }
}

#[test]
fn every_kind_of_settings_is_read_as_another_program_reads_it() {
    let Expected { variants, legacy } = expected();
    for (name, Variant { tolerance, rows }) in variants {
        let source = open(&golden(&name), None, None).unwrap();
        assert_eq!(source.info().source, RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass });
        let samples = read(&source, 0..6).unwrap();
        assert!(samples.iter().any(|sample| sample.rows.len() == 1), "a sequence with a single position");
        agree(&samples, &rows, tolerance, &name);
    }
    let source = open(&golden("legacy"), Some(LegacyValues::LogProbs), None).unwrap();
    agree(&read(&source, 0..3).unwrap(), &legacy.rows, 2e-5, "legacy");
}

#[test]
fn the_older_form_must_be_told_what_its_values_are() {
    let error = open(&golden("legacy"), None, None).err().unwrap().to_string();
    assert!(error.contains("--values log-probs or --values centred-logits"), "{error}");
    let source = open(&golden("legacy"), Some(LegacyValues::CentredLogits), None).unwrap();
    assert_eq!(source.info().source.tail, TailSource::None);
    let sample = read(&source, 0..1).unwrap().remove(0);
    let mass: f64 = sample.rows[0].entries.iter().map(|entry| entry.log_prob.exp()).sum();
    assert!((mass - 1.0).abs() < 1e-12, "{mass}");
    let error = open(&golden("delta"), Some(LegacyValues::LogProbs), None).err().unwrap().to_string();
    assert!(error.contains("leave out --values"), "{error}");
}

#[test]
fn any_range_has_the_samples_of_the_whole() {
    let source = open(&golden("delta"), None, None).unwrap();
    let whole = read(&source, 0..6).unwrap();
    assert_eq!(whole[5].place.to_string(), format!("{}: row 1", golden("delta/data_1.parquet").display()));
    for start in 0..6 {
        for end in start..=6 {
            assert_eq!(read(&source, start..end).unwrap(), whole[start as usize..end as usize], "{start}..{end}");
        }
    }
}

#[test]
fn a_padding_token_is_left_out_with_its_position() {
    let source = open(&golden("delta"), None, None).unwrap();
    let whole = read(&source, 0..6).unwrap();
    assert!(source.notes().iter().any(|note| note.contains("6 sequences end with token 0")), "{:?}", source.notes());
    let source = open(&golden("delta"), None, Some(0)).unwrap();
    // The third sequence is a token and the padding.
    assert_eq!(source.lengths(), [2, 7, 18, 26, 35]);
    assert_eq!(source.left_out, [2]);
    let shorter = read(&source, 0..5).unwrap();
    for (sample, index) in shorter.iter().zip([0, 1, 3, 4, 5]) {
        let length = sample.input_ids.len();
        assert_eq!(sample.input_ids, whole[index].input_ids[..length]);
        assert_eq!((&sample.rows[..], sample.document), (&whole[index].rows[..length - 1], index as u64));
    }
    assert_eq!(read(&source, 2..4).unwrap(), shorter[2..4]);
    let notes = source.notes().join("; ");
    assert!(notes.contains("1 sequences have no position") && notes.contains("6 sequences are taken over"), "{notes}");
}

#[test]
fn the_fingerprint_is_that_of_bytes_and_reading() {
    let print = |folder: &Path, pad| open(folder, None, pad).unwrap().fingerprint().unwrap();
    let delta = print(&golden("delta"), None);
    assert_ne!(delta, print(&golden("delta"), Some(0)));
    assert_ne!(delta, print(&golden("budget"), None));
    let copy = tempfile::tempdir().unwrap();
    for (from, to) in
        [("data_0.parquet", "a-0.parquet"), ("data_1.parquet", "a-1.parquet"), ("compression_config.yaml", "s.yml")]
    {
        fs::copy(golden("delta").join(from), copy.path().join(to)).unwrap();
    }
    assert_eq!(delta, print(copy.path(), None), "names do not matter");
}

/// A folder with one row of these tokens, bytes of values and bytes of ids, in types that other writers choose.
fn folder(tokens: &[i64], values: &[&[u8]], ids: &[&[u8]], yaml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut of_tokens = ListBuilder::new(Int64Builder::new());
    of_tokens.values().append_slice(tokens);
    of_tokens.append(true);
    let nested = |lists: &[&[u8]]| -> ArrayRef {
        let mut nested = ListBuilder::new(ListBuilder::new(UInt8Builder::new()));
        for list in lists {
            nested.values().values().append_slice(list);
            nested.values().append(true);
        }
        nested.append(true);
        Arc::new(nested.finish())
    };
    let columns: [(&str, ArrayRef); 3] = [
        ("bytepacked_indices", nested(ids)),
        ("compressed_logprobs", nested(values)),
        ("input_ids", Arc::new(of_tokens.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(folder.path().join("data_0.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    fs::write(folder.path().join("compression_config.yaml"), yaml).unwrap();
    folder
}

/// Two classes of 256, in f16.
const TWO: &str = "d: 256\nk: 2\nexact_k: 2\nexact_dtype: float16\nresidual_bins: []\ndelta_encoding: false\n";

#[test]
fn damage_and_other_settings_are_refused_with_file_row_and_position() {
    // -1 and -2 in f16.
    let (values, ids) = (&[0x00, 0xbc, 0x00, 0xc0][..], &[7, 9][..]);
    let whole = folder(&[1, 2, 3], &[values, values], &[ids, ids], TWO);
    let samples = read(&open(whole.path(), None, None).unwrap(), 0..1).unwrap();
    let entries = [Entry { id: 7, log_prob: -1.0 }, Entry { id: 9, log_prob: -2.0 }];
    assert!(samples[0].rows.iter().all(|row| row.entries == entries), "{samples:?}");

    let other = TWO.replace("float16", "float32");
    for (bad, words) in [
        (
            folder(&[1, 2, 3], &[values, &values[..3]], &[ids, ids], TWO),
            "data_0.parquet: row 0: position 1: `compressed",
        ),
        (folder(&[1, 2, 3], &[values, values], &[ids, &ids[..1]], TWO), "position 1: `bytepacked_indices` has 1 bytes"),
        (folder(&[1, 2, 3], &[values, values], &[ids, ids], &other), "has 4 bytes, but the settings make 8"),
        (folder(&[1, 2], &[values, values], &[ids, ids], TWO), "row 0: 2 tokens have 1 positions, but 2 are stored"),
        (folder(&[1, 2, 3], &[values, values], &[ids], TWO), "row 0: its columns hold [2, 1] positions"),
    ] {
        let error = read(&open(bad.path(), None, None).unwrap(), 0..1).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (bad, words) in [
        (folder(&[1], &[], &[], TWO), "no sequence with a position"),
        (folder(&[1, -2], &[values], &[ids], TWO), "`input_ids` does not hold numbers"),
    ] {
        let error = open(bad.path(), None, None).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn files_that_are_missing_or_of_the_other_form_are_refused() {
    let copy = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| fs::copy(golden(from), copy.path().join(to)).unwrap();
    let error = || open(copy.path(), Some(LegacyValues::LogProbs), None).err().unwrap().to_string();
    assert!(error().contains("has no YAML file"), "{}", error());
    put("legacy/legacy_logit_compression.yaml", "settings.yaml");
    assert!(error().contains("no .parquet file"), "{}", error());
    put("delta/data_0.parquet", "data_0.parquet");
    assert!(error().contains("there is no column `packed_indices`, which the settings imply"), "{}", error());
    put("legacy/data_0.parquet", "data_2.parquet");
    assert!(error().contains("data_1.parquet is missing"), "{}", error());
    let bytes = fs::read(golden("delta/data_0.parquet")).unwrap();
    fs::write(copy.path().join("data_1.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(error().contains("data_1.parquet: not a whole Parquet file"), "{}", error());
}
