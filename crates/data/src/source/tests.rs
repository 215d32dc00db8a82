use super::*;
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use std::fs::File;
use std::sync::Arc;
use tempfile::TempDir;

const TEXTS: [&str; 3] = ["One day.\nA dog \"ran\".", "Über uns", "The end"];

fn config(path: impl Into<PathBuf>) -> DatasetConfig {
    DatasetConfig {
        path: path.into(),
        text_column: "text".into(),
        split_column: None,
        held_out: 0.05,
        max_documents: None,
    }
}

fn texts(config: &DatasetConfig) -> Vec<String> {
    read_documents(config).unwrap().into_iter().map(|document| document.text).collect()
}

fn write_columns(path: &Path, columns: Vec<(&str, ArrayRef)>, compression: Compression) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn all_kinds_of_files_give_the_same_documents() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.txt"), "\n\r\nOne day.\r\nA dog \"ran\".\r\n \t\n\nÜber uns\n\nThe end").unwrap();
    let lines: Vec<_> = TEXTS.iter().map(|text| serde_json::json!({"n": 1, "text": text}).to_string()).collect();
    fs::write(path("a.jsonl"), format!("\u{feff}{}\n", lines.join("\n\n"))).unwrap();
    fs::write(path("a.ndjson"), lines.join("\r\n")).unwrap();
    let corpus: Vec<_> = TEXTS.iter().map(|text| (text.to_string(), "train")).collect();
    write_corpus(&path("a.parquet"), &corpus).unwrap();
    for name in ["a.txt", "a.jsonl", "a.ndjson", "a.parquet"] {
        let documents = read_documents(&config(path(name))).unwrap();
        assert_eq!(documents.iter().map(|d| d.text.as_str()).collect::<Vec<_>>(), TEXTS, "{name}");
        assert!(documents.iter().zip(0..).all(|(d, i)| d.index == i && d.split.is_none()), "{name}");
    }
    // A folder of text files: one document per file, blank lines and all.
    let stories = path("stories");
    fs::create_dir_all(stories.join("not_read")).unwrap();
    for (name, text) in [("b.txt", "2\n\n2\n\n"), ("B.txt", "1\r\n"), ("c.txt", "3"), ("README.md", "no"), (".x", "no")]
    {
        fs::write(stories.join(name), text).unwrap();
    }
    assert_eq!(texts(&config(&stories)), ["1", "2\n\n2", "3"]);
}

#[test]
fn every_kind_of_string_column_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(TEXTS.to_vec())),
        Arc::new(LargeStringArray::from(TEXTS.to_vec())),
        Arc::new(StringViewArray::from(TEXTS.to_vec())),
        Arc::new(TEXTS.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for column in columns {
        let kind = column.data_type().clone();
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        write_columns(&path, vec![("id", ids), ("text", column)], Compression::SNAPPY);
        assert_eq!(texts(&config(&path)), TEXTS, "{kind}");
    }
}

#[test]
fn blank_documents_keep_their_index() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let rows = vec![None, Some("one"), Some(" \n"), Some("two"), Some("three")];
    write_columns(&path, vec![("text", Arc::new(StringArray::from(rows)))], Compression::UNCOMPRESSED);
    let jsonl = folder.path().join("a.jsonl");
    fs::write(&jsonl, "{\"text\":null}\n{\"text\":\"one\"}\n{\"text\":\" \\n\"}\n{\"text\":\"two\"}\n{\"text\":\"3\"}")
        .unwrap();
    for path in [path, jsonl] {
        let documents = read_documents(&DatasetConfig { max_documents: Some(2), ..config(path) }).unwrap();
        let found: Vec<_> = documents.iter().map(|d| (d.index, d.text.as_str())).collect();
        assert_eq!(found, [(1, "one"), (3, "two")]);
    }
}

#[test]
fn a_folder_counts_documents_over_all_its_files() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, texts: &[&str]| {
        let corpus: Vec<_> = texts.iter().map(|text| (text.to_string(), "train")).collect();
        write_corpus(&folder.path().join(name), &corpus).unwrap();
    };
    write("part-2.parquet", &["d"]);
    write("part-1.parquet", &["b", " ", "c"]);
    write("part-0.parquet", &["a"]);
    let documents = read_documents(&config(folder.path())).unwrap();
    let found: Vec<_> = documents.iter().map(|d| (d.index, d.text.as_str())).collect();
    assert_eq!(found, [(0, "a"), (1, "b"), (3, "c"), (4, "d")]);
    let limited = DatasetConfig { max_documents: Some(3), ..config(folder.path()) };
    assert_eq!(texts(&limited), ["a", "b", "c"]);
}

#[test]
fn splits_come_from_their_column() {
    let folder = TempDir::new().unwrap();
    let parquet = folder.path().join("a.parquet");
    write_corpus(&parquet, &[("a".into(), "train"), ("b".into(), "held-out_2")]).unwrap();
    let jsonl = folder.path().join("a.jsonl");
    fs::write(&jsonl, "{\"text\":\"a\",\"split\":\"train\"}\n{\"split\":\"held-out_2\",\"text\":\"b\"}").unwrap();
    for path in [parquet, jsonl] {
        let documents = read_documents(&DatasetConfig { split_column: Some("split".into()), ..config(path) }).unwrap();
        assert_eq!(
            documents.iter().map(|d| d.split.as_deref()).collect::<Vec<_>>(),
            [Some("train"), Some("held-out_2")]
        );
    }
}

