#![doc = include_str!("../FORMAT.md")]
//!
//! # Examples
//! One sample is written, the cache is verified, and the sample is read back:
//! ```
//! use logitcask_cache::{
//!     ArtifactRef, CacheReader, CacheWriter, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Tier, Versions, verify,
//! };
//! use logitcask_core::select::select_reference;
//! use logitcask_core::{
//!     Fingerprint, LogProbPrecision, Origin, PositionChoice, RowErrors, RowSource, Sample, SampleId, Selection, SoftRows,
//!     TailRule, Truncation,
//! };
//!
//! let tokenizer = b"the bytes of a tokenizer.json";
//! let pin = |name: &str, bytes: &[u8]| ArtifactRef { name: name.to_owned(), fingerprint: Fingerprint::of(bytes) };
//! let plan = Plan {
//!     format_version: FORMAT_VERSION,
//!     code_version: String::new(),
//!     versions: Versions::FIRST,
//!     layout: Layout::Plain,
//!     vocab_size: 8,
//!     max_length: 4,
//!     precision: "f32".to_owned(),
//!     batch_tokens: 4,
//!     positions: PositionChoice::All {},
//!     extras: Vec::new(),
//!     keep: Truncation {
//!         selection: Selection::TopK { k: 3 },
//!         always_keep: Vec::new(),
//!         values: LogProbPrecision::F16 {},
//!         tail: Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 }),
//!         padding: 0,
//!         source: RowSource::FULL,
//!     },
//!     teacher: pin("a teacher", b"its weights"),
//!     tokenizer: pin("tokenizer.json", tokenizer),
//!     added_tokens: Vec::new(),
//!     special_tokens: REFUSE_SPECIAL_TOKENS.to_owned(),
//!     conversations: Default::default(),
//!     bos: None,
//!     end: None,
//!     dataset: pin("a corpus", b"its samples"),
//!     companions: Vec::new(),
//!     splits: Plan::splits_of(&[("train".to_owned(), 1)]),
//!     samples_per_unit: 100,
//! };
//!
//! let sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, vec![1, 5, 2]);
//! let (mut rows, mut errors) = (SoftRows::new(&plan.keep), RowErrors::new(&plan.keep));
//! for &label in sample.labels().iter() {
//!     let logits = [0.5, 2.0, 1.0, -1.0, 0.0, 3.0, -2.0, 1.5];
//!     select_reference(&logits, label, &plan.keep, 0.0, &mut rows, &mut errors);
//! }
//!
//! let temporary = tempfile::tempdir()?;
//! let folder = temporary.path().join("cache");
//! let writer = CacheWriter::open(&folder, plan, tokenizer)?;
//! writer.write_unit(0, &[(sample, rows)], &errors)?;
//! writer.finish()?;
//!
//! assert!(verify(&folder, Tier::Rows, &mut |_, _| {})?.is_whole());
//! let cached = CacheReader::open(&folder)?.get("train", SampleId(0))?;
//! assert_eq!(cached.sample.input_ids, [1, 5, 2]);
//! assert_eq!(cached.rows.iter().next().map(|row| row.best()), Some(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod card;
pub mod claim;
mod codec;
mod column_chunk;
pub mod commit;
pub mod companions;
mod convert;
mod differences;
pub mod error;
pub mod error_stats;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod json;
pub mod manifest;
mod names;
pub mod order;
mod pack;
pub mod pins;
pub mod plan;
mod publish;
mod ranges;
pub mod reader;
mod recent;
pub mod repair;
mod row_group;
mod row_problem;
pub mod schema;
mod shard;
pub mod shard_part;
pub mod storage;
pub mod store;
pub mod verify;
mod version;
pub mod writer;

#[cfg(test)]
mod tests;

pub use claim::Claimed;
pub use column_chunk::ColumnError;
pub use commit::Commit;
pub use companions::Companion;
pub use convert::{convert, shard_bytes};
pub use error::{Error, REBUILD, Result};
pub use error_stats::{CodecError, LogZError};
pub use json::MAX_JSON_BYTES;
pub use manifest::{Manifest, ManifestPart, Totals};
pub use names::{COMMITS_DIR, DATA_DIR, MANIFEST_NAME, PARTS_DIR, PLAN_NAME, TOKENIZER_NAME};
pub use order::Samples;
pub use pack::PackError;
pub use pins::{AddedToken, ArtifactRef, CODEC_VERSION, REFUSE_SPECIAL_TOKENS, Versions};
pub use plan::{Layout, Plan, Split, WorkUnit};
pub use ranges::ShardRange;
pub use reader::CacheReader;
pub use repair::Repair;
pub use row_group::CachedSample;
pub use row_problem::RowProblem;
pub use shard_part::ShardPart;
pub use storage::Storage;
pub use store::{Claim, LocalStore, ObjectMeta, Store};
pub use verify::{Finding, Report, Tier, verify, verify_in};
pub use version::FORMAT_VERSION;
pub use writer::CacheWriter;
