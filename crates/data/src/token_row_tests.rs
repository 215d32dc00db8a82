//! Rows of tokens that another program made, and the positions that their marks choose.

use crate::tokenizer::train_byte_level_bpe;
use crate::{Dataset, DatasetConfig, TextDataset, TextTokenizer};
use arrow_array::builder::{BooleanBuilder, Int64Builder, LargeListBuilder, ListBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch};
use logitcask_core::{Positions, SampleId};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// 257 tokens, with a start and an end token that rows of tokens must not get.
static TOKENIZER: LazyLock<TextTokenizer> =
    LazyLock::new(|| train_byte_level_bpe(["a".to_owned()].into_iter(), 257).unwrap());

/// A row: its tokens, and whether each is marked.
type Row = (Vec<u32>, Vec<bool>);

fn config(path: &Path, marks: &str) -> DatasetConfig {
    let column = Some(marks.to_owned());
    let (mask_column, labels_column) = if marks == "labels" { (None, column) } else { (column, None) };
    DatasetConfig {
        tokens_column: Some("input_ids".into()),
        mask_column,
        labels_column,
        held_out: 0.0,
        ..DatasetConfig::at(path)
    }
}

fn write_jsonl(path: &Path, rows: &[Row]) {
    let line = |(ids, marks): &Row| {
        let labels: Vec<i64> = ids.iter().zip(marks).map(|(&id, &mark)| if mark { id.into() } else { -100 }).collect();
        serde_json::json!({ "input_ids": ids, "completion_mask": marks, "labels": labels }).to_string() + "\n"
    };
    fs::write(path, rows.iter().map(line).collect::<String>()).unwrap();
}

