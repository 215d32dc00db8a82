//! Completions and manual pages cover all commands.

use crate::fixture::Fixture;
use std::fs;

const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "powershell", "elvish"];

/// Names of the commands that the help lists.
fn commands(fixture: &Fixture) -> Vec<String> {
    let names = listed(&fixture.ok(&["--help"]));
    assert!(names.len() > 10 && names.contains(&"cache".to_owned()), "{names:?}");
    names
}

/// Names of the commands in a help text.
fn listed(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // Continuation lines of a description are indented further.
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_has_a_manual_page() {
    let fixture = Fixture::new(5);
    fixture.ok(&["man", "--out", "pages/man1"]);
    for command in commands(&fixture).iter().filter(|name| *name != "help") {
        let page = fs::read_to_string(fixture.path(&format!("pages/man1/logitcask-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Examples:"), "{command}: {page}");
    }
    let page = fs::read_to_string(fixture.path("pages/man1/logitcask.1")).unwrap();
    assert!(page.contains(&format!("v{}", env!("CARGO_PKG_VERSION"))), "{page}");
}

#[test]
fn every_shell_completes_every_command() {
    let fixture = Fixture::new(5);
    for shell in SHELLS {
        let script = fixture.ok(&["completions", shell]);
        for word in commands(&fixture).iter().map(String::as_str).chain(["device", "replace", "precision"]) {
            assert!(script.contains(word), "{shell} knows no `{word}`");
        }
    }
    assert!(fixture.fails(&["completions", "csh"]).contains("elvish"));
}

#[test]
fn what_is_for_scripts_alone_is_listed_nowhere() {
    let fixture = Fixture::new(5);
    for shell in SHELLS {
        assert!(!fixture.ok(&["completions", shell]).contains("measure-device"), "{shell}");
    }
    assert!(!fixture.fails(&["measure-devices"]).contains("similar"));
    assert!(!fixture.ok(&["help"]).contains("measure-device"));
    let help = fixture.ok(&["measure-device", "--help"]);
    assert!(help.contains("logitcask measure-device") && help.contains("--classes"), "{help}");
}

#[cfg(unix)]
#[test]
fn the_packers_script_writes_all_of_them() {
    let fixture = Fixture::new(5);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/assets.sh");
    let mut packer = std::process::Command::new(script);
    packer.arg(env!("CARGO_BIN_EXE_logitcask")).arg(fixture.path("assets"));
    assert!(packer.status().unwrap().success());
    let count = |folder: &str| fs::read_dir(fixture.path(folder)).unwrap().count();
    assert_eq!(count("assets/completions"), SHELLS.len());
    // One for each command but `help`, for each format of `import`, and for the program.
    let formats = listed(&fixture.ok(&["import", "--help"])).len() - 1;
    assert_eq!(count("assets/man"), commands(&fixture).len() + formats);
}
