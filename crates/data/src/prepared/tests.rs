use super::*;
use crate::dataset::Dataset;
use crate::source::write_corpus;
use crate::tokenizer::train_byte_level_bpe;
use crate::{OnBadText, TextDataset};
use logitcask_core::rng::CounterRng;
use logitcask_core::{PositionChoice, SampleId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// 256 bytes and one special token, so that a text of n bytes has n tokens.
static BYTES: LazyLock<TextTokenizer> =
    LazyLock::new(|| train_byte_level_bpe(["a".to_owned()].into_iter(), 257).unwrap());
const MAX_LENGTH: usize = 33;
/// Tells a child process what to prepare, where, and after how many parts to end.
const CASE: &str = "LOGITCASK_PREPARE_CASE";

fn text(index: u64, length: u64) -> String {
    let mut rng = CounterRng::new("prepared text", &[index]);
    let length = rng.below(length) as usize;
    (0..length).map(|_| char::from(b'a' + rng.below(26) as u8)).collect()
}

/// JSON Lines files of these sizes in documents; one document in five is blank.
fn source(files: &[(&str, u64)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (number, (name, documents)) in files.iter().enumerate() {
        let document = |i| if i % 5 == 3 { String::new() } else { text(1000 * number as u64 + i, 400) };
        let lines: String =
            (0..*documents).map(|i| format!("{}\n", serde_json::json!({ "text": document(i) }))).collect();
        fs::write(folder.path().join(name), lines).unwrap();
    }
    folder
}

const FILES: [(&str, u64); 5] = [("a.jsonl", 200), ("b.jsonl", 3), ("c.jsonl", 0), ("d.jsonl", 30), ("e.jsonl", 130)];

fn prepare(config: &DatasetConfig, below: &Path) -> Result<PreparedDataset> {
    Preparation::new(config, &BYTES, MAX_LENGTH, below)?.run(&|_| {})
}

/// Compares everything that the trait offers with the dataset in memory.
fn assert_same(prepared: &PreparedDataset, config: &DatasetConfig) {
    let loaded = TextDataset::load(config, &BYTES, MAX_LENGTH).unwrap();
    assert_eq!(prepared.fingerprint(), loaded.fingerprint());
    assert_eq!((prepared.splits(), prepared.name()), (loaded.splits(), loaded.name()));
    assert_eq!((prepared.notes(), prepared.max_length()), (loaded.notes(), MAX_LENGTH));
    assert_eq!(prepared.marks_positions(), loaded.marks_positions());
    for (split, samples) in loaded.splits() {
        for id in (0..samples).map(SampleId) {
            let (a, b) = (prepared.sample(&split, id).unwrap(), loaded.sample(&split, id).unwrap());
            assert_eq!(a, b, "{split} {id:?}");
            let counts = (prepared.length_of(&split, id).unwrap(), prepared.position_count(&split, id).unwrap());
            assert_eq!(counts, (b.input_ids.len(), loaded.position_count(&split, id).unwrap()));
        }
        let share = PositionChoice::Share { share: 0.3, seed: 0 };
        for choice in [PositionChoice::All {}, PositionChoice::Marked {}, share] {
            for range in [0..samples, samples / 3..samples / 2, 0..0] {
                let [a, b] = [prepared as &dyn Dataset, &loaded]
                    .map(|dataset| dataset.positions(&split, range.clone(), &choice).unwrap());
                assert_eq!(a, b, "{split} {choice}");
            }
        }
        assert_eq!(prepared.documents(&split), loaded.documents(&split));
        assert_eq!(prepared.tokens(&split), loaded.tokens(&split));
    }
    for (split, id, samples) in [("train", u64::MAX, loaded.len("train")), ("nowhere", 0, 0)] {
        let error = prepared.sample(split, SampleId(id)).unwrap_err().to_string();
        assert_eq!(error, loaded.sample(split, SampleId(id)).unwrap_err().to_string());
        assert!(error.contains(&format!("it has {samples} samples")), "{error}");
    }
}

/// The hash of every file in a folder.
fn contents(folder: &Path) -> BTreeMap<String, Fingerprint> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().to_string_lossy().into_owned(), Fingerprint::of(&fs::read(entry.path()).unwrap()))
    };
    fs::read_dir(folder).unwrap().map(entry).collect()
}

