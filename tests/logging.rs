//! Events on standard error with `-v`, `-vv`, `-q` and `RUST_LOG`, and none without them.

use crate::fixture::Fixture;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// The standard error of a command that succeeds.
fn told(fixture: &Fixture, args: &[&str], rust_log: Option<&str>) -> String {
    let mut command = fixture.command(args);
    command.env_remove("RUST_LOG").envs(rust_log.map(|filter| ("RUST_LOG", filter)));
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {told}");
    told
}

/// The lines that are events: a time in seconds, a level and a module.
fn events(told: &str) -> Vec<&str> {
    told.lines().filter(|line| [" INFO logitcask", "DEBUG logitcask"].iter().any(|mark| line.contains(mark))).collect()
}

/// Checks that each of `wanted` is an event, in this order.
fn come_in_order(told: &str, wanted: &[&str]) {
    let mut events = events(told).into_iter();
    for part in wanted {
        assert!(events.any(|event| event.contains(part)), "no event `{part}` in its place:\n{told}");
    }
}

#[test]
fn without_a_flag_no_event_is_told() {
    let fixture = Fixture::new(40);
    let cached = told(&fixture, &CACHE, None);
    assert!(events(&cached).is_empty(), "{cached}");
    let [teacher, done] = cached.lines().collect::<Vec<_>>()[..] else { panic!("two lines, no more: {cached}") };
    assert!(teacher.starts_with("teacher teacher (") && done.starts_with("caching: "), "{cached}");
    assert!(events(&told(&fixture, &TRAIN, None)).is_empty());
}

#[test]
fn verbose_tells_the_steps_and_twice_the_units() {
    let fixture = Fixture::new(40);
    let steps = ["model opened", "texts read and tokenised", "split cut", "device opened", "weights loaded"];
    let more = ["tail atoms chosen", "opened for writing", "stage 1 begins", "stage 1 ends", "cache complete"];
    let cached = told(&fixture, &[&CACHE[..], &["-v"]].concat(), None);
    come_in_order(&cached, &[&steps[..], &more].concat());
    assert!(!cached.contains("DEBUG") && cached.contains("documents=40") && cached.contains("seconds="), "{cached}");

    std::fs::remove_dir_all(fixture.path("cache")).unwrap();
    let cached = told(&fixture, &[&["-vv"], &CACHE[..]].concat(), None);
    come_in_order(&cached, &["reading a file", "unit begun unit=0", "unit committed unit=0", "cache complete"]);

    let trained = told(&fixture, &[&TRAIN[..], &["--verbose", "--verbose"]].concat(), None);
    let epochs = ["cache opened", "shard opened", "training begins", "epoch begins epoch=0"];
    come_in_order(&trained, &[&epochs[..], &["checkpoint written step=12", "evaluated split=\"test\""]].concat());
    let again = told(&fixture, &[&TRAIN[..], &["-v"]].concat(), None);
    come_in_order(&again, &["checkpoint found", "training begins"]);
    let verified = told(&fixture, &["verify", "cache", "-v"], None);
    come_in_order(&verified, &["cache verified"]);
}

#[test]
fn rust_log_names_libraries() {
    let fixture = Fixture::new(40);
    let cached = told(&fixture, &CACHE, Some("logitcask_cache=debug"));
    come_in_order(&cached, &["unit committed"]);
    assert!(events(&cached).iter().all(|event| event.contains("logitcask_cache")), "{cached}");
    // A level for a single library overrides -v.
    let both = told(&fixture, &[&CACHE[..], &["-v"]].concat(), Some("logitcask_cache=off"));
    assert!(!both.contains("logitcask_cache"), "{both}");
    let unread = told(&fixture, &CACHE, Some("logitcask=loud"));
    assert!(unread.contains("RUST_LOG=logitcask=loud is not used"), "{unread}");
}

#[test]
fn quiet_tells_errors_alone() {
    let fixture = Fixture::new(40);
    assert_eq!(told(&fixture, &[&CACHE[..], &["-q"]].concat(), Some("debug")), "");
    let error = fixture.fails(&["inspect", "nowhere", "--quiet"]);
    assert!(error.starts_with("error: nowhere: there is no such folder"), "{error}");
    assert!(fixture.fails(&["inspect", "cache", "-q", "-v"]).contains("cannot be used with"));
}
