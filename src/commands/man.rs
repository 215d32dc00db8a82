//! `logitcask man`.

use crate::args::{Args, ManArgs};
use crate::output::say;
use anyhow::{Context, Result};
use clap::CommandFactory;

/// Writes a manual page for the program and for each of its commands.
pub fn run(args: &ManArgs) -> Result<()> {
    let folder = args.out.display();
    std::fs::create_dir_all(&args.out).with_context(|| format!("{folder}: cannot create the folder"))?;
    clap_mangen::generate_to(Args::command(), &args.out).with_context(|| format!("{folder}: cannot write a page"))?;
    say!("{folder}");
    Ok(())
}