#[test]
fn a_prepared_dataset_is_the_one_in_memory() {
    let folder = source(&FILES);
    let below = TempDir::new().unwrap();
    let at = DatasetConfig { held_out: 0.2, ..DatasetConfig::at(folder.path()) };
    for config in [
        at.clone(),
        DatasetConfig { max_documents: Some(165), ..at.clone() },
        DatasetConfig { held_out_validation: 0.3, on_bad_text: OnBadText::Replace, ..at.clone() },
        DatasetConfig { path: folder.path().join("a.jsonl"), ..at },
    ] {
        let prepared = prepare(&config, below.path()).unwrap();
        assert_same(&prepared, &config);
        assert!(prepared.parts() > 3, "{} parts are too few for a test", prepared.parts());
        let opened = Preparation::new(&config, &BYTES, MAX_LENGTH, below.path()).unwrap().open().unwrap().unwrap();
        assert_same(&opened, &config);
    }
    assert_eq!(fs::read_dir(below.path()).unwrap().count(), 4, "each setting has its own folder");
}

#[test]
fn named_splits_and_marks_are_kept() {
    let folder = TempDir::new().unwrap();
    let splits = ["zoo", "train", "test", "validation"];
    let corpus: Vec<_> = (0..300).map(|i| (text(i, 200), splits[i as usize % 4])).collect();
    write_corpus(&folder.path().join("texts.parquet"), &corpus).unwrap();
    let config = DatasetConfig { split_column: Some("split".into()), ..DatasetConfig::at(folder.path()) };
    assert_same(&prepare(&config, folder.path().join("below").as_path()).unwrap(), &config);

    let folder = TempDir::new().unwrap();
    let row = |i: u64| {
        let ids: Vec<u32> = text(i, 200).bytes().map(u32::from).collect();
        let mask: Vec<bool> = ids.iter().map(|id| id % 3 == 0).collect();
        serde_json::json!({ "ids": ids, "mask": mask }).to_string() + "\n"
    };
    fs::write(folder.path().join("rows.jsonl"), (0..200).map(row).collect::<String>()).unwrap();
    let (tokens_column, mask_column) = (Some("ids".into()), Some("mask".into()));
    let config = DatasetConfig { tokens_column, mask_column, ..DatasetConfig::at(folder.path()) };
    let below = TempDir::new().unwrap();
    let prepared = prepare(&config, below.path()).unwrap();
    assert!(prepared.marks_positions());
    assert_same(&prepared, &config);
}

