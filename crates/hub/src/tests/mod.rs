//! Fetching from a hub on this machine, and what the cache then says without it.

mod server;
mod trouble;

use crate::{Settings, Snapshot, find, locate};
use server::{COMMIT, Hub};
use std::fs;
use std::path::Path;

/// A hub, and an empty cache.
struct Case {
    hub: Hub,
    cache: tempfile::TempDir,
}

const NAME: &str = "org/model";
const INDEX: &str = "model.safetensors.index.json";
const MODEL: [(&str, &[u8]); 6] = [
    ("config.json", b"{}"),
    ("README.md", b"not needed"),
    ("tokenizer.json", b"tokens"),
    ("model.safetensors", b"weights, which are longer than all the others"),
    ("pytorch_model.bin", b"not needed"),
    ("additional_chat_templates/tools.jinja", b"{{ tools }}"),
];

impl Case {
    fn of(files: &[(&str, &[u8])]) -> Self {
        Self { hub: Hub::serve(files), cache: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache: self.cache.path().to_owned(),
            endpoint: self.hub.address.clone(),
            token: None,
            token_file: self.cache.path().join("token"),
            offline: false,
        }
    }

    fn locate_with(&self, name: &str, settings: &Settings) -> Result<Snapshot, String> {
        let found = locate(Path::new(name), settings, &mut |_, _| (), &|_| Ok(())).map_err(|e| e.to_string());
        found.map(|snapshot| snapshot.expect("a hub name"))
    }

    fn locate(&self, name: &str) -> Result<Snapshot, String> {
        self.locate_with(name, &self.settings())
    }
}

/// The names of the files in a folder and its folders.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => names.extend(self::names(&entry.path()).iter().map(|inner| format!("{name}/{inner}"))),
            false => names.push(name),
        }
    }
    names.sort();
    names
}

#[test]
fn what_is_needed_is_fetched_once() {
    let case = Case::of(&MODEL);
    let mut told = Vec::new();
    let tell = &mut |file: &str, size: u64| told.push((file.to_owned(), size));
    let snapshot = locate(Path::new(NAME), &case.settings(), tell, &|_| Ok(())).unwrap().unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    let wanted = ["additional_chat_templates/tools.jinja", "config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(names(&snapshot.folder), wanted);
    for (name, bytes) in MODEL.iter().filter(|(name, _)| wanted.contains(name)) {
        assert_eq!(fs::read(snapshot.folder.join(name)).unwrap(), *bytes, "{name}");
        assert!(told.contains(&((*name).to_owned(), bytes.len() as u64)), "{name}: {told:?}");
    }
    assert_eq!(told.last().unwrap().0, "model.safetensors", "weights come last");
    // The layout is that of Hugging Face's tools.
    let model = case.cache.path().join("models--org--model");
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(snapshot.folder, model.join("snapshots").join(COMMIT));
    assert_eq!(names(&model.join(".partial")), Vec::<String>::new());
    let asked = case.hub.asked();
    assert_eq!(case.locate(NAME).unwrap(), snapshot);
    assert_eq!(case.locate(&format!("{NAME}@{COMMIT}")).unwrap().folder, snapshot.folder);
    assert_eq!(find(Path::new(NAME), &case.settings()).unwrap(), snapshot);
    assert_eq!(case.hub.asked(), asked, "the network is not asked again");
}

#[test]
fn the_shards_of_the_index_are_fetched_and_no_others() {
    let index =
        br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        (INDEX, index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"three"),
    ];
    let case = Case::of(&files);
    let snapshot = case.locate(NAME).unwrap();
    let wanted = ["config.json", "model-1.safetensors", "model-2.safetensors", INDEX, "tokenizer.json"];
    assert_eq!(names(&snapshot.folder), wanted);
    let error = Case::of(&files[..4]).locate(NAME).unwrap_err();
    assert!(error.contains("names model-2.safetensors, which it does not have"), "{error}");
    let outside = (INDEX, &br#"{"weight_map": {"a": "../../model.safetensors"}}"#[..]);
    let error = Case::of(&[files[0], outside]).locate(NAME).unwrap_err();
    assert!(error.contains("not an index of weights"), "{error}");
}

#[test]
fn fetching_goes_on_where_it_ended() {
    let case = Case::of(&MODEL);
    case.hub.state.lock().unwrap().cut_off = Some("model.safetensors".to_owned());
    let snapshot = case.locate(NAME).unwrap();
    let ranges = case.hub.state.lock().unwrap().ranges.clone();
    assert_eq!(ranges, [format!("bytes={}-", MODEL[3].1.len() / 2)], "the second half alone");
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), MODEL[3].1);
    // A snapshot of which a file was removed is completed, at the commit that it is of.
    fs::remove_file(snapshot.folder.join("config.json")).unwrap();
    let asked = case.hub.asked();
    assert_eq!(case.locate(NAME).unwrap(), snapshot);
    let state = case.hub.state.lock().unwrap();
    assert_eq!(state.asked[asked], format!("/api/models/org/model/revision/{COMMIT}?blobs=true"));
    assert!(state.asked[asked + 1..].iter().all(|path| path.ends_with("/config.json")), "{:?}", &state.asked[asked..]);
}

