//! `logitcask import`.

mod hidden;
mod norm_check;
mod report;
mod teacher;

use crate::args::{DistillKitArgs, ImportArgs, ImportFormat, ImportTarget, LlamaCppArgs, MegatronArgs, NamedSource};
use crate::output::note;
use crate::paths::move_aside;
use crate::progress::Progress;
use crate::stop;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::Error::OtherPlan;
use logitcask_cache::{ArtifactRef, CODEC_VERSION, CacheWriter, Plan, Versions};
use logitcask_core::{LogProbPrecision, Truncation};
use logitcask_data::TextTokenizer;
use logitcask_import::distillkit::{DistillKit, Reading, Settings};
use logitcask_import::llama_cpp::LlamaCpp;
use logitcask_import::megatron::Megatron;
use logitcask_import::nemo::Nemo;
use logitcask_import::{Rules, Source, Split, dataset_fingerprint, fill};
use report::report;
use std::path::Path;
use teacher::{Rows, Teacher};

/// What a plan says of the teacher's number format, which no other tool's files tell.
const UNKNOWN_PRECISION: &str = "unknown";

/// Makes a cache from the files of another tool.
pub fn run(args: &ImportArgs) -> Result<()> {
    match &args.format {
        ImportFormat::DistillKit(args) => {
            import(&args.target, args.mass.renormalise, &|source, _| open_distillkit(args, &source.path))
        }
        ImportFormat::Nemo(args) => {
            import(&args.target, args.mass.renormalise, &|source, _| Ok(Box::new(Nemo::open(&source.path)?)))
        }
        ImportFormat::LlamaCpp(args) => {
            let open = |source: &NamedSource, tokenizer: &TextTokenizer| open_llama_cpp(args, &source.path, tokenizer);
            import(&args.target, args.mass.renormalise, &open)
        }
        ImportFormat::Megatron(args) => {
            import(&args.target, args.mass.renormalise, &|source, _| open_megatron(args, source))
        }
        ImportFormat::Hidden(args) => hidden::run(args),
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

/// Opens the source of a split; the tokenizer is that of the model which made it.
type Open<'a> = &'a dyn Fn(&NamedSource, &TextTokenizer) -> Result<Box<dyn Source>>;

fn import(target: &ImportTarget, renormalise: bool, open: Open<'_>) -> Result<()> {
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
    let plan = plan(target, renormalise, &splits, &teacher)?;
    let rules = Rules { keep: plan.keep.clone(), vocab_size: plan.vocab_size, renormalise };
    let was_damaged = teacher.remove_damaged_parts(&target.out, plan.clone())?;
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

/// The plan of a cache with these splits.
fn plan(target: &ImportTarget, renormalise: bool, splits: &[Split], teacher: &Teacher) -> Result<Plan> {
    let told = splits.first().context("no source was named")?.source.info();
    if let Some(other) = splits.iter().find(|split| split.source.info() != told) {
        bail!(
            "the splits {} and {} were made with different settings; import each into a cache of its own",
            splits[0].name,
            other.name
        );
    }
    let keep = Truncation {
        selection: told.selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: None,
        padding: teacher.padding,
        source: told.source,
    };
    let lengths = splits.iter().flat_map(|split| split.source.lengths());
    Ok(teacher.plan(Rows {
        versions: Versions { codec: CODEC_VERSION, ..Versions::FIRST },
        precision: UNKNOWN_PRECISION.to_owned(),
        batch_tokens: 0,
        positions: told.positions,
        keep,
        dataset: ArtifactRef { name: names_of(target), fingerprint: dataset_fingerprint(splits, renormalise)? },
        splits: splits.iter().map(|split| (split.name.clone(), split.source.lengths().len() as u64)).collect(),
        max_length: lengths.copied().max().unwrap_or_default(),
    }))
}

/// The names of the sources, without their folders.
fn names_of(target: &ImportTarget) -> String {
    let names = target.sources.iter().map(|source| source.path.file_name().unwrap_or_default().to_string_lossy());
    names.collect::<Vec<_>>().join(", ")
}