#[test]
fn child_process() {
    let Ok(case) = std::env::var(CASE) else { return };
    let [source, below, parts] = case.split('|').collect::<Vec<_>>().try_into().unwrap();
    let (config, left) = (DatasetConfig::at(Path::new(source)), Cell::new(parts.parse::<u64>().unwrap()));
    let made = |made: &PartMade<'_>| {
        // Where the other process can be seen to make other parts.
        writeln!(io::stdout(), "made {}", made.name).unwrap();
        left.set(left.get() - 1);
        if left.get() == 0 {
            std::process::abort();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    Preparation::new(&config, &BYTES, MAX_LENGTH, Path::new(below)).unwrap().run(&made).unwrap();
}

fn child(source: &Path, below: &Path, parts: u64) -> Child {
    let case = format!("{}|{}|{parts}", source.display(), below.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["prepared::tests::child_process", "--exact", "--nocapture"]).env(CASE, case);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The parts that a child process made, and whether it came to its end.
fn ended(child: Child) -> (BTreeSet<String>, bool) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (said.lines().filter_map(|line| line.strip_prefix("made ").map(str::to_owned)).collect(), output.status.success())
}

#[test]
fn a_killed_preparation_goes_on_where_it_stopped_and_gives_the_same_bytes() {
    let folder = source(&FILES);
    let config = DatasetConfig::at(folder.path());
    let [whole, killed] = [(); 2].map(|()| TempDir::new().unwrap());
    let expected = prepare(&config, whole.path()).unwrap();
    let mut made = BTreeSet::new();
    for parts in [1, 2, 3] {
        let (before_end, is_done) = ended(child(folder.path(), killed.path(), parts));
        assert!(
            !is_done && before_end.len() as u64 == parts && made.is_disjoint(&before_end),
            "{made:?} {before_end:?}"
        );
        made.extend(before_end);
    }
    let preparation = Preparation::new(&config, &BYTES, MAX_LENGTH, killed.path()).unwrap();
    assert!(preparation.open().unwrap().is_none());
    // What a process leaves that is killed while it writes.
    fs::write(preparation.folder().join(".tmp-1a2b"), "half").unwrap();
    fs::write(preparation.folder().join(format!("{}.tokens", part_name(1, 4))), "half").unwrap();
    let last = RefCell::new(BTreeSet::new());
    let resumed = preparation.run(&|made| _ = last.borrow_mut().insert(made.name.to_owned())).unwrap();
    assert!(made.is_disjoint(&last.borrow()));
    assert_eq!(made.len() + last.borrow().len(), expected.parts());
    assert_eq!(resumed.fingerprint(), expected.fingerprint());
    assert_eq!(contents(resumed.folder()), contents(expected.folder()));
}

#[test]
fn progress_counts_the_bytes_of_the_source_files() {
    let folder = source(&FILES);
    let config = DatasetConfig::at(folder.path());
    let below = TempDir::new().unwrap();
    let preparation = Preparation::new(&config, &BYTES, MAX_LENGTH, below.path()).unwrap();
    let all = preparation.source_bytes();
    let seen: RefCell<Vec<[u64; 2]>> = RefCell::default();
    let prepared = preparation.run(&|made| seen.borrow_mut().push([made.bytes_read, made.bytes_left])).unwrap();
    let seen = seen.into_inner();
    assert_eq!(seen.len(), prepared.parts());
    assert!(seen.iter().all(|[read, left]| read + left == all && *read > 0), "{seen:?}, {all} bytes");
    assert!(seen.is_sorted() && seen.last() == Some(&[all, 0]) && seen[0][1] > 0, "{seen:?}, {all} bytes");

    // What exists already is neither read nor left.
    fs::remove_file(prepared.folder().join(MANIFEST)).unwrap();
    fs::remove_file(prepared.folder().join(format!("{}.json", part_name(1, 0)))).unwrap();
    fs::remove_file(prepared.folder().join("files-00001.json")).unwrap();
    let left = RefCell::new(vec![]);
    preparation.run(&|made| left.borrow_mut().push((made.name.to_owned(), made.bytes_read < all))).unwrap();
    assert_eq!(left.into_inner(), [(part_name(1, 0), true)]);
}

#[test]
fn two_processes_share_the_parts() {
    let folder = source(&[("a.jsonl", 600), ("b.jsonl", 300)]);
    let [alone, shared] = [(); 2].map(|()| TempDir::new().unwrap());
    let expected = prepare(&DatasetConfig::at(folder.path()), alone.path()).unwrap();
    let children = [(); 2].map(|()| child(folder.path(), shared.path(), u64::MAX));
    let [(first, first_done), (second, second_done)] = children.map(ended);
    assert!(first_done && second_done);
    assert!(first.is_disjoint(&second), "{:?}", first.intersection(&second));
    assert_eq!(first.len() + second.len(), expected.parts());
    assert!(!first.is_empty() && !second.is_empty(), "{first:?} {second:?}");
    let name = expected.folder().file_name().unwrap();
    assert_eq!(contents(&shared.path().join(name)), contents(expected.folder()));
}

#[test]
fn a_damaged_part_is_refused_by_its_file_and_made_again() {
    let folder = source(&FILES);
    let config = DatasetConfig::at(folder.path());
    let below = TempDir::new().unwrap();
    let preparation = Preparation::new(&config, &BYTES, MAX_LENGTH, below.path()).unwrap();
    let expected = contents(preparation.run(&|_| {}).unwrap().folder());
    assert_eq!(preparation.repair(&|_| {}).unwrap(), 0);
    let (first, manifest) = (part_name(0, 0), preparation.folder().join(MANIFEST));
    for ending in ["tokens", "index"] {
        let path = file(preparation.folder(), &first, ending);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for bytes in [Some(&changed[..]), Some(&whole[1..]), None] {
            match bytes {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let dataset = preparation.open().unwrap().unwrap();
            let error = dataset.sample("train", SampleId(0)).unwrap_err();
            assert!(std::error::Error::source(&error).is_none(), "a caller would say it twice: {error}");
            let error = error.to_string();
            let expected_start = format!("{}: this part of the prepared dataset ", path.display());
            assert!(
                error.starts_with(&expected_start) && error.contains("`logitcask prepare RECIPE` makes"),
                "{error}"
            );
            assert_eq!(preparation.repair(&|made| assert_eq!(made.name, first)).unwrap(), 1);
            assert_eq!(contents(preparation.folder()), expected);
        }
    }
    fs::write(&manifest, "{").unwrap();
    let error = preparation.open().unwrap_err().to_string();
    assert!(error.contains("dataset.json: this part") && error.contains("no valid JSON"), "{error}");
}

#[test]
fn sources_that_cannot_be_prepared_are_refused() {
    let folder = source(&FILES);
    let config = DatasetConfig::at(folder.path());
    // Nothing can be created below a file, as on a disk that is full or read-only.
    let taken = folder.path().join("a.jsonl");
    let error = prepare(&config, &taken).unwrap_err().to_string();
    assert!(error.contains("the prepared dataset cannot be written: ") && error.contains("as much room"), "{error}");
    let below = TempDir::new().unwrap();
    let more = |_: &PartMade<'_>| fs::write(folder.path().join("e.jsonl"), "{\"text\": \"another\"}").unwrap();
    let preparation = Preparation::new(&config, &BYTES, MAX_LENGTH, below.path()).unwrap();
    let error = preparation.run(&more).unwrap_err().to_string();
    assert!(error.contains("e.jsonl: changed while the dataset was prepared; run the command again"), "{error}");
    let left = contents(preparation.folder());
    assert!(!left.keys().any(|name| name.starts_with("part-00001") || name == "files-00001.json"), "{left:?}");
    assert_same(&prepare(&config, below.path()).unwrap(), &config);

    fs::write(folder.path().join("d.jsonl"), "{\"text\": 1}").unwrap();
    let error = prepare(&config, below.path()).unwrap_err().to_string();
    assert!(error.contains("d.jsonl: line 1: field `text` is a number"), "{error}");
    let short = DatasetConfig { path: folder.path().join("e.jsonl"), ..config };
    let error = Preparation::new(&short, &BYTES, 1, below.path()).map(drop).unwrap_err().to_string();
    assert_eq!(error, "`max_length` is 1, expected at least 2 tokens");

    let named = source(&[("train.jsonl", 20), ("test.jsonl", 0)]);
    let config = DatasetConfig::at(named.path());
    assert!(TextDataset::load(&config, &BYTES, MAX_LENGTH).is_ok());
    let error = prepare(&config, below.path()).unwrap_err().to_string();
    assert!(error.contains("only its files of the split `train` hold texts; remove the files"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_before_it_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = prepare(&DatasetConfig::at(&path), folder.path()).unwrap_err().to_string();
    assert!(error.contains("pipe.jsonl: is no regular file") && error.contains("write it to a file first"), "{error}");
}

#[test]
fn a_dataset_without_a_part_leaves_no_folder() {
    for (lines, expected) in [("", "holds no texts"), ("{\"text\": 5}\n", "line 1")] {
        let (folder, below) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = folder.path().join("a.jsonl");
        fs::write(&path, lines).unwrap();
        let error = prepare(&DatasetConfig::at(&path), below.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_dir(below.path()).unwrap().count(), 0, "{error}");
    }
}