#[test]
fn a_corpus_has_the_same_bytes_every_time_and_replaces_an_older_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let corpus: Vec<_> = (0..500).map(|i| (format!("story {i}"), "train")).collect();
    write_corpus(&path, &corpus[1..]).unwrap();
    write_corpus(&path, &corpus).unwrap();
    let first = fs::read(&path).unwrap();
    write_corpus(&path, &corpus).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(texts(&config(&path)).len(), 500);
    let error = write_corpus(&path, &[("a".into(), "Train")]).unwrap_err().to_string();
    assert!(error.contains("names the split `Train`"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn every_refusal_names_the_file_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("data.csv", b"a,b");
    write("blank.jsonl", b"{\"text\":\"\"}\n{\"text\":\" \"}");
    write("empty.txt", b"\n\n");
    write("missing.jsonl", b"{\"text\":\"a\"}\n{\"id\":1,\"body\":\"b\"}");
    write("number.jsonl", b"{\"text\":1}");
    write("bad.jsonl", b"{\"text\":\"a\"}\n\n{\"text\" \"b\"}");
    write("array.jsonl", b"[1]");
    write("latin1.txt", b"caf\xe9 noir");
    write("latin1.jsonl", b"{\"text\":\"\xfc\"}");
    write("junk.parquet", b"PAR1 not really");
    write("nested.parquet", b"");
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let body: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
    write_columns(&folder.path().join("number.parquet"), vec![("text", number)], Compression::UNCOMPRESSED);
    write_columns(
        &folder.path().join("missing.parquet"),
        vec![("id", body.clone()), ("body", body)],
        Compression::SNAPPY,
    );
    for (name, message) in [
        ("nowhere.txt", "no such file or folder; check the dataset's `path`"),
        ("data.csv", "expected .parquet, .jsonl, .ndjson or .txt"),
        ("blank.jsonl", "no documents, 2 of them blank"),
        ("empty.txt", "no documents, 0 of them blank"),
        ("missing.jsonl", "line 2: no field `text`, it has: body, id; set `text_column`"),
        ("number.jsonl", "line 1: field `text` is a number, expected a string; set `text_column`"),
        ("bad.jsonl", "line 3: not a JSON object at column 9: expected `:`; write one object on each line"),
        ("array.jsonl", "line 1: not a JSON object"),
        ("latin1.txt", "byte 3 is not UTF-8 (Latin-1, perhaps); convert the file first: iconv"),
        ("latin1.jsonl", "byte 9 is not UTF-8"),
        ("junk.parquet", "cannot be read or written as Parquet"),
        ("nested.parquet", "cannot be read or written as Parquet"),
        ("number.parquet", "column `text` holds Int64, expected strings; set `text_column`"),
        ("missing.parquet", "no column `text`, it has: id, body; set `text_column` to one of them"),
    ] {
        let error = read_documents(&config(folder.path().join(name))).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(message), "{error}");
    }
    let folder_error = read_documents(&config(folder.path())).unwrap_err().to_string();
    assert!(folder_error.contains("array.jsonl"), "the first file in byte order: {folder_error}");
}

#[test]
fn splits_that_cannot_be_used_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.jsonl"), "{\"text\":\"a\",\"split\":\"train\"}\n{\"text\":\"b\",\"split\":\"Train set\"}")
        .unwrap();
    fs::write(path("b.jsonl"), "{\"text\":\"a\",\"split\":null}").unwrap();
    fs::write(path("c.jsonl"), "{\"text\":\"a\"}").unwrap();
    fs::write(path("d.txt"), "a").unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("train"), Some("../x")]));
    write_columns(&path("e.parquet"), vec![("text", names.clone()), ("split", names)], Compression::UNCOMPRESSED);
    for (name, message) in [
        ("a.jsonl", "document 1 names the split `Train set`, expected lower-case letters"),
        ("b.jsonl", "document 0 names the split ``"),
        ("c.jsonl", "line 1: no field `split`, it has: text; set `split_column`"),
        ("d.txt", "no column `split`, it has: nothing but text"),
        ("e.parquet", "document 1 names the split `../x`"),
    ] {
        let config = DatasetConfig { split_column: Some("split".into()), ..config(path(name)) };
        let error = read_documents(&config).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(message), "{error}");
    }
}

#[test]
fn options_have_defaults_and_ranges() {
    let parsed: DatasetConfig = serde_json::from_str(r#"{"path":"x.txt"}"#).unwrap();
    assert_eq!(parsed, config("x.txt"));
    let written = serde_json::to_string(&parsed).unwrap();
    assert_eq!(written, r#"{"path":"x.txt","text_column":"text","held_out":0.05}"#);
    assert!(serde_json::from_str::<DatasetConfig>(r#"{"path":"x","column":"a"}"#).is_err());
    for held_out in [-0.1, 1.1, f64::NAN] {
        let error = read_documents(&DatasetConfig { held_out, ..config("x.txt") }).unwrap_err().to_string();
        assert!(error.starts_with("`held_out` is ") && error.contains("a share within 0..=1"), "{error}");
    }
    let error = read_documents(&DatasetConfig { max_documents: Some(0), ..config("x.txt") }).unwrap_err().to_string();
    assert_eq!(error, "`max_documents` is 0, expected at least 1, or no limit");
}
