//! Files that are compressed as a whole.

use super::*;
use flate2::write::GzEncoder;
use std::io::Write;
use tempfile::TempDir;

const LINES: &str = "{\"text\": \"One day\"}\n{\"text\": \"Über uns\"}\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn texts(path: &Path) -> Vec<String> {
    let documents = read_documents(&DatasetConfig::at(path)).unwrap().documents;
    documents.iter().map(|document| document.content.text().unwrap().to_owned()).collect()
}

#[test]
fn compressed_files_hold_the_same_documents() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["a.jsonl.gz", "a.ndjson.gz", "a.json.gz", "a.jsonl.zst", "a.ndjson.zst", "a.json.zst"] {
        let pack = if name.ends_with("gz") { gzip } else { zstd };
        // Tools append one compressed file to another.
        let (first, second) = LINES.split_at(LINES.find('\n').unwrap() - 3);
        fs::write(path(name), [pack(first.as_bytes()), pack(second.as_bytes())].concat()).unwrap();
        assert_eq!(texts(&path(name)), ["One day", "Über uns"], "{name}");
    }
    for (name, pack) in [("a.txt.gz", gzip as fn(&[u8]) -> Vec<u8>), ("a.txt.zst", zstd)] {
        fs::write(path(name), pack("\u{feff}One\r\nday\r\n\r\nÜber uns\n".as_bytes())).unwrap();
        assert_eq!(texts(&path(name)), ["One\nday", "Über uns"], "{name}");
    }
}

#[test]
fn names_of_compressed_files_name_splits() {
    let folder = TempDir::new().unwrap();
    for name in ["c4-train.00000-of-00001.json.gz", "c4-validation.00000-of-00001.json.gz"] {
        fs::write(folder.path().join(name), gzip(LINES.as_bytes())).unwrap();
    }
    let corpus = read_documents(&DatasetConfig::at(folder.path())).unwrap();
    let splits: Vec<_> = corpus.documents.iter().map(|document| document.split.as_deref().unwrap()).collect();
    assert_eq!(splits, ["train", "train", "validation", "validation"]);
}

#[test]
fn a_compressed_file_that_is_cut_off_or_no_such_file_is_refused_with_its_last_line() {
    let folder = TempDir::new().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = read_documents(&DatasetConfig::at(&path)).unwrap_err();
        assert!(std::error::Error::source(&error).is_none(), "a caller would say it twice: {error}");
        error.to_string()
    };
    // Many lines of random letters, so that some are unpacked before the end is missed.
    let lines: String =
        (0..40_000_u64).map(|i| format!("{{\"text\": \"{}\"}}\n", blake3::hash(&i.to_le_bytes()))).collect();
    for (name, packed) in [("a.jsonl.gz", gzip(lines.as_bytes())), ("a.jsonl.zst", zstd(lines.as_bytes()))] {
        let error = refused(name, &packed[..packed.len() / 2]);
        let (_, after) = error.split_once(&format!("{name}: cannot be unpacked after line ")).unwrap();
        let number: usize = after.split(':').next().unwrap().parse().unwrap();
        assert!((10_000..30_000).contains(&number) && after.contains("it is not whole or not"), "{error}");
        let error = refused(name, &packed[..3]);
        assert!(error.contains("cannot be unpacked after line 0"), "{error}");
        let error = refused(name, LINES.as_bytes());
        assert!(error.contains("cannot be unpacked after line 0"), "{error}");
        assert!(refused(name, b"").contains(name));
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    assert!(refused("b.jsonl.gz", pointer).contains("is a Git LFS pointer"));
    let error = refused("b.json.gz", &gzip(b"[{\"text\": \"a\"}]"));
    assert!(error.contains("b.json.gz: line 1: not a JSON object at column 0"), "{error}");
    assert!(refused("c.parquet.gz", b"").contains("its name says nothing we can read"));
}

#[cfg(unix)]
#[test]
fn a_pipe_whose_writer_ends_in_the_middle_of_a_line_is_refused_by_its_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    for (written, expected) in [(LINES, Ok(2)), (&LINES[..LINES.len() - 4], Err("line 2: not a JSON object"))] {
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                fs::OpenOptions::new().write(true).open(path).unwrap().write_all(written.as_bytes())
            })
        };
        let read = read_documents(&DatasetConfig::at(&path));
        writer.join().unwrap().unwrap();
        match expected {
            Ok(count) => assert_eq!(read.unwrap().documents.len(), count),
            Err(expected) => assert!(read.unwrap_err().to_string().contains(expected)),
        }
    }
}
