//! Files and streams of Arrow IPC, and the folders in which `datasets` saves them.

use super::*;
use crate::document::Content;
use crate::document::TokenRow;
use ::arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_array::builder::{Int64Builder, LargeListBuilder, ListBuilder, UInt8Builder};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use std::sync::Arc;
use tempfile::TempDir;

const TEXTS: [&str; 3] = ["One day.\nA dog \"ran\".", "Über uns", "The end"];

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(vec![], &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = FileWriter::try_new(vec![], &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn texts(texts: &[&str]) -> RecordBatch {
    batch(vec![("text", Arc::new(StringArray::from(texts.to_vec())))])
}

fn read(config: &DatasetConfig) -> Vec<(u64, String)> {
    let documents = read_documents(config).unwrap().documents;
    documents.into_iter().map(|document| (document.index, document.content.text().unwrap().to_owned())).collect()
}

fn refused(path: &Path) -> String {
    let error = read_documents(&DatasetConfig::at(path)).unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "a caller would say it twice: {error}");
    error.to_string()
}

#[test]
fn every_kind_of_string_column_is_read_from_files_and_streams() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.arrow");
    let rows = [Some("b"), None, Some("b"), Some("c")];
    let columns: [ArrayRef; 6] = [
        Arc::new(StringArray::from(rows.to_vec())),
        Arc::new(LargeStringArray::from(rows.to_vec())),
        Arc::new(StringViewArray::from(rows.to_vec())),
        Arc::new(rows.into_iter().collect::<DictionaryArray<Int32Type>>()),
        Arc::new(rows.into_iter().collect::<DictionaryArray<Int8Type>>()),
        Arc::new(DictionaryArray::new(
            arrow_array::Int32Array::from(vec![Some(1), None, Some(1), Some(0)]),
            Arc::new(LargeStringArray::from(vec!["c", "b"])),
        )),
    ];
    for column in columns {
        let kind = column.data_type().clone();
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let batch = batch(vec![("id", ids), ("text", column)]);
        let batches = [batch];
        for bytes in [file(&batches), stream(&batches)] {
            fs::write(&path, bytes).unwrap();
            let expected = [(0, "b"), (2, "b"), (3, "c")].map(|(index, text)| (index, text.to_owned()));
            assert_eq!(read(&DatasetConfig::at(&path)), expected, "{kind}");
        }
    }
    // Several batches, and a limit within the second.
    fs::write(&path, stream(&[texts(&TEXTS[..2]), texts(&TEXTS)])).unwrap();
    let limited = DatasetConfig { max_documents: Some(3), ..DatasetConfig::at(&path) };
    assert_eq!(read(&limited).last().unwrap(), &(2, TEXTS[0].to_owned()));
}

#[test]
fn rows_of_tokens_are_read_with_their_marks_and_splits() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.arrow");
    let (mut ids, mut mask) = (LargeListBuilder::new(Int64Builder::new()), ListBuilder::new(UInt8Builder::new()));
    for (id, mark) in [(5, 0), (6, 1)] {
        ids.values().append_value(id);
        mask.values().append_value(mark);
    }
    ids.append(true);
    mask.append(true);
    let split: ArrayRef = Arc::new(StringViewArray::from(vec!["test"]));
    let batch = batch(vec![("input_ids", Arc::new(ids.finish())), ("mask", Arc::new(mask.finish())), ("split", split)]);
    fs::write(&path, file(&[batch])).unwrap();
    let config = DatasetConfig {
        tokens_column: Some("input_ids".into()),
        mask_column: Some("mask".into()),
        split_column: Some("split".into()),
        ..DatasetConfig::at(&path)
    };
    let documents = read_documents(&config).unwrap().documents;
    let row = TokenRow { ids: vec![5, 6], marks: Some(vec![false, true]) };
    assert_eq!(documents, [Document { index: 0, content: Content::Tokens(row), split: Some("test".into()) }]);
    let wrong = DatasetConfig { mask_column: Some("split".into()), ..config.clone() };
    let error = read_documents(&wrong).unwrap_err().to_string();
    assert!(error.contains("column `split` holds Utf8View, expected lists of whole numbers"), "{error}");
    let wrong = DatasetConfig { tokens_column: Some("ids".into()), ..config };
    let error = read_documents(&wrong).unwrap_err().to_string();
    assert!(error.contains("no column `ids`, it has: input_ids, mask, split; set `tokens_column`"), "{error}");
}

