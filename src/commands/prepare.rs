//! `logitcask prepare`.

use crate::answers;
use crate::args::PrepareArgs;
use crate::datasets;
use crate::models;
use crate::output::{note, say};
use crate::recipe_file;
use crate::tokenizers;
use anyhow::{Result, bail};
use indicatif::HumanCount;
use logitcask_data::{Dataset, Preparation};

/// Tokenises a recipe's dataset to disk, or makes the damaged parts of a prepared one again.
pub fn run(args: &PrepareArgs) -> Result<()> {
    let recipe = recipe_file::read(&args.recipe)?;
    let tokenizer = match (&recipe.teacher, &recipe.tokenizer) {
        (Some(teacher), _) => tokenizers::of_model(&models::open(&teacher.model)?)?,
        (None, Some(config)) => tokenizers::of_file(config)?,
        (None, None) => bail!("{}: name a [teacher] or a [tokenizer]", args.recipe.display()),
    };
    let folder = datasets::folder(&recipe.cache_folder(&args.recipe));
    let config = answers::dataset(&recipe.dataset)?;
    let preparation = Preparation::new(&config, &tokenizer, recipe.cache.max_length, &folder)?;
    let again = preparation.repair(&datasets::report())?;
    if again > 0 {
        note!("{again} damaged parts were made again");
    }
    let dataset = match preparation.open()? {
        Some(dataset) => dataset,
        None => datasets::prepare(&preparation)?,
    };
    dataset.notes().iter().for_each(|text| note!("{text}"));
    let (parts, more) = (dataset.parts(), if dataset.parts() == 1 { "" } else { "s" });
    say!("{}: fingerprint {}, {parts} part{more}", dataset.folder().display(), dataset.fingerprint().short());
    for (split, samples) in dataset.splits() {
        say!(
            "{split}: {} samples of up to {} tokens, from {} documents of {} tokens",
            HumanCount(samples),
            dataset.max_length(),
            HumanCount(dataset.documents(&split)),
            HumanCount(dataset.tokens(&split))
        );
    }
    Ok(())
}
