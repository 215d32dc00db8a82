//! What the files of a cache are called.

/// The plan's file name.
pub const PLAN_NAME: &str = "plan.json";
/// Folder of the commits, one file for each unit.
pub const COMMITS_DIR: &str = "_commits";
/// Folder of the shards.
pub const DATA_DIR: &str = "data";
/// A copy of the tokenizer, so that a cache can be read as text and a student be exported from it alone.
pub const TOKENIZER_NAME: &str = "tokenizer.json";
/// The manifest's file name.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The shard of a unit, `number` of the `of` units of its split, relative to the cache's folder.
pub(crate) fn shard_name(split: &str, number: usize, of: usize) -> String {
    format!("{DATA_DIR}/{split}-{number:05}-of-{of:05}.parquet")
}

/// A split's name as dataset hubs take it: they know no `-` there.
pub(crate) fn card_split(split: &str) -> String {
    split.replace('-', "_")
}
