//! `logitcask import`.

use super::mend::mend;
use crate::args::{DistillKitArgs, ImportArgs, ImportFormat, ImportTarget, LlamaCppArgs, MegatronArgs, NamedSource};
use crate::models;
use crate::output::{note, say};
use crate::paths::move_aside;
use crate::progress::Progress;
use crate::stop;
use crate::summary::CacheFigures;
use crate::tokenizers;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::Error::OtherPlan;
use logitcask_cache::companions::pins;
use logitcask_cache::{
    AddedToken, ArtifactRef, CODEC_VERSION, CacheWriter, FORMAT_VERSION, Layout, Manifest, Plan, REFUSE_SPECIAL_TOKENS,
    Versions,
};
use logitcask_core::{Fingerprint, GoldSource, LogProbPrecision, TailSource, Truncation};
use logitcask_data::TextTokenizer;
use logitcask_import::distillkit::{DistillKit, Reading, Settings};
use logitcask_import::llama_cpp::LlamaCpp;
use logitcask_import::megatron::Megatron;
use logitcask_import::nemo::Nemo;
use logitcask_import::{MASS_TOLERANCE, Rules, Source, Split, Tally, dataset_fingerprint, fill, samples_per_unit};
use logitcask_model::{Companions, PretrainedModel};
use std::path::Path;

/// What a plan says of the teacher's number format, which no other tool's files tell.
const UNKNOWN_PRECISION: &str = "unknown";

/// Makes a cache from the files of another tool.
pub fn run(args: &ImportArgs) -> Result<()> {
    match &args.format {
        ImportFormat::DistillKit(args) => import(&args.target, &|source, _| open_distillkit(args, &source.path)),
        ImportFormat::Nemo(args) => import(&args.target, &|source, _| Ok(Box::new(Nemo::open(&source.path)?))),
        ImportFormat::LlamaCpp(args) => {
            import(&args.target, &|source, tokenizer| open_llama_cpp(args, &source.path, tokenizer))
        }
        ImportFormat::Megatron(args) => import(&args.target, &|source, _| open_megatron(args, source)),
    }
}

fn open_llama_cpp(args: &LlamaCppArgs, path: &Path, tokenizer: &TextTokenizer) -> Result<Box<dyn Source>> {
    Ok(Box::new(LlamaCpp::open(path, args.classes, tokenizer.bos())?))
}

fn open_megatron(args: &MegatronArgs, NamedSource { split, path }: &NamedSource) -> Result<Box<dyn Source>> {
    match args.tokens.iter().find(|tokens| tokens.split == *split) {
        Some(tokens) => Ok(Box::new(Megatron::open(path, &tokens.path)?)),
        None => {
            bail!("{}: the files hold no tokens; name those of the split with --tokens {split}=PATH", path.display())
        }
    }
}

fn open_distillkit(args: &DistillKitArgs, path: &Path) -> Result<Box<dyn Source>> {
    let settings = Settings::read(args.settings.as_deref(), path)?;
    let reading = Reading { settings, legacy_values: args.values, pad_token: args.pad_token };
    Ok(Box::new(DistillKit::open(path, reading)?))
}

/// The model that made the files, as far as it is known.
struct Teacher {
    pin: ArtifactRef,
    tokenizer: TextTokenizer,
    companions: Companions,
    /// Number of classes of its head that are no tokens.
    padding: u32,
}

/// Opens the source of a split; the tokenizer is that of the model which made it.
type Open<'a> = &'a dyn Fn(&NamedSource, &TextTokenizer) -> Result<Box<dyn Source>>;

fn import(target: &ImportTarget, open: Open<'_>) -> Result<()> {
    let teacher = Teacher::of(target)?;
    let mut splits: Vec<Split> = Vec::new();
    for source in &target.sources {
        let NamedSource { split, path } = source;
        if splits.iter().any(|there| there.name == *split) {
            bail!("{}: the split `{split}` has a source already; name another split with SPLIT=PATH", path.display());
        }
        if !path.exists() {
            bail!("{}: there is no such file or folder", path.display());
        }
        let source = open(source, &teacher.tokenizer)?;
        source.notes().iter().for_each(|text| note!("{}: {text}", path.display()));
        splits.push(Split { name: split.clone(), source });
    }
    let plan = plan(target, &splits, &teacher)?;
    let rules = Rules { keep: plan.keep.clone(), vocab_size: plan.vocab_size, renormalise: target.renormalise };
    let companions: Vec<_> = teacher.companions.iter().collect();
    let was_damaged = mend(&target.out, plan.clone(), teacher.tokenizer.json(), &companions)?;
    let writer = open_writer(target, plan, teacher.tokenizer.json())?;
    writer.lay_companions(teacher.companions.iter())?;
    let total = writer.pending()?.into_iter().map(|unit| writer.plan().unit(unit).samples()).sum();
    let progress = Progress::new("importing", "samples", total);
    let stop = stop::flag("stopping once the units that were begun are written");
    let filled = fill(&splits, &writer, &rules, stop, &|| progress.add(1));
    progress.finish();
    let tally = filled?.ok_or_else(|| anyhow!("stopped; run the same command again to continue"))?;
    report(&target.out, writer.plan(), &writer.finish()?, tally, was_damaged);
    Ok(())
}

/// Begins the cache or goes on with it; what is there may have been begun with other arguments.
fn open_writer(target: &ImportTarget, plan: Plan, tokenizer: &[u8]) -> Result<CacheWriter> {
    match CacheWriter::open(&target.out, plan.clone(), tokenizer) {
        Err(OtherPlan { .. }) if target.replace => {
            note!("{} was of another plan; moved to {}", target.out.display(), move_aside(&target.out)?.display());
            Ok(CacheWriter::open(&target.out, plan, tokenizer)?)
        }
        Err(error @ OtherPlan { .. }) => bail!("{error}; --replace moves it aside"),
        opened => Ok(opened?),
    }
}

