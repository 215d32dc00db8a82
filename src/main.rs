//! `logitcask`: run a teacher once, keep its logits, train students from the cache as often as you like.
mod args;
mod caches;
mod commands;
mod experiment;
mod inputs;
mod output;
mod paths;
mod pins;
mod progress;
mod recipe;
mod stop;
mod summary;

use clap::Parser;
use std::process::ExitCode;

/// A step's largest tensors are made anew each time; this one keeps their memory, where the system's maps and clears it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(args::Args::parse()) {
        Ok(()) => output::exit_code(),
        Err(error) => {
            output::note!("error: {error:#}");
            // 130 is what a shell reports for a program ended by Ctrl-C.
            if stop::was_asked() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}
