//! Nothing lost: a run that was killed or stopped goes on to the same end.

use crate::fixture::Fixture;
use std::fs;
use std::time::Duration;

#[test]
fn a_cache_run_killed_anywhere_resumes_to_the_same_bytes() {
    let undisturbed = Fixture::new(240);
    undisturbed.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let wanted = undisturbed.cache_files();

    let fixture = Fixture::new(240);
    let mut kills = 0;
    for attempt in 0..40u64 {
        let mut child = fixture.command(&["cache", "recipe.toml", "--device", "cpu"]).spawn().unwrap();
        // Each time a little later, so that start, forward, writing and committing all meet the blow.
        std::thread::sleep(Duration::from_millis(40 + 15 * attempt));
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "no run lived long enough to be killed");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    assert_eq!(fixture.cache_files(), wanted);
}

#[test]
fn committed_units_are_not_made_again() {
    let fixture = Fixture::new(120);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let wanted = fixture.cache_files();
    // As if the run had died before its last unit's shard and commit.
    fs::remove_file(fixture.path("cache/manifest.json")).unwrap();
    let last = wanted.iter().filter(|(name, _)| name.starts_with("_commits")).map(|(name, _)| name).max().unwrap();
    fs::remove_file(fixture.path("cache").join(last)).unwrap();
    let kept = fixture.path("cache/data");
    let before: Vec<_> =
        fs::read_dir(&kept).unwrap().map(|e| e.unwrap().metadata().unwrap().modified().unwrap()).collect();
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let after: Vec<_> =
        fs::read_dir(&kept).unwrap().map(|e| e.unwrap().metadata().unwrap().modified().unwrap()).collect();
    assert_eq!(before, after, "no shard was written a second time");
    assert_eq!(fixture.cache_files(), wanted);
}

#[test]
fn training_stopped_at_any_step_and_resumed_gives_the_same_losses_bit_for_bit() {
    let fixture = Fixture::new(80);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "whole"]);
    let whole = fs::read_to_string(fixture.path("whole/student/metrics.jsonl")).unwrap();
    assert_eq!(whole.lines().count(), 12);

    // Killed between checkpoints: steps 11 and 12 are done again from the checkpoint at 10.
    let copy = |from: &str, to: &str| {
        let status = std::process::Command::new("cp").args(["-r", from, to]).current_dir(fixture.dir.path()).status();
        assert!(status.unwrap().success());
    };
    for step in [5u64, 10] {
        let run = format!("resumed-{step}");
        copy("whole", &run);
        let checkpoints = fixture.path(&run).join("student/checkpoints");
        for entry in fs::read_dir(&checkpoints).unwrap() {
            let path = entry.unwrap().path();
            if *path.file_name().unwrap().to_string_lossy() > *format!("step-{step:08}") {
                fs::remove_dir_all(path).unwrap();
            }
        }
        fs::remove_dir_all(fixture.path(&run).join("student/model")).unwrap();
        fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", &run]);
        let resumed = fs::read_to_string(fixture.path(&run).join("student/metrics.jsonl")).unwrap();
        assert_eq!(resumed, whole, "from step {step}");
        let model = |run: &str| fs::read(fixture.path(run).join("student/model/model.safetensors")).unwrap();
        assert_eq!(model(&run), model("whole"), "from step {step}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_at_a_boundary_and_says_how_to_go_on() {
    let fixture = Fixture::new(80);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.edit_recipe("steps = 12", "steps = 100000");
    let args = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];
    let child = fixture.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let metrics = fixture.path("run/student/metrics.jsonl");
    while fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() < 3) || !metrics.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("run the same command again to go on"), "{error}");
    let steps = fs::read_to_string(&metrics).unwrap().lines().count();
    let newest = fs::read_dir(fixture.path("run/student/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).max();
    assert_eq!(newest.unwrap().to_string_lossy(), format!("step-{steps:08}"), "the last step is kept");
}
