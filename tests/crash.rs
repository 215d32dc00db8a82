//! No data is lost and no incomplete file remains when the program is killed, stopped, run twice at the same time, on a
//! full disk, or in a read-only folder.
//!
//! `LOGITCASK_KILLS=N` sets the number of kills, as `make crash-test` does. The tests of the cache crate inject
//! failures between system calls.

use crate::fixture::Fixture;
use crate::skips::skip;
use logitcask_core::rng::CounterRng;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const SHORT: u64 = 8;
/// The log of the runs that filled a cache.
const LOG: &str = "_runs.jsonl";
const INPUTS: &str = "_inputs.json";

/// A complete cache from an undisturbed run, and the time it took.
struct Whole {
    files: Files,
    length: Duration,
    cache_id: String,
}

/// The files that identify a cache, by name, without logs and temporary files.
type Files = BTreeMap<String, (Vec<u8>, SystemTime)>;

impl Whole {
    /// Fills the cache of `fixture`, reads its files and removes it.
    fn of(fixture: &Fixture) -> Self {
        let start = Instant::now();
        let cache_id = cache_id(&fixture.ok(&CACHE));
        let length = start.elapsed();
        let whole = Self { files: files(fixture), length, cache_id };
        assert!(whole.files.contains_key("manifest.json") && whole.files.len() > 10, "{:?}", whole.files.keys());
        fs::remove_dir_all(fixture.path("cache")).unwrap();
        whole
    }

    /// Checks that every file with its final name is intact, and that the manifest exists only if all others do.
    fn check_partial(&self, fixture: &Fixture, when: &str) -> Files {
        let here = files(fixture);
        for (name, (bytes, _)) in &here {
            assert!(self.files.get(name).is_some_and(|(wanted, _)| wanted == bytes), "{when}: {name} is not whole");
        }
        let is_complete = here.contains_key("manifest.json");
        assert!(!is_complete || here.len() == self.files.len(), "{when}: a manifest before its files");
        here
    }

    fn check(&self, fixture: &Fixture, when: &str) {
        assert_eq!(self.check_partial(fixture, when).len(), self.files.len(), "{when}");
        // The cache is already complete, so this only prints its id.
        assert_eq!(cache_id(&fixture.ok(&CACHE)), self.cache_id, "{when}");
    }
}

fn files(fixture: &Fixture) -> Files {
    let cache = fixture.path("cache");
    let mut files = Files::new();
    for folder in ["", "data/", "_commits/", "_manifest/"] {
        let Ok(entries) = fs::read_dir(cache.join(folder)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            // The log of runs and the record of inputs contain times and are not part of the cache's identity.
            let is_part = entry.path().is_file() && !name.contains(".tmp-") && ![LOG, INPUTS].contains(&name.as_str());
            if is_part {
                let changed = entry.metadata().unwrap().modified().unwrap();
                files.insert(name, (fs::read(entry.path()).unwrap(), changed));
            }
        }
    }
    files
}

/// The cache id that `logitcask cache` printed.
fn cache_id(output: &str) -> String {
    let (_, after) = output.split_once("cache id ").unwrap_or_else(|| panic!("no cache id in {output}"));
    after.chars().take_while(char::is_ascii_hexdigit).collect()
}