#[test]
fn offline_nothing_is_asked_and_the_message_says_where_it_looked() {
    let case = Case::of(&MODEL);
    let offline = Settings { offline: true, ..case.settings() };
    let error = case.locate_with(NAME, &offline).unwrap_err();
    let place = case.cache.path().join("models--org--model/refs/main");
    for part in
        [place.to_str().unwrap(), "no such file or folder", "HF_HUB_OFFLINE", "hf download org/model --revision main"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(case.hub.asked(), 0);
    let snapshot = case.locate(NAME).unwrap();
    let asked = case.hub.asked();
    assert_eq!(case.locate_with(NAME, &offline).unwrap(), snapshot);
    fs::remove_file(snapshot.folder.join("tokenizer.json")).unwrap();
    let doubtful = case.locate_with(NAME, &offline).unwrap();
    assert_eq!(doubtful.folder, snapshot.folder, "a model may have no tokenizer");
    let doubt = doubtful.doubt.unwrap();
    assert!(doubt.contains("lacks tokenizer.json, ") && doubt.contains("HF_HUB_OFFLINE"), "{doubt}");
    fs::remove_file(snapshot.folder.join("model.safetensors")).unwrap();
    let error = case.locate_with(NAME, &offline).unwrap_err();
    assert!(error.contains("lacks model.safetensors"), "{error}");
    assert_eq!(find(Path::new(NAME), &offline), None);
    assert_eq!(case.hub.asked(), asked);
}

#[test]
fn a_model_that_is_not_public_needs_the_token() {
    let case = Case::of(&MODEL);
    case.hub.state.lock().unwrap().token = Some("secret".to_owned());
    let error = case.locate(NAME).unwrap_err();
    assert!(error.contains("HF_TOKEN"), "{error}");
    let with_token = Settings { token: Some("secret".to_owned()), ..case.settings() };
    case.locate_with(NAME, &with_token).unwrap();
    // Or the one that was stored at login.
    fs::remove_dir_all(case.cache.path().join("models--org--model")).unwrap();
    fs::write(case.cache.path().join("token"), "secret\n").unwrap();
    case.locate(NAME).unwrap();
}

#[test]
fn what_cannot_be_opened_is_refused_before_it_is_fetched() {
    let pickle: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"pickle")];
    let adapter: [(&str, &[u8]); 2] = [("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"x")];
    let file: [(&str, &[u8]); 1] = [("model.gguf", b"GGUF")];
    for (files, part) in [(&pickle[..], "save_pretrained(FOLDER)"), (&adapter, "merge"), (&file, "no config.json")] {
        let case = Case::of(files);
        let error = case.locate(NAME).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
        assert_eq!(case.hub.asked(), 1);
    }
    let case = Case::of(&MODEL);
    let error = case.locate("org/model@v2").unwrap_err();
    assert!(error.contains("no model org/model with a revision `v2`"), "{error}");
    let nobody = Settings { endpoint: "http://127.0.0.1:9".to_owned(), ..case.settings() };
    let error = case.locate_with(NAME, &nobody).unwrap_err();
    assert!(error.contains("http://127.0.0.1:9") && error.contains("if there is no network"), "{error}");
}

#[test]
fn a_path_that_is_no_hub_name_is_left_alone() {
    let case = Case::of(&MODEL);
    for path in ["src/tests/mod.rs", "a/b/c", "./a", "model", "src"] {
        assert!(locate(Path::new(path), &case.settings(), &mut |_, _| (), &|_| Ok(())).unwrap().is_none(), "{path}");
    }
    assert_eq!(case.hub.asked(), 0);
}

#[test]
fn a_file_that_arrives_changed_is_not_kept() {
    let case = Case::of(&MODEL);
    case.hub.state.lock().unwrap().hash = Some("0".repeat(64));
    let error = case.locate(NAME).unwrap_err();
    assert!(error.contains("model.safetensors arrived with the hash ") && error.contains("expected 0000"), "{error}");
    let model = case.cache.path().join("models--org--model");
    assert!(!model.join("refs").exists() && names(&model.join(".partial")).is_empty());
    // The hash that coreutils gives for these bytes.
    case.hub.state.lock().unwrap().hash =
        Some("319a3255baa3bca704576eef7194486c55d2cfb18297d3651085a6f920c13d12".to_owned());
    case.locate(NAME).unwrap();
}

#[test]
fn two_processes_do_not_write_one_file() {
    let case = Case::of(&MODEL);
    let partial = case.cache.path().join("models--org--model/.partial");
    fs::create_dir_all(&partial).unwrap();
    let held = logitcask_files::LockFile::try_hold(&partial.join("lock")).unwrap().unwrap();
    let error = case.locate(NAME).unwrap_err();
    assert!(error.contains("another process is fetching it"), "{error}");
    drop(held);
    case.locate(NAME).unwrap();
}
