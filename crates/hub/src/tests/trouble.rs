//! Snapshots of which other tools fetched a part, hubs that are busy or wrong, and disks that are full.

use super::server::COMMIT;
use super::{Case, MODEL, NAME, names};
use crate::{Error, Settings, Snapshot, locate};
use std::fs;
use std::path::{Path, PathBuf};

const CHAT: [(&str, &[u8]); 6] = [
    ("config.json", b"{}"),
    ("tokenizer.json", b"tokens"),
    ("model.safetensors", b"weights"),
    ("generation_config.json", b"{}"),
    ("chat_template.jinja", b"{{ messages }}"),
    ("additional_chat_templates/tools.jinja", b"{{ tools }}"),
];

/// Writes some files of a model into the cache, as another tool does.
fn begun(case: &Case, files: &[(&str, &[u8])]) -> PathBuf {
    let model = case.cache.path().join("models--org--model");
    let folder = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    folder
}

#[test]
fn a_snapshot_that_another_tool_began_is_completed_once() {
    let case = Case::of(&CHAT);
    let folder = begun(&case, &CHAT[..3]);
    let snapshot = case.locate(NAME).unwrap();
    assert_eq!((&snapshot.folder, &snapshot.doubt), (&folder, &None));
    let mut wanted = CHAT.map(|(name, _)| name.to_owned());
    wanted.sort();
    assert_eq!(names(&folder), wanted);
    assert_eq!(case.hub.asked(), 4, "the list, and what was missing");
    assert_eq!(case.locate(NAME).unwrap(), snapshot);
    assert_eq!(case.hub.asked(), 4);
    // What transformers recorded as absent is not asked for either.
    let case = Case::of(&CHAT[..3]);
    let folder = begun(&case, &CHAT[..3]);
    let absent = case.cache.path().join("models--org--model/.no_exist").join(COMMIT);
    fs::create_dir_all(&absent).unwrap();
    for file in crate::cache::SMALL.into_iter().filter(|file| *file != "tokenizer.json") {
        fs::write(absent.join(file), b"").unwrap();
    }
    assert_eq!(case.locate(NAME).unwrap().folder, folder);
    assert_eq!(case.hub.asked(), 0);
}

#[test]
fn a_model_without_tokenizer_is_asked_for_once() {
    let files = [CHAT[0], CHAT[2]];
    let case = Case::of(&files);
    begun(&case, &files);
    for _ in 0..3 {
        assert_eq!(case.locate(NAME).unwrap().doubt, None);
        assert_eq!(case.hub.asked(), 1);
    }
}

#[test]
fn a_part_of_a_snapshot_is_opened_without_network_and_what_may_be_missing_is_said() {
    let case = Case::of(&CHAT);
    let folder = begun(&case, &CHAT[..3]);
    for (settings, why) in [
        (Settings { offline: true, ..case.settings() }, "HF_HUB_OFFLINE"),
        (Settings { endpoint: "http://127.0.0.1:9".to_owned(), ..case.settings() }, "http://127.0.0.1:9"),
    ] {
        let Snapshot { folder: found, doubt, .. } = case.locate_with(NAME, &settings).unwrap();
        assert_eq!(found, folder);
        let doubt = doubt.unwrap();
        for part in ["generation_config.json", "chat_template.jinja", "whether the model has them", why] {
            assert!(doubt.contains(part), "{part}: {doubt}");
        }
        assert!(!doubt.contains("lacks tokenizer.json") && !doubt.contains("no such file or folder"), "{doubt}");
    }
    assert_eq!(case.hub.asked(), 0);
}

#[test]
fn a_busy_hub_is_asked_again() {
    for (end, status) in [("?blobs=true", 503), ("model.safetensors", 429), ("config.json", 503)] {
        let case = Case::of(&MODEL);
        case.hub.state.lock().unwrap().busy = Some((end.to_owned(), status, 2));
        case.locate(NAME).unwrap();
        let case = Case::of(&MODEL);
        case.hub.state.lock().unwrap().busy = Some((end.to_owned(), status, 100));
        let error = case.locate(NAME).unwrap_err();
        assert!(error.contains(&format!("the status {status}")), "{error}");
        let state = case.hub.state.lock().unwrap();
        assert_eq!(state.asked.iter().filter(|path| path.ends_with(end)).count(), 4, "{:?}", state.asked);
    }
}

#[test]
fn a_file_that_is_not_there_is_not_a_model_that_is_not_there() {
    let case = Case::of(&MODEL);
    case.hub.state.lock().unwrap().gone = Some("tokenizer.json".to_owned());
    let error = case.locate(NAME).unwrap_err();
    assert!(error.contains("lists tokenizer.json") && !error.contains("no model"), "{error}");
}

#[test]
fn weights_are_not_fetched_for_a_model_that_is_refused() {
    let case = Case::of(&MODEL);
    let refuse = |folder: &Path| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let config = fs::read_to_string(folder.join("config.json"))?;
        Err(format!("this build does not open {config}").into())
    };
    let error = locate(Path::new(NAME), &case.settings(), &mut |_, _| (), &refuse).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("does not open {}; its weights were not fetched"), "{error}");
    let state = case.hub.state.lock().unwrap();
    assert!(!state.asked.iter().any(|path| path.contains("safetensors")), "{:?}", state.asked);
    let quantised: [(&str, &[u8]); 3] = [MODEL[0], MODEL[3], ("quantize_config.json", b"{}")];
    let case = Case::of(&quantised);
    let error = case.locate(NAME).unwrap_err();
    assert!(error.contains("quantize_config.json") && case.hub.asked() == 1, "{error}");
}

/// A disk that is full: /dev/full accepts nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_not_trouble_with_the_network() {
    let case = Case::of(&MODEL);
    let partial = case.cache.path().join("models--org--model/.partial");
    fs::create_dir_all(&partial).unwrap();
    let file = partial.join(format!("{COMMIT}-model.safetensors"));
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let error = case.locate(NAME).unwrap_err();
    assert!(error.starts_with(&format!("{}: cannot write it: ", file.display())), "{error}");
    assert!(!error.contains("network"), "{error}");
    let state = case.hub.state.lock().unwrap();
    let asked = state.asked.iter().filter(|path| path.ends_with("/model.safetensors")).count();
    assert_eq!(asked, 1, "another attempt would not mend it");
}
