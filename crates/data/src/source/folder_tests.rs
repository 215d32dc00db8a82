use super::*;
use crate::Dataset;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

/// A folder of JSON Lines files, each with so many texts of its own.
fn folder(files: &[(&str, usize)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, count) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: Vec<_> =
            (0..*count).map(|i| format!("{{\"text\": \"{name} {i}\", \"split\": \"train\"}}")).collect();
        fs::write(path, lines.join("\n")).unwrap();
    }
    folder
}

fn splits(corpus: &Corpus) -> BTreeMap<Option<&str>, usize> {
    let mut splits = BTreeMap::new();
    for document in &corpus.documents {
        *splits.entry(document.split.as_deref()).or_default() += 1;
    }
    splits
}

fn read(path: &Path) -> Result<Corpus> {
    read_documents(&DatasetConfig::at(path))
}

fn refused(path: &Path) -> String {
    read(path).unwrap_err().to_string()
}

const HUB: [(&str, usize); 4] = [
    ("data/test-00000-of-00001.jsonl", 2),
    ("data/train-00000-of-00002.jsonl", 3),
    ("data/train-00001-of-00002.jsonl", 4),
    ("data/validation-00000-of-00001.jsonl", 1),
];
const CARD: &str = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n---\n# A set\n";

#[test]
fn files_name_their_splits() {
    let folder = folder(&HUB);
    let expected = BTreeMap::from([(Some("train"), 7), (Some("validation"), 1), (Some("test"), 2)]);
    for path in [folder.path().to_owned(), folder.path().join("data")] {
        let corpus = read(&path).unwrap();
        assert_eq!((splits(&corpus), corpus.splits), (expected.clone(), SplitsFrom::Files));
        assert_eq!(corpus.documents[2].content.text().unwrap(), "data/train-00000-of-00002.jsonl 0", "in byte order");
        let (file, document) = corpus.place(4).unwrap();
        assert!(file.ends_with("train-00000-of-00002.jsonl") && document == 2);
    }
    // A limit holds for each split: the first three files are not all there is to see.
    let limited =
        read_documents(&DatasetConfig { max_documents: Some(2), ..DatasetConfig::at(folder.path()) }).unwrap();
    let expected = BTreeMap::from([(Some("train"), 2), (Some("validation"), 1), (Some("test"), 2)]);
    assert_eq!(splits(&limited), expected);
    // One file that is named is that file, whatever it is called.
    let one = read(&folder.path().join("data/test-00000-of-00001.jsonl")).unwrap();
    assert_eq!((splits(&one), one.splits), (BTreeMap::from([(None, 2)]), SplitsFrom::Hash));
}

#[test]
fn a_card_names_splits_and_leaves_files_out_with_a_word() {
    let folder = folder(&HUB);
    let card = folder.path().join("README.md");
    fs::write(&card, CARD).unwrap();
    let corpus = read(folder.path()).unwrap();
    assert_eq!(splits(&corpus), BTreeMap::from([(Some("train"), 7), (Some("test"), 2)]));
    let expected = "1 files that its README.md does not name are not read: data/validation-00000-of-00001.jsonl";
    assert_eq!(corpus.notes, [format!("{}: {expected}", folder.path().display())]);
    let files = source_files(&DatasetConfig::at(folder.path())).unwrap();
    assert_eq!(files.len(), 4);
    assert_eq!(files.last().unwrap(), &card);

    fs::write(&card, CARD.replace("data/train-*", "data/t*-*")).unwrap();
    let error = refused(folder.path());
    assert!(
        error.ends_with("its `configs` put data/test-00000-of-00001.jsonl into the splits test and train"),
        "{error}"
    );
    fs::write(&card, CARD.replace("data/train-*", "data/tr.jsonl")).unwrap();
    let error = refused(folder.path());
    assert!(
        error.contains("README.md: its `configs` name `data/tr.jsonl` for the split `train`, and no file there"),
        "{error}"
    );
    fs::write(&card, CARD.replace("---\n#", "- config_name: b\n  data_files: b.jsonl\n---\n#")).unwrap();
    assert!(refused(folder.path()).contains("are 2 subsets (default: data/train-*, b: b.jsonl); set `path`"));
    fs::write(&card, "# No head\n").unwrap();
    assert_eq!(source_files(&DatasetConfig::at(folder.path())).unwrap().len(), 4, "names decide, the card has no part");
    assert_eq!(splits(&read(folder.path()).unwrap()).len(), 3);
}

