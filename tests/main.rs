//! Integration tests in one binary, to link burn only once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod answers;
mod assets;
mod batches;
mod chats;
mod checked_first;
mod cli;
mod content;
mod corpora;
mod crash;
mod examples;
mod extras;
mod families;
mod fixture;
mod golden;
mod golden_rows;
#[cfg(unix)]
mod gpu_check;
mod hidden_states;
mod identity;
mod imported_caches;
mod imports;
mod logging;
mod losses;
mod methods;
mod mixture;
mod model_files;
mod parity;
mod pieces;
mod pipeline;
mod precision;
mod recipe_keys;
mod recipes;
mod refusals;
mod relations;
mod repair;
mod resume;
mod rules;
mod runs;
mod server;
mod skips;
mod sources;
mod students;
mod tidy;
mod weights;
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(not(feature = "wgpu"))]
mod without_wgpu;
