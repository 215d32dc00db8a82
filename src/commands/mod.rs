//! One file per command.

mod answer;
mod cache;
mod completions;
mod corpus;
mod damaged_parts;
mod estimate;
mod eval;
mod export;
mod fit;
mod generate;
mod generations;
mod import;
mod inheritance;
mod inspect;
mod man;
mod measure;
mod prepare;
mod repair;
mod run_folder;
mod serve;
mod student;
mod teaching;
mod texts;
mod tokenizer;
mod train;
mod verify;

use crate::args::{Command, ImportFormat};
use crate::devices;
use crate::recipe_file;
use anyhow::Result;
use logitcask_model::DeviceChoice;

/// Runs a command.
pub fn run(command: Command) -> Result<()> {
    device(&command).map_or(Ok(()), devices::check)?;
    match command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Train(args) => {
            let recipe = recipe_file::read(&args.recipe)?;
            match recipe.generations {
                Some(generations) => generations::run(&args, &recipe, generations),
                None => train::run(&args, recipe),
            }
        }
        Command::Eval(args) => eval::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Completions(args) => {
            completions::run(&args);
            Ok(())
        }
        Command::Man(args) => man::run(&args),
        Command::MeasureDevice(args) => measure::run(&args),
    }
}

/// The device that a command may compute on.
fn device(command: &Command) -> Option<DeviceChoice> {
    match command {
        Command::Cache(args) => Some(args.device),
        Command::Train(args) => Some(args.device),
        Command::Eval(args) => Some(args.device),
        Command::Verify(args) => args.live.map(|_| args.device),
        Command::Repair(args) => Some(args.device),
        Command::Estimate(args) => Some(args.device),
        Command::Generate(args) => Some(args.device),
        Command::Serve(args) => Some(args.device),
        Command::MeasureDevice(args) => Some(args.device),
        Command::Import(args) => match &args.format {
            ImportFormat::Hidden(args) => Some(args.device),
            ImportFormat::DistillKit(_)
            | ImportFormat::Nemo(_)
            | ImportFormat::LlamaCpp(_)
            | ImportFormat::Megatron(_) => None,
        },
        Command::Prepare(_)
        | Command::Inspect(_)
        | Command::Export(_)
        | Command::Tokenizer(_)
        | Command::Completions(_)
        | Command::Man(_) => None,
    }
}
