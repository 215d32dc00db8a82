//! Workers that are killed, wait, or run out of disk space at each step of publishing. Each worker is a process: this
//! test binary, which runs [`child`].

use super::*;
use crate::PLAN_NAME;
use crate::publish::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{env, io, process};

/// Environment variables for a child: the cache's folder, its layout, and the step at which it dies or waits for a
/// line.
const FOLDER: &str = "LOGITCASK_TEST_FOLDER";
const LAYOUT: &str = "LOGITCASK_TEST_LAYOUT";
const DIE_AT: &str = "LOGITCASK_TEST_DIE_AT";
const WAIT_AT: &str = "LOGITCASK_TEST_WAIT_AT";
/// If set, the long tests run, with every pair of deaths.
const LONG: &str = "LOGITCASK_KILLS";
/// Prefixes of the lines from a child to its parent.
const AT: &str = "at ";
const ROOT: &str = "cache_id ";
const ERROR: &str = "error ";
const LAYOUTS: [Layout; 2] = [Layout::Plain, Layout::Packed];

/// Called by [`crate::publish`] before each of its steps.
pub(crate) fn step(step: Step, path: &Path) {
    static ORDERS: OnceLock<[Option<usize>; 2]> = OnceLock::new();
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let order = |name| env::var(name).ok().map(|at| at.parse().unwrap());
    let [die, wait] = ORDERS.get_or_init(|| [order(DIE_AT), order(WAIT_AT)]);
    if die.is_none() && wait.is_none() {
        return;
    }
    let here = Some(STEPS.fetch_add(1, Ordering::SeqCst) + 1);
    if here != *die && here != *wait {
        return;
    }
    tell(&format!("{AT}{step:?} {}", path.display()));
    if here == *die {
        // As with kill -9, no destructor runs and no buffer is flushed.
        process::abort();
    }
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// Prints a line for the parent. It starts with a line feed because the test harness may have printed part of a line.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).unwrap();
}

/// A plan with a full unit and a partial one.
fn plan_of(layout: Layout) -> Plan {
    Plan { layout, ..plan(TOP_P, &[("train", 5)], 3) }
}

fn work(folder: &Path, layout: Layout) -> crate::Result<Manifest> {
    let writer = CacheWriter::open(folder, plan_of(layout), TOKENIZER)?;
    for unit in writer.pending()? {
        write_unit(&writer, unit, 0)?;
    }
    writer.finish()
}

#[test]
#[ignore = "what the other tests run as a process of its own; alone it does nothing"]
fn child() {
    let (Ok(folder), Ok(layout)) = (env::var(FOLDER), env::var(LAYOUT)) else { return };
    let layout = LAYOUTS.into_iter().find(|l| l.name() == layout).unwrap();
    match work(Path::new(&folder), layout) {
        Ok(manifest) => tell(&format!("{ROOT}{}", manifest.cache_id())),
        Err(e) => {
            tell(&format!("{ERROR}{e}"));
            process::exit(1);
        }
    }
}

/// A process that runs [`child`], with more environment variables.
fn start(folder: &Path, layout: Layout, env: &[(&str, usize)]) -> Child {
    ordered(Command::new(env::current_exe().unwrap()), folder, layout, env)
}

fn ordered(mut command: Command, folder: &Path, layout: Layout, env: &[(&str, usize)]) -> Child {
    command.args(["tests::crash::child", "--exact", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).env(LAYOUT, layout.name()).envs(env.iter().map(|(name, n)| (name, n.to_string())));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The rest of the next line that begins with `key`; `None` at the end of the output.
fn said(out: &mut impl BufRead, key: &str) -> Option<String> {
    out.lines().map(Result::unwrap).find_map(|line| line.strip_prefix(key).map(str::to_owned))
}

/// Waits for the child to end. Returns whether it succeeded, and the rest of its line with `key`.
fn ended(mut child: Child, key: &str) -> (bool, Option<String>) {
    // The rest of the output is read too, so that the child never writes to a closed pipe.
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let line = said(&mut out, key);
    (child.wait().unwrap().success(), line)
}

/// Runs a child that dies at step number `at`. Returns that step, or `None` if it has fewer steps.
fn died(folder: &Path, layout: Layout, at: usize) -> Option<String> {
    let (success, step) = ended(start(folder, layout, &[(DIE_AT, at)]), AT);
    assert_eq!(success, step.is_none(), "step {at}: {step:?}");
    step.map(|line| line.replace(&folder.display().to_string(), ""))
}

/// Every file below `folder` with its bytes and modification time.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(next) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let changed = fs::metadata(&path).unwrap().modified().unwrap();
                    let name = path.strip_prefix(folder).unwrap().to_owned();
                    found.insert(name, (fs::read(&path).unwrap(), changed));
                }
            }
        }
    }
    found
}

fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder).into_iter().map(|(name, (bytes, _))| (name, bytes)).collect()
}

/// A complete cache from an undisturbed run.
fn undisturbed(layout: Layout) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path(), layout).unwrap();
    bytes(folder.path())
}

/// Checks that every file with its final name is intact, and that the cache can be opened only if it is complete.
fn check_partial(folder: &Path, wanted: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    let here = bytes(folder);
    for (name, bytes) in here.iter().filter(|(name, _)| !name.to_string_lossy().contains(".tmp-")) {
        assert!(Some(bytes) == wanted.get(name), "{when}: {} is not what it should be", name.display());
    }
    let is_complete = here.contains_key(Path::new(MANIFEST_NAME));
    assert!(!is_complete || wanted.keys().all(|name| here.contains_key(name)), "{when}: a root before its files");
    assert_eq!(CacheReader::open(folder).is_ok(), is_complete, "{when}");
}

