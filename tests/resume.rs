//! A run that was killed or stopped resumes and has the same result.

use crate::fixture::Fixture;
use std::fs;
use std::time::Duration;

#[test]
fn committed_units_are_not_made_again() {
    let fixture = Fixture::new(120);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let wanted = fixture.cache_files();
    // As if the run was killed before it wrote the last unit's shard and commit.
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
    let train = |run: &str| {
        fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", run]);
        let folder = fixture.path(run).join("student");
        let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        (metrics, fs::read(folder.join("model/model.safetensors")).unwrap())
    };
    // Two checkpoints are kept. The newer one is removed, as if the run was killed before, and its steps are repeated.
    for (every, step) in [(5, 10), (8, 8)] {
        fixture.write_recipe("");
        fixture.edit_recipe("checkpoint_every = 5", &format!("checkpoint_every = {every}"));
        let run = format!("run-{every}");
        let whole = train(&run);
        assert_eq!(whole.0.lines().count(), 12);
        let checkpoints = fixture.path(&run).join("student/checkpoints");
        let mut kept: Vec<String> =
            fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        kept.sort();
        assert_eq!(kept, [format!("step-{step:08}"), "step-00000012".to_owned()]);
        fs::remove_dir_all(checkpoints.join("step-00000012")).unwrap();
        fs::remove_dir_all(fixture.path(&run).join("student/model")).unwrap();
        assert!(train(&run) == whole, "resumed from step {step}");
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
    assert!(error.contains("run the same command again to continue"), "{error}");
    let steps = fs::read_to_string(&metrics).unwrap().lines().count();
    let newest = fs::read_dir(fixture.path("run/student/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).max();
    assert_eq!(newest.unwrap().to_string_lossy(), format!("step-{steps:08}"), "the last step is kept");
}
