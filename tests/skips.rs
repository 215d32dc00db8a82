//! Tests that cannot run on a machine are reported and counted, and can be made to fail.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The list of skipped tests, which `make test` empties before the tests and prints afterwards. Cargo does not tell
/// unit tests the target folder, but their binary is at TARGET/PROFILE/deps/NAME.
fn list() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tmp");
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(beside, PathBuf::from).join("skipped.txt")
}

/// Reports that the test `what` cannot run here, and why. With LOGITCASK_NO_SKIPS=1 this is a failure.
pub fn skip(what: &str, why: &str) {
    note(&list(), what, why, std::env::var_os("LOGITCASK_NO_SKIPS").is_some_and(|value| value == "1"));
}

fn note(list: &Path, what: &str, why: &str, fails: bool) {
    assert!(!fails, "{what} cannot run: {why}");
    let line = format!("skipped: {what}: {}\n", why.replace('\n', " "));
    eprint!("{line}");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    // The line is written at once, since tests in other threads and processes append too.
    OpenOptions::new().create(true).append(true).open(list).unwrap().write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_skipped_test_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("tmp/skipped.txt");
    note(&list, "one", "no device", false);
    note(&list, "two", "no\nfile", false);
    assert_eq!(fs::read_to_string(&list).unwrap(), "skipped: one: no device\nskipped: two: no file\n");
}

#[test]
#[should_panic(expected = "three cannot run: no device")]
fn a_skipped_test_fails_where_none_may_be_skipped() {
    note(Path::new("never written"), "three", "no device", true);
}