fn check_whole(folder: &Path, wanted: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    let here = bytes(folder);
    assert!(here.keys().eq(wanted.keys()), "{when}: {:?}", here.keys());
    for (name, bytes) in wanted {
        assert!(bytes == &here[name], "{when}: {} differs", name.display());
    }
}

#[test]
fn a_worker_that_dies_at_any_step_loses_nothing_and_leaves_nothing() {
    for layout in LAYOUTS {
        let wanted = undisturbed(layout);
        let mut deaths = BTreeSet::new();
        for at in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let Some(death) = died(folder.path(), layout, at) else { break };
            check_partial(folder.path(), &wanted, &death);
            work(folder.path(), layout).unwrap();
            check_whole(folder.path(), &wanted, &death);
            deaths.insert(death);
        }
        let steps = [Step::Open, Step::Write, Step::MidWrite, Step::Sync, Step::Name, Step::SyncFolder];
        for name in wanted.keys() {
            for step in steps {
                let death = format!("{step:?} /{}", name.display());
                assert!(deaths.contains(&death), "no worker died at {death}");
            }
        }
        assert_eq!(deaths.len(), wanted.len() * steps.len() + 3 + 4, "three folders are made, four cleaned");
    }
}

#[test]
fn a_worker_that_dies_while_it_goes_on_after_a_death_loses_nothing() {
    let is_long = env::var_os(LONG).is_some();
    for layout in LAYOUTS {
        let wanted = undisturbed(layout);
        let mut deaths = 0;
        'first: for first in (1..).step_by(if is_long { 1 } else { 3 }) {
            // The short test tries one second death for some of the first ones, each at another step.
            let other = 1 + 37 * first % 47;
            for second in if is_long { 1..usize::MAX } else { other..other + 1 } {
                let folder = tempfile::tempdir().unwrap();
                let [has_first, has_second] = [first, second].map(|at| died(folder.path(), layout, at).is_some());
                let when = format!("steps {first} and {second}");
                check_partial(folder.path(), &wanted, &when);
                work(folder.path(), layout).unwrap();
                check_whole(folder.path(), &wanted, &when);
                match (has_first, has_second) {
                    (false, _) => break 'first,
                    (true, false) => break,
                    (true, true) => deaths += 1,
                }
            }
        }
        assert!(deaths > 8, "only {deaths} second deaths");
    }
}

#[test]
fn workers_in_many_processes_end_with_one_cache() {
    for layout in LAYOUTS {
        let wanted = undisturbed(layout);
        for round in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let workers: Vec<Child> = (0..4).map(|_| start(folder.path(), layout, &[])).collect();
            let roots: BTreeSet<_> = workers.into_iter().map(|worker| ended(worker, ROOT)).collect();
            let cache_id = CacheReader::open(folder.path()).unwrap().cache_id().to_string();
            assert_eq!(roots, BTreeSet::from([(true, Some(cache_id))]), "round {round}");
            check_whole(folder.path(), &wanted, &format!("round {round}"));
        }
    }
}

#[test]
fn a_worker_that_waited_while_another_finished_changes_nothing() {
    let mut waits = 0;
    for layout in LAYOUTS {
        for at in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let mut late = start(folder.path(), layout, &[(WAIT_AT, at)]);
            let mut out = BufReader::new(late.stdout.take().unwrap());
            let Some(step) = said(&mut out, AT) else {
                assert!(late.wait().unwrap().success());
                break;
            };
            let cache_id = work(folder.path(), layout).unwrap().cache_id().to_string();
            let before = files(folder.path());
            late.stdin.take().unwrap().write_all(b"go on\n").unwrap();
            assert_eq!(said(&mut out, ROOT), Some(cache_id), "after {step}");
            assert!(late.wait().unwrap().success());
            let after = files(folder.path());
            assert!(before.iter().all(|(name, file)| after.get(name) == Some(file)), "{step} changed a file");
            let is_temporary = |name: &PathBuf| name.to_string_lossy().contains(".tmp-");
            assert!(after.keys().all(|name| !is_temporary(name)), "{step} left {:?}", after.keys());
            waits += 1;
        }
    }
    assert!(waits > 80, "only {waits} waits");
}

/// Limits the size of the files that this child can write, in blocks.
#[cfg(unix)]
fn cramped(folder: &Path, layout: Layout, blocks: u64) -> (bool, Option<String>) {
    let mut shell = Command::new("sh");
    // The signal is ignored, so that the write fails as on a full disk instead of killing the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()]);
    shell.arg(env::current_exe().unwrap());
    ended(ordered(shell, folder, layout, &[]), ERROR)
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_is_named_and_the_cache_goes_on_later() {
    for layout in LAYOUTS {
        let wanted = undisturbed(layout);
        let mut named = BTreeSet::new();
        for blocks in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (success, error) = cramped(folder.path(), layout, blocks);
            let when = format!("{blocks} blocks");
            if success {
                check_whole(folder.path(), &wanted, &when);
                break;
            }
            let error = error.unwrap();
            let (file, problem) = error.split_once(": ").unwrap();
            assert!(problem.starts_with("cannot write its temporary file: "), "{when}: {error}");
            let file = Path::new(file).strip_prefix(folder.path()).unwrap().to_owned();
            check_partial(folder.path(), &wanted, &when);
            let here = bytes(folder.path());
            assert!(here.keys().all(|name| wanted.contains_key(name) && *name != file), "{when}: {:?}", here.keys());
            work(folder.path(), layout).unwrap();
            check_whole(folder.path(), &wanted, &when);
            named.insert(file);
        }
        for name in [PLAN_NAME, &plan_of(layout).shard_name(0)] {
            assert!(named.contains(Path::new(name)), "{name} always fitted: {named:?}");
        }
    }
}
