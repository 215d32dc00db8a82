//! `logitcask prepare`.

use super::fit;
use crate::answers;
use crate::args::PrepareArgs;
use crate::datasets;
use crate::output::{counted, note, say};
use crate::recipe_file;
use crate::recipe_teacher::RecipeTeacher;
use crate::tokenizers;
use anyhow::Result;
use logitcask_data::{Dataset, Preparation};

/// Tokenises a recipe's dataset to disk, or makes the damaged parts of a prepared one again.
pub fn run(args: &PrepareArgs) -> Result<()> {
    let recipe = recipe_file::read(&args.recipe)?;
    let tokenizer = match (&recipe.teacher, &recipe.tokenizer) {
        (_, Some(config)) => tokenizers::of_file(config)?,
        // Its texts can be prepared without the server.
        (Some(teacher), None) if teacher.server.is_some() => tokenizers::of_teacher(teacher)?,
        (_, None) => {
            let teacher = RecipeTeacher::open(&recipe, &args.recipe)?;
            // `cache` would refuse the recipe; its texts can be prepared all the same.
            fit::check(&recipe, &args.recipe, &teacher).unwrap_or_else(|problem| note!("{problem:#}"));
            teacher.tokenizer
        }
    };
    let folder = datasets::folder(&recipe.cache_folder(&args.recipe));
    let config = answers::dataset(recipe.texts()?)?;
    let preparation = Preparation::new(&config, &tokenizer, recipe.cache.max_length, &folder)?;
    let again = preparation.repair(&datasets::report())?;
    if again > 0 {
        note!("{} made again that had been damaged", counted(again as u64, "parts"));
    }
    let dataset = match preparation.open()? {
        Some(dataset) => dataset,
        None => datasets::prepare(&preparation)?,
    };
    dataset.notes().iter().for_each(|text| note!("{text}"));
    let parts = counted(dataset.parts() as u64, "parts");
    say!("{}: fingerprint {}, {parts}", dataset.folder().display(), dataset.fingerprint().short());
    for (split, samples) in dataset.splits() {
        say!(
            "{split}: {} of up to {} tokens, from {} of {}",
            counted(samples, "samples"),
            dataset.max_length(),
            counted(dataset.documents(&split), "documents"),
            counted(dataset.tokens(&split), "tokens")
        );
    }
    Ok(())
}
