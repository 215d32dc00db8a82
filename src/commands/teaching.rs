//! What a student is trained on: the recipe's own cache or dataset, and the caches that are mixed in.

use super::cache::{damaged, owner};
use super::inheritance::Inheritance;
use crate::caches;
use crate::experiment::companions_of_students;
use crate::output::note;
use crate::pins::{self, Comparison};
use crate::recipe::{MixedCache, Recipe};
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::{ArtifactRef, CacheReader, Error, Plan};
use logitcask_core::{Fingerprint, PositionChoice, TailSource, Truncation};
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::Companions;
use logitcask_train::{Source, WeightedSource};
use std::collections::BTreeMap;
use std::path::Path;

/// The source of the samples, and what the student inherits from it.
pub(super) struct Teaching {
    pub source: Source,
    /// Further caches that are mixed in.
    pub other_sources: Vec<WeightedSource>,
    pub inheritance: Inheritance,
    /// Id of the cache, or fingerprint of the dataset.
    pub data: String,
    /// Teacher, dataset and tokenizer of the cache, for the run's record.
    pub made_from: Vec<String>,
    pub cache: Option<CacheReader>,
}

impl Teaching {
    /// The shares of the samples that come from each cache, if there are several.
    pub fn describe_mixture(&self) -> Option<String> {
        let own = self.cache.as_ref().filter(|_| !self.other_sources.is_empty())?;
        let all = 1.0 + self.other_sources.iter().map(|one| one.weight).sum::<f64>();
        let others = self.other_sources.iter().filter_map(|one| Some((one.source.cache()?, one.weight)));
        let share = |(cache, weight): (&CacheReader, f64)| {
            format!("{:.1} % from {}", 100.0 * weight / all, cache.folder().display())
        };
        Some(format!("samples: {}", [(own, 1.0)].into_iter().chain(others).map(share).collect::<Vec<_>>().join(", ")))
    }
}

/// Opens the source of the recipe at `path`.
pub(super) fn open_teaching(recipe: &Recipe, path: &Path) -> Result<Teaching> {
    if let Some(config) = &recipe.tokenizer {
        let tokenizer = crate::tokenizers::of_file(config)?;
        let folder = recipe.cache_folder(path);
        let (dataset, notes) = crate::datasets::open(recipe.texts()?, &tokenizer, recipe.cache.max_length, &folder)?;
        notes.iter().for_each(|text| note!("{text}"));
        let companions = Companions::from_folder(config.path.parent().unwrap_or(Path::new(".")))?;
        let companions = companions_of_students(companions, recipe)?;
        return Ok(Teaching {
            data: dataset.fingerprint().to_string(),
            inheritance: Inheritance {
                chat_template: chat_template(&dataset.rendering(), &companions, &tokenizer),
                vocab_size: tokenizer.vocab_size() as usize,
                max_length: recipe.cache.max_length,
                companions,
                padding: None,
                tokenizer,
            },
            source: Source::Labels(dataset),
            other_sources: Vec::new(),
            made_from: Vec::new(),
            cache: None,
        });
    }
    let folder = recipe.cache_folder(path);
    let cache = open_cache(recipe, &folder, path)?;
    let plan = cache.plan();
    let made_from = is_of(recipe, path, &cache)?;
    let source = match recipe.loss.second_teacher.as_ref().filter(|_| recipe.loss.needs_teacher()) {
        None => Source::Cache(cache.clone()),
        Some(second) => {
            let second = caches::open_whole(&second.cache).context("[loss] second_teacher: cannot open its cache")?;
            Source::both(cache.clone(), second)?
        }
    };
    let other_sources = mixed(recipe, &cache)?;
    let windows = other_sources.iter().filter_map(|one| one.source.cache()).map(|cache| cache.plan().max_length);
    let tokenizer = crate::tokenizers::of_cache(&cache)?;
    let companions = Companions::from_files(cache.folder(), cache.companions()?)?;
    Ok(Teaching {
        data: name_of(&source, &other_sources),
        inheritance: Inheritance {
            chat_template: chat_template(&plan.conversations, &companions, &tokenizer),
            tokenizer,
            companions,
            vocab_size: plan.vocab_size as usize,
            padding: Some(plan.keep.padding as usize),
            max_length: windows.fold(plan.max_length, u32::max) as usize,
        },
        source,
        other_sources,
        made_from,
        cache: Some(cache),
    })
}

/// The template with which conversations were written as text, by the hash that `rendering` has of it.
fn chat_template(
    rendering: &BTreeMap<String, String>,
    companions: &Companions,
    tokenizer: &TextTokenizer,
) -> Option<String> {
    let hash = rendering.get("template")?;
    let own = companions.chat_template().into_iter().chain(tokenizer.chat_files().default_template());
    own.map(str::to_owned).find(|template| Fingerprint::of(template.as_bytes()).to_string() == *hash)
}

