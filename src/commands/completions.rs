//! `logitcask completions`.

use crate::args::{Args, CompletionsArgs};
use crate::output::say;
use clap::CommandFactory;

/// Prints the script that lets a shell complete this program's arguments.
pub fn run(args: &CompletionsArgs) {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
}