#[test]
fn a_file_that_names_no_split_beside_one_that_does_is_refused() {
    let folder = folder(&[("more.jsonl", 1), ("test.jsonl", 1)]);
    let error = refused(folder.path());
    assert!(error.contains("more.jsonl: names no split, while test.jsonl names `test`; rename one"), "{error}");
    let column =
        DatasetConfig { split_column: Some("split".into()), ..DatasetConfig::at(&folder.path().join("more.jsonl")) };
    assert_eq!(splits(&read_documents(&column).unwrap()), BTreeMap::from([(Some("train"), 1)]));
    // A column names the split of every text, but not another one than the file does.
    let column = DatasetConfig { path: folder.path().to_owned(), ..column };
    let error = read_documents(&column).unwrap_err().to_string();
    assert!(
        error.contains("test.jsonl: document 0 (counted from 0) names the split `train`, its file's name `test`"),
        "{error}"
    );
    fs::rename(folder.path().join("test.jsonl"), folder.path().join("train.jsonl")).unwrap();
    let corpus = read_documents(&column).unwrap();
    assert_eq!((splits(&corpus), corpus.splits), (BTreeMap::from([(Some("train"), 2)]), SplitsFrom::Column));
}

#[test]
fn files_called_train_alone_leave_the_choice_of_test_to_the_hash() {
    let folder = folder(&[("train-00000-of-00001.jsonl", 400)]);
    let tokenizer = crate::train_byte_level_bpe(["a".to_owned()].into_iter(), 257).unwrap();
    let load = |path: &Path| {
        let dataset = crate::TextDataset::load(&DatasetConfig::at(path), &tokenizer, 64).unwrap();
        let splits: BTreeSet<_> = dataset.splits().into_iter().map(|(name, _)| name).collect();
        (splits, dataset.fingerprint())
    };
    let (splits, fingerprint) = load(folder.path());
    assert_eq!(splits, BTreeSet::from(["test".to_owned(), "train".to_owned()]));
    // What nothing names is split by the same hash: the file's name is no part of the data.
    let renamed = folder.path().join("texts.jsonl");
    fs::rename(folder.path().join("train-00000-of-00001.jsonl"), &renamed).unwrap();
    assert_eq!(load(folder.path()).1, fingerprint);
    assert_eq!(load(&renamed).1, fingerprint);
    // With a test split of its own it is taken as it is.
    fs::rename(&renamed, folder.path().join("train.jsonl")).unwrap();
    fs::write(folder.path().join("test.jsonl"), "{\"text\": \"one\"}").unwrap();
    let dataset = crate::TextDataset::load(&DatasetConfig::at(folder.path()), &tokenizer, 64).unwrap();
    assert_eq!((dataset.documents("train"), dataset.documents("test")), (400, 1));
}

#[cfg(unix)]
#[test]
fn a_download_that_is_not_whole_is_refused() {
    let folder = folder(&[("train-00000-of-00002.jsonl", 1)]);
    let error = refused(folder.path());
    let expected = "train-00000-of-00002.jsonl: is one of 2 shards, and number 1 is not there; fetch the rest";
    assert!(error.contains(expected), "{error}");
    let link = folder.path().join("train-00001-of-00002.jsonl");
    std::os::unix::fs::symlink("../blobs/not-downloaded", &link).unwrap();
    for path in [folder.path(), &link] {
        let error = refused(path);
        let expected = format!("{}: is a link to ../blobs/not-downloaded, which does not exist", link.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    assert!(refused(folder.path()).contains("folders deep; is it a link to a folder above it?"));
}

#[test]
fn what_cannot_be_read_is_named_and_what_holds_no_texts_passed_over() {
    let folder = folder(&[("a.jsonl", 1), ("more/b.jsonl", 1), (".cache/c.jsonl", 1)]);
    for name in ["README.md", ".gitattributes", "LICENSE", "dataset_infos.json"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    assert_eq!(read(folder.path()).unwrap().documents.len(), 2);
    fs::write(folder.path().join("more/c.jsonl.xz"), "x").unwrap();
    let error = refused(folder.path());
    assert!(error.contains("more/c.jsonl.xz: its name says nothing we can read"), "{error}");
    fs::remove_dir_all(folder.path().join("more")).unwrap();
    fs::remove_file(folder.path().join("a.jsonl")).unwrap();
    assert!(refused(folder.path()).contains("holds no texts"));
}