/// Tokens as a list of u32 and the mask as a large list of truth values; labels as a list of i64.
fn write_parquet(path: &Path, rows: &[Row]) {
    let (mut ids, mut mask) = (ListBuilder::new(UInt32Builder::new()), LargeListBuilder::new(BooleanBuilder::new()));
    let mut labels = ListBuilder::new(Int64Builder::new());
    for (tokens, marks) in rows {
        for (&token, &mark) in tokens.iter().zip(marks) {
            ids.values().append_value(token);
            mask.values().append_value(mark);
            labels.values().append_value(if mark { token.into() } else { -100 });
        }
        ids.append(true);
        mask.append(true);
        labels.append(true);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("input_ids", Arc::new(ids.finish())),
        ("completion_mask", Arc::new(mask.finish())),
        ("labels", Arc::new(labels.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Tokens and positions of every sample.
fn samples(dataset: &TextDataset) -> Vec<(u64, u32, Vec<u32>, Vec<usize>)> {
    let sample = |id| {
        let sample = dataset.sample("train", SampleId(id)).unwrap();
        let positions: Vec<usize> = sample.position_indices().collect();
        assert_eq!(dataset.position_count("train", SampleId(id)).unwrap(), positions.len());
        assert!(matches!(sample.positions, Positions::Chosen(_)));
        (sample.origin.document, sample.origin.offset, sample.input_ids, positions)
    };
    (0..dataset.len("train")).map(sample).collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = prop::collection::vec((0..257u32, any::<bool>()), 0..30);
    prop::collection::vec(row.prop_map(|row| row.into_iter().unzip()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_position_is_taught_if_and_only_if_its_next_token_is_marked(rows in rows(), max_length in 2usize..12) {
        let folder = TempDir::new().unwrap();
        let [lines, table] = ["rows.jsonl", "rows.parquet"].map(|name| folder.path().join(name));
        write_jsonl(&lines, &rows);
        write_parquet(&table, &rows);
        let load = |path, marks| TextDataset::load(&config(path, marks), &TOKENIZER, max_length);
        let marked: usize = rows.iter().map(|(_, marks)| marks.iter().skip(1).filter(|mark| **mark).count()).sum();
        if marked == 0 {
            prop_assert!(load(&lines, "labels").is_err());
            return Ok(());
        }
        let dataset = load(&lines, "completion_mask").unwrap();
        prop_assert!(dataset.marks_positions());
        let found = samples(&dataset);
        for (path, marks) in [(&lines, "labels"), (&table, "completion_mask"), (&table, "labels")] {
            let other = load(path, marks).unwrap();
            prop_assert_eq!(other.fingerprint(), dataset.fingerprint());
            prop_assert_eq!(samples(&other), found.clone());
        }
        let mut taught = vec![];
        for (document, offset, tokens, positions) in found {
            let (ids, _) = &rows[document as usize];
            prop_assert_eq!(&ids[offset as usize..][..tokens.len()], &tokens[..]);
            prop_assert!(!positions.is_empty() && tokens.len() <= max_length);
            taught.extend(positions.into_iter().map(|position| (document as usize, offset as usize + position + 1)));
        }
        let wanted: Vec<(usize, usize)> = rows.iter().enumerate().flat_map(|(row, (_, marks))| {
            (1..marks.len()).filter(|&token| marks[token]).map(move |token| (row, token))
        }).collect();
        prop_assert_eq!(taught, wanted, "every marked token once, and no other");
    }
}

#[test]
fn other_marks_are_another_dataset_and_no_marks_mean_every_position() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rows.jsonl");
    let load = |config: &DatasetConfig| TextDataset::load(config, &TOKENIZER, 8).unwrap();
    write_jsonl(&path, &[(vec![1, 2, 3], vec![false, true, false])]);
    let one = load(&config(&path, "labels")).fingerprint();
    let unmarked = load(&DatasetConfig { labels_column: None, ..config(&path, "labels") });
    assert!(!unmarked.marks_positions());
    let sample = unmarked.sample("train", SampleId(0)).unwrap();
    assert_eq!((sample.positions, sample.input_ids), (Positions::All, vec![1, 2, 3]), "no start and no end token");
    write_jsonl(&path, &[(vec![1, 2, 3], vec![false, true, true])]);
    let other = load(&config(&path, "labels")).fingerprint();
    assert_ne!(one, other);
    assert_ne!(unmarked.fingerprint(), other);
}

#[test]
fn rows_that_cannot_be_used_are_refused_by_file_and_row() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rows.jsonl");
    let refused = |config: &DatasetConfig| TextDataset::load(config, &TOKENIZER, 8).unwrap_err().to_string();
    write_jsonl(&path, &[(vec![1, 2], vec![true, true]), (vec![1, 300], vec![false, true])]);
    let text = refused(&config(&path, "labels"));
    assert!(text.contains("rows.jsonl: row 1 (counted from 0): token 300 is not one of the tokenizer's 257"), "{text}");
    for (line, expected) in [
        (r#"{"input_ids": [1, 2], "labels": [1]}"#, "line 1: `input_ids` holds 2 items and `labels` 1"),
        (r#"{"input_ids": [1, 2.5], "labels": [1, 2]}"#, "line 1: field `input_ids` holds something other than whole"),
        (r#"{"input_ids": "1 2", "labels": [1, 2]}"#, "line 1: field `input_ids` is no array"),
        (r#"{"ids": [1, 2], "labels": [1, 2]}"#, "no field `input_ids`, it has: ids, labels; set `tokens_column`"),
        (r#"{"input_ids": [1, 2], "labels": [-100, -100]}"#, "`labels_column` marks no token"),
    ] {
        fs::write(&path, line).unwrap();
        let text = refused(&config(&path, "labels"));
        assert!(text.contains(expected), "{text}");
    }
    let table = folder.path().join("rows.parquet");
    write_parquet(&table, &[(vec![1, 2], vec![true, true])]);
    for (name, expected) in [
        ("tokens", "no column `tokens`, it has: input_ids, completion_mask, labels; set `tokens_column`"),
        ("completion_mask", "`completion_mask` holds 1"),
    ] {
        let config = DatasetConfig { tokens_column: Some(name.into()), ..config(&table, "labels") };
        let text = refused(&config);
        assert!(text.contains(expected) || text.contains("a label is the token"), "{text}");
    }
    let both = DatasetConfig { mask_column: Some("completion_mask".into()), ..config(&table, "labels") };
    assert!(refused(&both).contains("mask_column marks tokens"), "{}", refused(&both));
    let alone = DatasetConfig { tokens_column: None, ..config(&table, "labels") };
    assert!(refused(&alone).contains("only together with tokens_column"), "{}", refused(&alone));
}
