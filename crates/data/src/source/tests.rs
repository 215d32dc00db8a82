use super::*;
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray, StructArray,
};
use std::fs::File;
use std::sync::Arc;
use tempfile::TempDir;

const TEXTS: [&str; 3] = ["One day.\nA dog \"ran\".", "Über uns", "The end"];

fn config(path: impl Into<PathBuf>) -> DatasetConfig {
    DatasetConfig::at(&path.into())
}

fn texts(config: &DatasetConfig) -> Vec<String> {
    read_documents(config)
        .unwrap()
        .documents
        .into_iter()
        .map(|document| document.content.text().unwrap().to_owned())
        .collect()
}

pub(super) fn write_columns(path: &Path, columns: Vec<(&str, ArrayRef)>, compression: Compression) {
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
        let documents = read_documents(&config(path(name))).unwrap().documents;
        assert_eq!(documents.iter().map(|d| d.content.text().unwrap()).collect::<Vec<_>>(), TEXTS, "{name}");
        assert!(documents.iter().zip(0..).all(|(d, i)| d.index == i && d.split.is_none()), "{name}");
    }
    // A folder of text files: one document per file, blank lines and all.
    let stories = path("stories");
    fs::create_dir_all(stories.join(".not_read")).unwrap();
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
fn every_codec_of_parquet_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for compression in [
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
    ] {
        write_columns(&path, vec![("text", Arc::new(StringArray::from(TEXTS.to_vec())))], compression);
        assert_eq!(texts(&config(&path)), TEXTS, "{compression}");
    }
}

#[test]
fn nested_columns_before_it_do_not_shift_the_text_and_nulls_are_blank() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let inner: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let field = |name: &str| Arc::new(arrow_schema::Field::new(name, inner.data_type().clone(), false));
    let pair = StructArray::from(vec![(field("a"), inner.clone()), (field("b"), inner.clone())]);
    let rows: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None, Some("two")]));
    write_columns(&path, vec![("pair", Arc::new(pair)), ("text", rows)], Compression::SNAPPY);
    let documents = read_documents(&config(&path)).unwrap().documents;
    assert_eq!(
        documents.iter().map(|d| (d.index, d.content.text().unwrap())).collect::<Vec<_>>(),
        [(0, "one"), (2, "two")]
    );
    let error = read_documents(&DatasetConfig { text_column: "pair".into(), ..config(&path) }).unwrap_err().to_string();
    assert!(error.contains("column `pair` holds Struct("), "{error}");
}

#[test]
fn texts_that_an_array_cannot_address_are_read_one_by_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    // 600 rows of one dictionary entry: 2.4 GB of text if they were written out.
    let long = "long text ".repeat(400_000);
    let keys: arrow_array::Int32Array = std::iter::repeat_n(0, 600).collect();
    let texts = DictionaryArray::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    write_columns(&path, vec![("text", Arc::new(texts))], Compression::SNAPPY);
    let documents = read_documents(&DatasetConfig { max_documents: Some(2), ..config(&path) }).unwrap().documents;
    assert!(documents.len() == 2 && documents.iter().all(|document| document.content.text() == Some(&long)));
}

#[test]
fn texts_that_are_no_unicode_are_mended_or_left_out() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("a.jsonl"),
        b"{\"text\":\"a\"}\n{\"text\":\"\\ud83d b\"}\n{\"text\":\"c\xe9\"}\n{\"text\":\"\\ud83d\\ude42\"}",
    )
    .unwrap();
    fs::write(path("a.txt"), b"a\n\n? b\xff\n\nc\xe9\n\nd").unwrap();
    // Strings by their schema and not by their bytes, as a careless writer leaves them.
    let strings = StringArray::from(vec!["a", "bX", "cX", "d"]);
    write_columns(&path("a.parquet"), vec![("text", Arc::new(strings))], Compression::UNCOMPRESSED);
    let mut parquet = fs::read(path("a.parquet")).unwrap();
    for at in 0..parquet.len() - 1 {
        if [&b"bX"[..], b"cX"].contains(&&parquet[at..at + 2]) {
            parquet[at + 1] = 0xff;
        }
    }
    fs::write(path("a.parquet"), parquet).unwrap();
    let read = |name: &str, on_bad_text| {
        let corpus = read_documents(&DatasetConfig { on_bad_text, ..config(path(name)) }).unwrap();
        let texts: Vec<_> =
            corpus.documents.into_iter().map(|d| format!("{} {}", d.index, d.content.text().unwrap())).collect();
        (texts, corpus.notes)
    };
    for (name, mended, last) in [
        ("a.jsonl", ["1 \u{fffd} b", "2 c\u{fffd}"], "3 \u{1f642}"),
        ("a.txt", ["1 ? b\u{fffd}", "2 c\u{fffd}"], "3 d"),
        ("a.parquet", ["1 b\u{fffd}", "2 c\u{fffd}"], "3 d"),
    ] {
        let file = path(name).display().to_string();
        let (texts, notes) = read(name, OnBadText::Replace);
        assert_eq!(texts, ["0 a", mended[0], mended[1], last], "{name}");
        assert_eq!(notes, [format!("{file}: 2 texts of 4 are no Unicode and were mended with U+FFFD")]);
        let (texts, notes) = read(name, OnBadText::Skip);
        assert_eq!(texts, ["0 a", last], "{name}");
        assert_eq!(notes, [format!("{file}: 2 texts of 4 are no Unicode and were left out")]);
        let error = read_documents(&config(path(name))).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("set `on_bad_text`"), "{error}");
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
        let documents = read_documents(&DatasetConfig { max_documents: Some(2), ..config(path) }).unwrap().documents;
        let found: Vec<_> = documents.iter().map(|d| (d.index, d.content.text().unwrap())).collect();
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
    let documents = read_documents(&config(folder.path())).unwrap().documents;
    let found: Vec<_> = documents.iter().map(|d| (d.index, d.content.text().unwrap())).collect();
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
        let config = DatasetConfig { split_column: Some("split".into()), ..config(path) };
        let documents = read_documents(&config).unwrap().documents;
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

