//! What the files of a cache are called.

/// The plan's file name.
pub const PLAN_NAME: &str = "plan.json";
/// Folder of the commits, one file for each unit.
pub const COMMITS_DIR: &str = "_commits";
/// Folder of the shards.
pub const DATA_DIR: &str = "data";
/// A copy of the tokenizer, so that a cache can be read as text and a student be exported from it alone.
pub const TOKENIZER_NAME: &str = "tokenizer.json";
/// The file name of the manifest's root.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Folder of the manifest's parts.
pub const PARTS_DIR: &str = "_manifest";

/// Number of digits of the numbers in a shard's name, if its split has `of` units.
pub(crate) fn digits(of: usize) -> usize {
    of.to_string().len().max(5)
}

/// The shard of a unit, `number` of the `of` units of its split, relative to the cache's folder.
pub(crate) fn shard_name(split: &str, number: usize, of: usize) -> String {
    let digits = digits(of);
    format!("{DATA_DIR}/{split}-{number:0digits$}-of-{of:0digits$}.parquet")
}

/// The number in a file name of the form that `write` gives it, if it is spelled as we spell it.
pub(crate) fn number_in(name: &str, folder: &str, write: impl Fn(usize) -> String) -> Option<usize> {
    let inner = name.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".json")?;
    let number = inner.parse().ok()?;
    (write(number) == name).then_some(number)
}

/// Split, number and count in the name of a shard, if it has the form of one.
pub(crate) fn shard_parts(name: &str) -> Option<(&str, usize, usize)> {
    let inner = name.strip_prefix(DATA_DIR)?.strip_prefix('/')?.strip_suffix(".parquet")?;
    let (inner, of) = inner.rsplit_once("-of-")?;
    let (split, number) = inner.rsplit_once('-')?;
    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
    let is_ours = !split.is_empty() && !split.contains(['/', '\\']) && shard_name(split, number, of) == name;
    is_ours.then_some((split, number, of))
}

/// A split's name as dataset hubs take it: they know no `-` there.
pub(crate) fn card_split(split: &str) -> String {
    split.replace('-', "_")
}
