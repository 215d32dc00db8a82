//! The bundle for machines with a GPU but without Rust can be packed, and its script fills the whole table on a CPU.

use crate::skips::skip;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(script: &Path, variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(script);
    // The fastest level of xz, since this bundle is not distributed.
    let output = command.envs(variables.iter().copied()).env("XZ_OPT", "-0").env("PACKAGES", "").output().unwrap();
    assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_bundle_fills_its_table_on_a_cpu() {
    if Command::new("xz").arg("--version").output().is_err() {
        return skip("gpu_check::the_bundle_fills_its_table_on_a_cpu", "there is no xz");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let (bundle, out) = (folder.path().join("bundle"), folder.path().join("out"));
    let program = Path::new(env!("CARGO_BIN_EXE_logitcask"));
    let model = root.join("data/demo/teacher");
    run(&root.join("scripts/gpu-check/pack.sh"), &[("BIN", program), ("MODEL", &model), ("OUT", &bundle)]);
    run(&bundle.join("run.sh"), &[("DEVICE", Path::new("cpu")), ("SMALL", Path::new("1")), ("OUT", &out)]);
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert!(!table.contains("failed"), "{table}\n{}", fs::read_to_string(out.join("log")).unwrap());
    let row = |name: &str| {
        let start = format!("| {name} |");
        let line = table.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {name}:\n{table}"));
        line.trim_matches('|').split('|').skip(1).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    for (name, cells) in [("cpu-f32", 6), ("device-f32", 6)] {
        let row = row(name);
        assert!(row.len() == cells && row.iter().all(|cell| cell.parse::<f64>().is_ok()), "{name}: {row:?}");
    }
    assert!(row("rows compared")[0].contains("log Z differs by"), "{table}");
    assert!(row("number formats")[0].contains("f32") && row("selection, rows in memory")[0].contains("us a row"));
    let trained = table.split("## Stage 2").nth(1).unwrap();
    assert!(trained.lines().filter(|line| line.contains("-f32 | ") && !line.contains("|  |")).count() == 2, "{table}");
}
