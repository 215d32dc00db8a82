#![doc = include_str!("../FORMAT.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod card;
pub mod claim;
mod codec;
pub mod commit;
pub mod companions;
mod convert;
mod differences;
pub mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod json;
pub mod manifest;
pub mod measured;
pub mod order;
mod pack;
mod pages;
pub mod pins;
pub mod plan;
mod publish;
pub mod reader;
pub mod repair;
mod row_group;
pub mod schema;
mod shard;
pub mod storage;
pub mod verify;
mod version;
pub mod writer;

#[cfg(test)]
mod tests;

pub use claim::{Claim, Claimed};
pub use commit::Commit;
pub use companions::Companion;
pub use convert::{convert, shard_bytes};
pub use error::{Error, Result};
pub use manifest::{MANIFEST_NAME, Manifest, Totals};
pub use measured::{CodecError, LogZError};
pub use order::Samples;
pub use pins::{AddedToken, ArtifactRef, CODEC_VERSION, REFUSE_SPECIAL_TOKENS, Versions};
pub use plan::{COMMITS_DIR, DATA_DIR, Layout, PLAN_NAME, Plan, TOKENIZER_NAME, WorkUnit};
pub use reader::CacheReader;
pub use repair::Repair;
pub use row_group::CachedSample;
pub use storage::Storage;
pub use verify::{Finding, Report, Tier, verify};
pub use version::FORMAT_VERSION;
pub use writer::CacheWriter;
