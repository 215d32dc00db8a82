//! The programs under `examples/` run and print what they demonstrate.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Every example with a part of its output.
const EXAMPLES: [(&str, &str); 5] = [
    ("custom_divergence", "within its bounds: true"),
    ("log_z_at_a_temperature", "measured error of log Z at T = 10.000"),
    ("open_a_cache", "all others together: p = 0."),
    ("student_step", "the loss fell: true"),
    ("write_a_cache", " rows, 0 findings"),
];

/// Runs an example, which must succeed; returns its output.
fn run(name: &str, folder: Option<&Path>) -> String {
    // This test is target/release/deps/logitcask-HASH.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(format!("{name}{EXE_SUFFIX}"));
    let missing =
        "not there: `cargo test --release --workspace` builds it, and so does `cargo build --release --examples`";
    assert!(program.is_file(), "{}: {missing}", program.display());
    let output = Command::new(&program).args(folder).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_needs_no_argument_and_says_what_it_shows() {
    for (name, telling) in EXAMPLES {
        let said = run(name, None);
        assert!(said.contains(telling), "{name} does not say `{telling}`:\n{said}");
        assert!(!said.contains("1e-3: false"), "{name}:\n{said}");
    }
}

#[test]
fn each_takes_the_folder_that_another_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let written = run("write_a_cache", Some(&cache));
    assert!(cache.join("manifest.json").is_file(), "{written}");
    for (name, telling) in EXAMPLES {
        let said = run(name, Some(&cache));
        assert!(said.contains(telling), "{name} does not say `{telling}`:\n{said}");
    }
}

#[test]
fn none_is_left_out_here() {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some(OsStr::new("rs")));
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, EXAMPLES.map(|(name, _)| name));
}
