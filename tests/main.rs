//! One binary, one module per promise.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod cli;
mod content;
mod crash;
mod fixture;
mod golden;
mod golden_rows;
mod losses;
mod parity;
mod pipeline;
mod repair;
mod resume;
mod tidy;
mod wgpu;
