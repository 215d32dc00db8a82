//! Interpretation of file names: splits, and shards of which one may be missing.

use super::is_split_name;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Words that name a split, as in Hugging Face's `datasets`.
const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The split named by a path relative to the data's folder. `relative` is written with `/`.
///
/// If the name of a shard, `train_sft-00000-of-00003.parquet`, is a single word that contains one of the words above,
/// the whole word is the split's name; otherwise, any of these words that stands alone in any part of the path names
/// it.
pub(super) fn split(path: &Path, relative: &str) -> Result<Option<String>> {
    let file = relative.rsplit('/').next().unwrap_or(relative);
    if let Some(shard) = Shard::of(file)
        && is_split_name(shard.prefix)
        && !shard.prefix.contains('-')
        && !words(shard.prefix).is_empty()
    {
        return Ok(Some(shard.prefix.to_owned()));
    }
    // The extension is not a word of the name.
    let stem = relative.rsplit_once('.').map_or(relative, |(stem, _)| stem);
    let named: Vec<&str> = words(stem).into_iter().collect();
    match *named.as_slice() {
        [] => Ok(None),
        [split] => Ok(Some(split.to_owned())),
        _ => {
            let problem = format!(
                "its name speaks of the splits {}; rename it, or name the splits of its texts in a `split_column`",
                named.join(" and ")
            );
            Err(Error::Folder { path: path.to_owned(), problem })
        }
    }
}

/// The splits whose words occur in a name, delimited by characters that are not letters.
fn words(name: &str) -> BTreeSet<&'static str> {
    let parts = || name.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
    let is_in = |words: &[&str]| parts().any(|part| words.contains(&part.as_str()));
    WORDS.iter().filter(|(_, words)| is_in(words)).map(|(split, _)| *split).collect()
}

/// A name of the form `PREFIX-00001-of-00002.EXTENSION`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shard<'a> {
    prefix: &'a str,
    count: u64,
    index: u64,
}

impl<'a> Shard<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let (before, after) = file.split_once("-of-")?;
        let digits_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let digits_start = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        let (index, count) = (before.get(digits_start..)?.parse().ok()?, after.get(..digits_end)?.parse().ok()?);
        Some(Self { prefix: before.get(..digits_start)?.trim_end_matches(['-', '.', '_']), count, index })
    }
}

/// Rejects an incomplete set of shards. `relatives` are written with `/`.
pub(super) fn check_shards<'a>(folder: &Path, relatives: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut sets: BTreeMap<(&str, &str, u64), BTreeSet<u64>> = BTreeMap::new();
    let mut example = BTreeMap::new();
    for relative in relatives {
        let (parent, file) = relative.rsplit_once('/').unwrap_or(("", relative));
        if let Some(shard) = Shard::of(file) {
            let set = (parent, shard.prefix, shard.count);
            sets.entry(set).or_default().insert(shard.index);
            example.entry(set).or_insert(relative);
        }
    }
    for (set, indices) in sets {
        // Some writers count from 1.
        let first = u64::from(!indices.contains(&0));
        let mut expected = first..set.2.saturating_add(first);
        if let Some(missing) = expected.find(|index| !indices.contains(index)) {
            let problem = format!(
                "is one of {} shards, and number {missing} is not there; fetch the rest, or name a single file as the `path`",
                set.2
            );
            return Err(Error::Folder { path: folder.join(example[&set]), problem });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_hub() {
        for (name, expected) in [
            ("train-00000-of-00002.parquet", Some("train")),
            ("data/train-00000-of-00002-1d0c5ea1.parquet", Some("train")),
            ("data/test_sft-00000-of-00001.parquet", Some("test_sft")),
            ("en/c4-train.00000-of-01024.jsonl", Some("train")),
            ("c4-validation.00000-of-00008.jsonl", Some("validation")),
            ("part-00000-of-00002.parquet", None),
            ("TEST.jsonl", Some("test")),
            ("valid/a.txt", Some("validation")),
            ("dev.jsonl", Some("validation")),
            ("my_val_2.jsonl", Some("validation")),
            ("eval.jsonl", Some("test")),
            ("evaluation/b.jsonl", Some("test")),
            ("training.set.1.jsonl", Some("train")),
            ("train/train.jsonl", Some("train")),
            ("contest.txt", None),
            ("retrain.jsonl", None),
            ("texts.jsonl", None),
        ] {
            assert_eq!(split(Path::new("f"), name).unwrap().as_deref(), expected, "{name}");
        }
        let error = split(Path::new("d/train/test.jsonl"), "train/test.jsonl").unwrap_err().to_string();
        assert!(
            error.starts_with("d/train/test.jsonl: its name speaks of the splits test and train; rename it"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_shard_is_named() {
        let check = |names: &[&str]| check_shards(Path::new("d"), names.iter().copied());
        check(&["a-00000-of-00002.parquet", "a-00001-of-00002.parquet", "b/a-00000-of-00001.parquet"]).unwrap();
        check(&["a-1-of-2.jsonl", "a-2-of-2.jsonl", "state-of-the-art.txt", "x-of-2.txt"]).unwrap();
        for (names, expected) in [
            (
                &["a-00000-of-00002.parquet"][..],
                "d/a-00000-of-00002.parquet: is one of 2 shards, and number 1 is not there",
            ),
            (&["a-00001-of-00002.parquet"], "number 2 is not there"),
            (
                &["x/a-0-of-3.jsonl", "x/a-2-of-3.jsonl", "y/a-1-of-3.jsonl"],
                "d/x/a-0-of-3.jsonl: is one of 3 shards, and number 1",
            ),
            (&["a-0-of-18446744073709551615.jsonl"], "number 1 is not there"),
        ] {
            let error = check(names).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