fn start(fixture: &Fixture) -> Child {
    fixture.command(&CACHE).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn output(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Number of kills in each test.
fn kills() -> u64 {
    std::env::var("LOGITCASK_KILLS").map_or(SHORT, |n| n.parse().unwrap())
}

/// Whether the process was still running; it no longer is.
fn kill(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none() && {
        child.kill().unwrap();
        !child.wait().unwrap().success()
    }
}

#[test]
fn a_cache_run_killed_anywhere_resumes_to_the_same_bytes() {
    let count = kills();
    let fixture = Fixture::new(240);
    let whole = Whole::of(&fixture);
    let mut moments = CounterRng::new("moments of kills", &[]);
    let (mut kills, mut finished, mut found) = (0, 0, BTreeMap::<&str, u64>::new());
    while kills < count {
        let mut child = start(&fixture);
        std::thread::sleep(whole.length.mul_f64(moments.uniform()));
        let is_killed = kill(&mut child);
        let when = format!("kill {kills} after {finished} finished runs");
        let here = whole.check_partial(&fixture, &when);
        if is_killed {
            kills += 1;
            let has = |name: &str| here.keys().any(|file| file.starts_with(name));
            let progress = match (has("plan.json"), has("_commits/"), has("manifest.json")) {
                (false, ..) => "before the plan",
                (true, false, _) => "before the first commit",
                (true, true, false) => "before the manifest",
                (true, true, true) => "after the manifest",
            };
            *found.entry(progress).or_default() += 1;
        } else {
            whole.check(&fixture, &when);
            fs::remove_dir_all(fixture.path("cache")).unwrap();
            finished += 1;
            assert!(finished < 4 * count + 16, "{kills} of {count} kills came before the run's end: {found:?}");
        }
    }
    fixture.ok(&CACHE);
    whole.check(&fixture, "after the last kill");
    eprintln!("{kills} kills: {found:?}; {finished} runs ended before theirs");
    assert!(count < 100 || found.len() > 2, "the kills came at the same places: {found:?}");
}

#[test]
fn workers_killed_anywhere_while_two_share_a_cache_leave_the_bytes_of_one() {
    let (count, fixture) = (kills(), Fixture::new(240));
    let whole = Whole::of(&fixture);
    let mut moments = CounterRng::new("moments of kills of workers", &[]);
    let (mut killed, mut alone, mut rounds) = (0, 0, 0);
    while killed < count {
        rounds += 1;
        assert!(rounds < 4 * count + 16, "{killed} of {count} kills came before the runs' end");
        // Of every three rounds, two leave one worker alone and one leaves none; the next round goes on from there.
        let victims = if rounds % 3 == 0 { 2 } else { 1 };
        let mut workers: Vec<Child> = (0..2).map(|_| start(&fixture)).collect();
        for worker in &mut workers[..victims] {
            // Two workers take less time together than one alone.
            std::thread::sleep(whole.length.mul_f64(moments.uniform() / 2.0));
            killed += u64::from(kill(worker));
        }
        let when = format!("round {rounds}, after {killed} kills");
        for (success, text) in workers.drain(victims..).map(output) {
            assert!(success, "{when}: {text}");
            assert_eq!(cache_id(&text), whole.cache_id, "{when}");
            alone += 1;
        }
        whole.check_partial(&fixture, &when);
        if victims == 1 {
            whole.check(&fixture, &when);
            fs::remove_dir_all(fixture.path("cache")).unwrap();
        }
    }
    fixture.ok(&CACHE);
    whole.check(&fixture, "after the last kill");
    eprintln!("{killed} kills in {rounds} rounds, {alone} of them finished by the other worker");
}

#[test]
fn two_runs_at_once_end_with_one_cache() {
    let fixture = Fixture::new(120);
    let whole = Whole::of(&fixture);
    for round in 0..2 {
        let runs = [start(&fixture), start(&fixture)].map(output);
        for (success, text) in &runs {
            assert!(*success, "round {round}: {text}");
            assert_eq!(cache_id(text), whole.cache_id, "round {round}");
        }
        whole.check(&fixture, "two runs at once");
        fs::remove_dir_all(fixture.path("cache")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_sleeps_while_another_finishes_changes_nothing() {
    let fixture = Fixture::new(240);
    let whole = Whole::of(&fixture);
    let signal = |name: &str, child: &Child| {
        let status = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill {name}");
    };
    let mut slept = 0;
    for share in [0.4, 0.6, 0.8, 0.9] {
        let mut late = start(&fixture);
        std::thread::sleep(whole.length.mul_f64(share));
        if late.try_wait().unwrap().is_none() {
            signal("-STOP", &late);
            // The process is stopped, or has already ended. Either way it does nothing until it is continued.
            let was_complete = fixture.path("cache/manifest.json").exists();
            fixture.ok(&CACHE);
            let before = files(&fixture);
            signal("-CONT", &late);
            slept += u32::from(!was_complete);
            let (success, text) = output(late);
            assert!(success && cache_id(&text) == whole.cache_id, "asleep at {share}: {text}");
            assert!(files(&fixture) == before, "asleep at {share}: a file was changed");
        }
        whole.check(&fixture, "one run asleep");
        fs::remove_dir_all(fixture.path("cache")).unwrap();
    }
    assert!(slept > 0, "every run ended before it could be stopped");
}

/// The same run with a limit on the size of files, in blocks of 512 bytes.
#[cfg(unix)]
fn cramped(fixture: &Fixture, blocks: u64) -> Output {
    let run = fixture.command(&CACHE);
    let mut shell = Command::new("sh");
    // The signal is ignored, so that the write fails as on a full disk instead of killing the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()]);
    shell.arg(run.get_program()).args(run.get_args()).current_dir(fixture.dir.path()).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_the_cache_goes_on_once_there_is_room() {
    let fixture = Fixture::new(240);
    let whole = Whole::of(&fixture);
    let largest = whole.files.iter().filter(|(name, _)| name.starts_with("data/")).map(|(_, (bytes, _))| bytes.len());
    let largest = largest.max().unwrap() as u64;
    for (limit, file) in [(0, "cache/plan.json"), (largest - 1, "cache/data/")] {
        let output = cramped(&fixture, limit / 512);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("error: ") && error.contains(file), "{limit} bytes: {error}");
        assert!(error.contains("cannot write its temporary file: "), "{limit} bytes: {error}");
        whole.check_partial(&fixture, file);
        let leftovers = leftovers(&fixture);
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }
    fixture.ok(&CACHE);
    whole.check(&fixture, "with room again");
}

/// Temporary files that were left behind.
#[cfg(unix)]
fn leftovers(fixture: &Fixture) -> Vec<PathBuf> {
    let folders = ["cache", "cache/data", "cache/_commits", "cache/_manifest"].map(|name| fixture.path(name));
    let entries = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains(".tmp-")).collect()
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_named_and_the_cache_goes_on_once_it_may_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new(120);
    let whole = Whole::of(&fixture);
    let set = |name: &str, mode| fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(mode)).unwrap();
    // An incomplete cache, as a killed run may leave it.
    fixture.ok(&CACHE);
    for name in ["manifest.json", "_commits/00001.json", "README.md"] {
        fs::remove_file(fixture.path("cache").join(name)).unwrap();
    }
    fs::remove_file(fixture.path("cache").join(whole.files.keys().find(|n| n.contains("-00001-of-")).unwrap()))
        .unwrap();
    let folders = ["cache", "cache/data", "cache/_commits", "cache/_manifest"];
    folders.iter().for_each(|folder| set(folder, 0o555));
    set("", 0o755);
    let output = as_ordinary_user(&fixture);
    folders.iter().for_each(|folder| set(folder, 0o755));
    match output {
        None => skip(
            "crash::a_read_only_folder_is_named_and_the_cache_goes_on_once_it_may_be_written",
            "root may write anywhere, and setpriv cannot make it another user here",
        ),
        Some(output) => {
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains("error: ") && error.contains("/cache/"), "{error}");
            assert!(error.contains("cannot create a temporary file beside it: Permission denied"), "{error}");
            whole.check_partial(&fixture, "a read-only folder");
        }
    }
    fixture.ok(&CACHE);
    whole.check(&fixture, "writable again");
}

/// The run as a user who is subject to file permissions; `None` if this process cannot become one.
#[cfg(unix)]
fn as_ordinary_user(fixture: &Fixture) -> Option<Output> {
    let probe = fixture.path("cache/probe");
    if fs::write(&probe, b"").is_err() {
        return Some(fixture.run(&CACHE));
    }
    fs::remove_file(probe).unwrap();
    let run = fixture.command(&CACHE);
    let setpriv = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(run.get_program());
        command.args(args).current_dir(fixture.dir.path()).output().ok()
    };
    setpriv(&["--version"]).filter(|output| output.status.success())?;
    setpriv(&CACHE)
}
