#![doc = include_str!("../FORMAT.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod codec;
pub mod commit;
pub mod error;
mod json;
pub mod manifest;
mod map;
pub mod order;
pub mod plan;
mod publish;
pub mod reader;
pub mod schema;
mod shard;
pub mod writer;

#[cfg(test)]
mod tests;

pub use commit::Commit;
pub use error::{Error, Result};
pub use manifest::{MANIFEST_NAME, Manifest, Totals};
pub use order::Samples;
pub use plan::{COMMITS_DIR, DATA_DIR, FORMAT_VERSION, Layout, PLAN_NAME, Pin, Plan, TOKENIZER_NAME, Unit};
pub use reader::{CacheReader, CachedSample};
pub use writer::CacheWriter;