/// A folder of files that are each refused for a reason of their own.
fn refused_files() -> TempDir {
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
    write("utf16.txt", b"\xff\xfea\0");
    write("latin1.jsonl", b"{\"text\":\"\xfc\"}");
    write("junk.parquet", b"PAR1 not really");
    write(
        "half.jsonl",
        br#"{"text":"a"}
{"text":"b \ud83d c"}"#,
    );
    write("packed.jsonl.xz", b"\xfd7zXZ");
    write("pointer.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    write("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    write("nested.parquet", b"");
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let body: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
    write_columns(&folder.path().join("number.parquet"), vec![("text", number)], Compression::UNCOMPRESSED);
    write_columns(
        &folder.path().join("missing.parquet"),
        vec![("id", body.clone()), ("body", body)],
        Compression::SNAPPY,
    );
    folder
}

#[test]
fn every_refusal_names_the_file_and_what_to_do() {
    let folder = refused_files();
    for (name, message) in [
        ("nowhere.txt", "no such file or folder; check the dataset's `path`"),
        ("data.csv", "expected .parquet, .arrow, .jsonl, .ndjson or .txt"),
        ("blank.jsonl", "each of its 2 documents is blank"),
        ("empty.txt", "holds no texts"),
        ("missing.jsonl", "line 2: no field `text`, it has: body, id; set `text_column`"),
        ("number.jsonl", "line 1: field `text` is a number, expected a string; set `text_column`"),
        ("bad.jsonl", "line 3: not a JSON object at column 9: expected `:`; write one object on each line"),
        ("array.jsonl", "line 1: not a JSON object"),
        ("utf16.txt", "line 1: the file is UTF-16; convert it first: iconv -f utf-16 -t utf-8"),
        ("latin1.txt", "line 1 from its byte 3 on: not UTF-8 (Latin-1, perhaps: iconv"),
        (
            "latin1.jsonl",
            "line 1 from its byte 9 on: not UTF-8 (Latin-1, perhaps: iconv -f latin1 -t utf-8 FILE > NEW); mend the file, or set `on_bad_text`",
        ),
        (
            "half.jsonl",
            "line 2: half of a surrogate pair (\\ud83d) at column 12; mend the file, or set `on_bad_text` to",
        ),
        ("packed.jsonl.xz", "unpack files of other formats first"),
        ("pointer.jsonl", "is a Git LFS pointer, not the file it stands for; `git lfs pull`"),
        ("pointer.parquet", "is a Git LFS pointer"),
        ("junk.parquet", "cannot be read or written as Parquet: Invalid Parquet file. Corrupt footer"),
        ("nested.parquet", "cannot be read or written as Parquet"),
        ("number.parquet", "column `text` holds Int64, expected strings; set `text_column`"),
        ("missing.parquet", "no column `text`, it has: id, body; set `text_column` to one of them"),
    ] {
        let error = read_documents(&config(folder.path().join(name))).unwrap_err();
        assert!(std::error::Error::source(&error).is_none(), "a caller would say it twice: {error}");
        let error = error.to_string();
        assert!(error.contains(name) && error.contains(message), "{error}");
    }
    let folder_error = read_documents(&config(folder.path())).unwrap_err().to_string();
    assert!(folder_error.contains("data.csv"), "the first of those that cannot be read: {folder_error}");
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
    let long = "x".repeat(65);
    fs::write(
        path("f.jsonl"),
        format!("{{\"text\":\"a\",\"split\":\"{}\"}}\n{{\"text\":\"a\",\"split\":\"{long}\"}}", &long[1..]),
    )
    .unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("train"), Some("../x")]));
    write_columns(&path("e.parquet"), vec![("text", names.clone()), ("split", names)], Compression::UNCOMPRESSED);
    for (name, message) in [
        ("a.jsonl", "document 1 (counted from 0) names the split `Train set`, expected 1 to 64 lower-case letters"),
        ("b.jsonl", "document 0 (counted from 0) names the split ``"),
        ("c.jsonl", "line 1: no field `split`, it has: text; set `split_column`"),
        ("d.txt", "no column `split`, it has: nothing but text"),
        ("e.parquet", "document 1 (counted from 0) names the split `../x`"),
        ("f.jsonl", "document 1 (counted from 0) names the split `xxxxx"),
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
    assert_eq!(
        written,
        r#"{"path":"x.txt","text_column":"text","held_out":0.05,"held_out_validation":0.0,"special_tokens":"refuse","on_bad_text":"refuse"}"#
    );
    assert!(serde_json::from_str::<DatasetConfig>(r#"{"path":"x","column":"a"}"#).is_err());
    for held_out in [-0.1, 1.1, f64::NAN] {
        let error = read_documents(&DatasetConfig { held_out, ..config("x.txt") }).unwrap_err().to_string();
        assert!(error.starts_with("`held_out` is ") && error.contains("a share from 0 to 1"), "{error}");
    }
    let both = DatasetConfig { held_out: 0.6, held_out_validation: 0.5, ..config("x.txt") };
    let error = read_documents(&both).unwrap_err().to_string();
    assert_eq!(error, "`held_out_validation` is 0.5, expected at most what held_out leaves of 1");
    let error = read_documents(&DatasetConfig { max_documents: Some(0), ..config("x.txt") }).unwrap_err().to_string();
    assert_eq!(error, "`max_documents` is 0, expected at least 1, or no limit");
}