impl Teacher {
    fn of(target: &ImportTarget) -> Result<Self> {
        let name = target.teacher.display();
        let files = match models::on_disk(&target.teacher) {
            Some(path) if target.teacher.exists() => Some(PretrainedModel::open(&path)?),
            // Of a model that is named as on a hub, the tokenizer alone may have been fetched.
            Some(path) => PretrainedModel::open(&path).ok(),
            None => None,
        };
        let (tokenizer, companions) = match (&target.tokenizer, &files) {
            (Some(folder), _) => (tokenizers::of_folder(folder)?, Companions::from_folder(folder)?),
            (None, Some(files)) => (tokenizers::of_model(files)?, files.companions()?),
            (None, None) => {
                bail!("{name}: no such model is on this machine, so its tokenizer must be named: --tokenizer FOLDER")
            }
        };
        let fingerprint = match &files {
            Some(files) => files.fingerprint()?,
            None => {
                note!(
                    "{name}: no such model is on this machine, so that the cache pins its name instead of its weights"
                );
                Fingerprint::of(name.to_string().as_bytes())
            }
        };
        let pin = ArtifactRef { name: name.to_string(), fingerprint };
        let classes = files.map_or(0, |files| files.config().vocab_size() as u32);
        Ok(Self { pin, padding: classes.saturating_sub(tokenizer.vocab_size()), tokenizer, companions })
    }
}

/// The plan of a cache with these splits.
fn plan(target: &ImportTarget, splits: &[Split], teacher: &Teacher) -> Result<Plan> {
    let told = splits.first().context("no source was named")?.source.info();
    if let Some(other) = splits.iter().find(|split| split.source.info() != told) {
        bail!(
            "the splits {} and {} were made with different settings; import each into a cache of its own",
            splits[0].name,
            other.name
        );
    }
    let names = target.sources.iter().map(|source| source.path.file_name().unwrap_or_default().to_string_lossy());
    let names: Vec<_> = names.collect();
    let lengths = || splits.iter().flat_map(|split| split.source.lengths());
    let tokenizer = &teacher.tokenizer;
    let vocab_size = tokenizer.vocab_size();
    let keep = Truncation {
        selection: told.selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: None,
        padding: teacher.padding,
        source: told.source,
    };
    let max_length = lengths().copied().max().unwrap_or_default();
    let counts: Vec<(String, u64)> =
        splits.iter().map(|split| (split.name.clone(), split.source.lengths().len() as u64)).collect();
    Ok(Plan {
        format_version: FORMAT_VERSION,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        versions: Versions { codec: CODEC_VERSION, ..Versions::FIRST },
        layout: Layout::Plain,
        vocab_size,
        max_length,
        precision: UNKNOWN_PRECISION.to_owned(),
        batch_tokens: 0,
        positions: told.positions,
        samples_per_unit: samples_per_unit(max_length, keep.max_kept(vocab_size)),
        keep,
        extras: Vec::new(),
        teacher: teacher.pin.clone(),
        tokenizer: ArtifactRef { name: "tokenizer.json".to_owned(), fingerprint: tokenizer.fingerprint() },
        added_tokens: tokenizer
            .added_tokens()
            .iter()
            .cloned()
            .map(|(id, content)| AddedToken { id, content })
            .collect(),
        special_tokens: REFUSE_SPECIAL_TOKENS.to_owned(),
        conversations: Default::default(),
        bos: tokenizer.bos(),
        end: tokenizer.eos(),
        dataset: ArtifactRef { name: names.join(", "), fingerprint: dataset_fingerprint(splits, target.renormalise)? },
        companions: pins(teacher.companions.iter()),
        splits: Plan::splits_of(&counts),
    })
}

fn report(folder: &Path, plan: &Plan, manifest: &Manifest, tally: Tally, was_damaged: bool) {
    let figures = CacheFigures::of(manifest);
    say!(
        "{}: {}cache id {}, {} positions, {:.1} bytes per position ({:.2} per kept class), mean kept mass {:.4}",
        folder.display(),
        if was_damaged { "repaired, " } else { "" },
        figures.cache_id.short(),
        figures.positions,
        figures.bytes_per_position,
        figures.bytes_per_entry,
        figures.kept_mass,
    );
    let Tally { positions, sorted, above_one, renormalised, labels_kept } = tally;
    if positions == 0 {
        say!("everything was there already");
        return;
    }
    say!("of {positions} positions that were imported now");
    say!("  {sorted} had values that were not in falling order, and were sorted anew");
    say!("  {renormalised} held more than 1 of the probability, and were divided by it");
    if above_one > 0 {
        say!("  {above_one} hold up to {} of the probability, which is put down to rounding", 1.0 + MASS_TOLERANCE);
    }
    if plan.keep.source.gold == GoldSource::Kept {
        say!("  {labels_kept} have their label among the kept classes; of the others nothing is known of the label");
    }
    say_recipe(folder, plan);
}

/// Shows the lines that a recipe for the cache needs.
fn say_recipe(folder: &Path, plan: &Plan) {
    say!("the files told {}; a recipe for this cache has [student], [train] and", plan.keep.source);
    say!("  [cache]");
    say!("  path = \"{}\"", folder.display());
    say!("  [loss]");
    match plan.keep.source.tail {
        TailSource::None => say!("  tail = \"renorm\""),
        _ => say!("  temperature = 1.0         # or any with tail = \"renorm\""),
    }
    if let (None, Some(split)) = (plan.splits.iter().find(|split| split.name == "test"), plan.splits.last()) {
        say!("  [eval]");
        say!("  split = \"{}\"", split.name);
    }
}
