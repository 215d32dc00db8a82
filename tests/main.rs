//! One binary, one module per promise.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod cli;
mod fixture;
mod golden;
mod parity;
mod pipeline;
mod resume;
mod tidy;
mod wgpu;
