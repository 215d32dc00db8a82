//! Rules of style that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_file_has_one_job() {
    let mut files = Vec::new();
    for folder in ["crates", "src", "tests", "python/src"] {
        rust_files(&root().join(folder), &mut files);
    }
    for path in files {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        // Test files may be longer than others.
        let limit = if path.to_string_lossy().contains("tests") { 500 } else { 350 };
        assert!(lines <= limit, "{}: {lines} lines, at most {limit}", path.display());
    }
}

#[test]
fn floors_keep_to_their_words() {
    let allowed: [(&str, &[&str]); 7] = [
        ("burn", &["model", "teach", "train"]),
        ("ureq", &["hub", "remote"]),
        ("httparse", &["remote"]),
        ("parquet", &["cache", "data", "import"]),
        ("tokenizers", &["data"]),
        ("minijinja", &["data"]),
        ("tracing-subscriber", &[]),
    ];
    for name in
        ["core", "files", "gguf", "hub", "cache", "data", "import", "select", "model", "remote", "teach", "train"]
    {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        for (dependency, users) in allowed {
            let uses = manifest.lines().any(|line| {
                line.starts_with(&format!("{dependency}.")) || line.starts_with(&format!("{dependency} ="))
            });
            assert!(!uses || users.contains(&name), "crates/{name} may not depend on {dependency}");
        }
        let stage = |other: &str| manifest.contains(&format!("logitcask-{other}"));
        assert!(
            !(name == "teach" && stage("train") || name == "train" && stage("teach")),
            "stages share a folder only"
        );
    }
}
