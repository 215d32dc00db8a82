//! One binary, one module per promise.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod cli;
mod content;
mod corpora;
mod crash;
mod fixture;
mod golden;
mod golden_rows;
mod losses;
mod methods;
mod parity;
mod pieces;
mod pipeline;
mod recipes;
mod refusals;
mod repair;
mod resume;
mod rules;
mod tidy;
mod wgpu;