#[test]
fn what_datasets_saves_is_read_as_it_was_saved() {
    let folder = TempDir::new().unwrap();
    let save = |name: &str, shards: &[&[&str]]| {
        let folder = folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let shard = |index| format!("data-{index:05}-of-{:05}.arrow", shards.len());
        for (index, rows) in shards.iter().enumerate() {
            fs::write(folder.join(shard(index)), stream(&[texts(rows)])).unwrap();
        }
        let files: Vec<_> = (0..shards.len()).map(|index| serde_json::json!({"filename": shard(index)})).collect();
        let state = serde_json::json!({"_data_files": files, "_fingerprint": "x", "_split": null});
        fs::write(folder.join("state.json"), state.to_string()).unwrap();
        fs::write(folder.join("dataset_info.json"), "{}").unwrap();
        // What `map` leaves behind.
        fs::write(folder.join("cache-1b2c.arrow"), stream(&[texts(&["not read"])])).unwrap();
    };
    save("train_sft", &[&TEXTS[..2], &TEXTS[2..]]);
    save("test_sft", &[&["a test"]]);
    let one = folder.path().join("train_sft");
    assert_eq!(read(&DatasetConfig::at(&one)).len(), 3);
    assert!(refused(&folder.path().join("test_sft/state.json")).contains("its name says nothing we can read"));

    let dict = folder.path().join("dataset_dict.json");
    fs::write(&dict, "{\"splits\": [\"train_sft\", \"test_sft\"]}").unwrap();
    let corpus = read_documents(&DatasetConfig::at(folder.path())).unwrap();
    let splits: Vec<_> = corpus.documents.iter().map(|document| document.split.as_deref().unwrap()).collect();
    assert_eq!((splits, corpus.splits), (vec!["test_sft", "train_sft", "train_sft", "train_sft"], SplitsFrom::Files));

    fs::write(&dict, "{\"splits\": [\"train_sft\", \"dev\"]}").unwrap();
    assert!(refused(folder.path()).contains("dataset_dict.json: names the split `dev`, of which no file is there"));
    fs::write(&dict, "[]").unwrap();
    assert!(refused(folder.path()).contains("dataset_dict.json: does not list `splits`"));
    fs::remove_file(one.join("data-00001-of-00002.arrow")).unwrap();
    assert!(refused(&one).contains("state.json: lists `data-00001-of-00002.arrow`, which is not there"));
    fs::write(one.join("state.json"), "{\"_data_files\": [], \"_indices_data_files\": [{\"filename\": \"i\"}]}")
        .unwrap();
    assert!(refused(&one).contains("save the dataset again after `flatten_indices()`"));
}

#[test]
fn what_is_no_arrow_or_not_whole_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.arrow");
    let refused_bytes = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refused(&path)
    };
    for junk in [&b""[..], b"PAR1", b"{\"text\": \"a\"}", &[0; 100]] {
        let error = refused_bytes(junk);
        assert!(error.contains("a.arrow: cannot be read or written as Arrow: it begins neither like"), "{error}");
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    assert!(refused_bytes(pointer).contains("is a Git LFS pointer"));
    let (file, stream) = (file(&[texts(&TEXTS), texts(&TEXTS)]), stream(&[texts(&TEXTS), texts(&TEXTS)]));
    assert!(refused_bytes(&file[..file.len() - 1]).contains("its end is missing"));
    // Without its end mark, a stream is still whole.
    fs::write(&path, &stream[..stream.len() - 8]).unwrap();
    assert_eq!(read(&DatasetConfig::at(&path)).len(), 6);
    for cut in (9..stream.len()).step_by(7).filter(|cut| *cut < stream.len() - 8) {
        fs::write(&path, &stream[..cut]).unwrap();
        match read_documents(&DatasetConfig::at(&path)) {
            Err(error) => assert!(error.to_string().contains("a.arrow: "), "{error}"),
            Ok(corpus) => assert_eq!(corpus.documents.len(), 3, "cut between two messages, at {cut}"),
        }
    }
    // No change of a byte may bring the program down.
    for (at, bit) in (0..stream.len()).flat_map(|at| [0, 5, 7].map(|bit| (at, bit))) {
        let mut bytes = stream.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        let _ = read_documents(&DatasetConfig::at(&path));
    }
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let error = refused_bytes(&self::file(&[batch(vec![("text", number.clone())])]));
    assert!(error.contains("column `text` holds Int64, expected strings; set `text_column`"), "{error}");
    let error = refused_bytes(&self::file(&[batch(vec![("id", number)])]));
    assert!(error.contains("no column `text`, it has: id; set `text_column` to one of them"), "{error}");
}
