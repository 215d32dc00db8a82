//! One file per command.

mod cache;
mod completions;
mod estimate;
mod eval;
mod export;
mod generate;
mod generations;
mod inspect;
mod man;
mod measure;
mod repair;
mod run_folder;
mod tokenizer;
mod train;
mod verify;

use crate::args::Command;
use crate::recipe::Recipe;
use anyhow::Result;

/// Does what was asked.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Cache(args) => cache::run(&args),
        Command::Train(args) => {
            let recipe = Recipe::read(&args.recipe)?;
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
        Command::Export(args) => export::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Completions(args) => {
            completions::run(&args);
            Ok(())
        }
        Command::Man(args) => man::run(&args),
        Command::MeasureDevice(args) => measure::run(&args),
    }
}