/// The caches of `[[data]]`.
fn mixed(recipe: &Recipe, first: &CacheReader) -> Result<Vec<WeightedSource>> {
    let open = |data: &MixedCache| {
        let cache = caches::open_whole(&data.cache).with_context(|| format!("[[data]] {}", data.cache.display()))?;
        if !cache.splits().contains(&"train") {
            bail!(
                "[[data]] {}: it has no split `train`; its splits are {}",
                data.cache.display(),
                cache.splits().join(", ")
            );
        }
        Ok(WeightedSource::mixed_with(first, cache, data.weight)?)
    };
    recipe.data.iter().map(open).collect()
}

/// Identifies the samples, the rows and how they are mixed.
fn name_of(source: &Source, other_sources: &[WeightedSource]) -> String {
    let other = |one: &WeightedSource| format!(" and {} x {}", one.source.name(), one.weight);
    source.name() + &other_sources.iter().map(other).collect::<String>()
}

/// The recipe's cache, after a check that all its shards exist.
fn open_cache(recipe: &Recipe, folder: &Path, path: &Path) -> Result<CacheReader> {
    match caches::open_whole(folder) {
        Ok(cache) => Ok(cache),
        Err(error @ (Error::NotACache { .. } | Error::Unfinished { .. } | Error::Version { .. })) => {
            let how = match recipe.dataset {
                Some(_) => format!("`logitcask cache {}` makes it", path.display()),
                None => "the command that began it finishes it if it is called again".to_owned(),
            };
            Err(anyhow!("no cache to train from ({error}); {how}"))
        }
        Err(error) => Err(damaged(recipe, path, error)),
    }
}

/// Refuses a cache that was not made from this recipe; returns its teacher, dataset and tokenizer for the run's record.
fn is_of(recipe: &Recipe, path: &Path, cache: &CacheReader) -> Result<Vec<String>> {
    let plan = cache.plan();
    let (folder, path_shown) = (cache.folder().display(), path.display());
    let stale = || match owner(recipe, cache.folder(), path) {
        Some(owner) => format!("{folder} was made from {owner} (name another folder with [cache] path)"),
        None if recipe.dataset.is_none() => format!("{folder} is not the cache that the recipe describes"),
        None => format!("{folder} is stale (`logitcask cache {path_shown} --replace` makes a new one)"),
    };
    agrees(recipe, plan).with_context(stale)?;
    let Comparison { differences, unseen } = pins::compare(recipe, path, cache)?;
    if !differences.is_empty() {
        return Err(anyhow!("the cache is of another recipe ({})", differences.join("; ")).context(stale()));
    }
    if !unseen.is_empty() {
        let (what, are) = (unseen.join(" and "), if unseen.len() > 1 { "are" } else { "is" });
        note!("{folder}: the recipe's {what} {are} missing and could not be compared with those of the cache");
    }
    let pin = |what: &str, pin: &ArtifactRef| format!("{what}: {} ({})", pin.name, pin.fingerprint);
    Ok(vec![pin("teacher", &plan.teacher), pin("dataset", &plan.dataset), pin("tokenizer", &plan.tokenizer)])
}

/// Refuses a cache whose settings differ from the recipe's.
fn agrees(recipe: &Recipe, plan: &Plan) -> Result<()> {
    // A recipe sets neither the number of atoms, which calibration chose, nor the padding of the teacher's head.
    let keep = recipe.cache.keep(plan.keep.atoms() as u32);
    // Nor does it say what the source of the rows could tell: a loss that needs more is refused by itself.
    let tail = keep.tail.filter(|_| plan.keep.source.tail == TailSource::Atoms);
    let keep = Truncation { padding: plan.keep.padding, source: plan.keep.source, tail, ..keep };
    // The dataset decides between all and marked positions, and its fingerprint is compared.
    let of_dataset =
        if matches!(plan.positions, PositionChoice::Share { .. }) { PositionChoice::All {} } else { plan.positions };
    // The length of the teacher's hidden states, which a recipe does not say.
    let whole = plan.extras.iter().find(|extra| extra.from.size(0) == 0);
    let hidden_size = whole.map_or(0, |extra| extra.size as usize);
    let wanted = Plan {
        positions: recipe.cache.positions.unwrap_or(of_dataset),
        layout: recipe.cache.layout,
        max_length: u32::try_from(recipe.cache.max_length)?,
        special_tokens: match &recipe.dataset {
            Some(dataset) => dataset.special_tokens.name().to_owned(),
            None => plan.special_tokens.clone(),
        },
        keep,
        extras: recipe.cache.extras(hidden_size),
        ..plan.clone()
    };
    let differences = plan.differences(&wanted);
    if differences.is_empty() {
        return Ok(());
    }
    let windows = match wanted.max_length == plan.max_length {
        true => "",
        false => {
            ": with other windows a token has another context than the teacher saw (to train on only the first tokens \
             of each window, set [train] max_length)"
        }
    };
    bail!("the cache is of another recipe ({}){windows}", differences.join("; "))
}
