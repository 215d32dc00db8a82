//! The arguments of `import`, one set for each format.

pub mod hidden;

use clap::{Args as ClapArgs, Subcommand};
use hidden::{HIDDEN_HELP, HiddenArgs};
use logitcask_import::distillkit::LegacyValues;
use std::path::PathBuf;

/// Arguments of `import`.
#[derive(Debug, ClapArgs)]
pub struct ImportArgs {
    /// The format of the files
    #[command(subcommand)]
    pub format: ImportFormat,
}

/// The formats.
#[derive(Debug, Subcommand)]
pub enum ImportFormat {
    /// DistillKit's Parquet files, with the YAML of settings beside them
    #[command(
        name = "distillkit",
        after_help = "The cache serves losses at T = 1, and with tail = renorm at any temperature.

Examples:
  logitcask import distillkit captured --teacher Qwen/Qwen3-0.6B --tokenizer models/Qwen3 --out data/caches/captured
  logitcask import distillkit train=captured/train test=captured/test --teacher models/Qwen3 --out data/caches/captured
  logitcask import distillkit old --settings old.yaml --values log-probs --teacher models/Qwen3 --out data/caches/old"
    )]
    DistillKit(DistillKitArgs),
    /// NeMo-Aligner's JSON lines of teacher logits
    #[command(after_help = "The cache has the positions whose loss_mask is not 0.

Examples:
  logitcask import nemo train=train.jsonl test=test.jsonl --teacher models/Qwen3 --out data/caches/nemo")]
    Nemo(NemoArgs),
    /// llama.cpp's base logits, a file of --kl-divergence-base
    #[command(after_help = "The cache has the positions of the second half of each window.

Examples:
  logitcask import llama-cpp wiki.kld --classes 64 --teacher models/Qwen3 --out data/caches/wiki")]
    LlamaCpp(LlamaCppArgs),
    /// Megatron-LM's offline log-probabilities, a folder of --logits-save-dir
    #[command(
        after_help = "The files hold no tokens. --tokens has a line {\"input_ids\": [...]} for every sample that they hold, \
in the order of training, with as many tokens as positions were saved or one more. If few labels are then among the \
kept classes, the tokens are in another order.

Examples:
  logitcask import megatron teacher-logits --tokens tokens.jsonl --teacher models/Qwen3 --out data/caches/megatron
  logitcask import megatron train=a test=b --tokens train=a.jsonl --tokens test=b.jsonl --teacher models/Qwen3 \
    --out data/caches/megatron"
    )]
    Megatron(MegatronArgs),
    /// Last hidden states in safetensors files, to which the teacher's head is applied here
    #[command(after_help = HIDDEN_HELP)]
    Hidden(HiddenArgs),
}

/// What every format takes.
#[derive(Debug, ClapArgs)]
pub struct ImportTarget {
    /// The folder or file of each split; without a name it is the split train
    #[arg(required = true, value_parser = named_source, value_name = "[SPLIT=]PATH")]
    pub sources: Vec<NamedSource>,
    /// The model that made the files: one that this program opens if it is on this machine, which pins its weights, or
    /// any other name
    #[arg(long)]
    pub teacher: PathBuf,
    /// Folder of the tokenizer (tokenizer.json) [default: that of the teacher, if it is on this machine]
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// The folder of the cache
    #[arg(long)]
    pub out: PathBuf,
    /// If the folder holds a cache of another plan, move that cache aside and start a new one
    #[arg(long)]
    pub replace: bool,
}

/// What formats take that store rounded probabilities.
#[derive(Debug, ClapArgs)]
pub struct MassArgs {
    /// Divide the probabilities of a position by their sum where it is above 1; otherwise more than 1.01 is an error
    #[arg(long)]
    pub renormalise: bool,
}

/// Arguments of `import distillkit`.
#[derive(Debug, ClapArgs)]
pub struct DistillKitArgs {
    /// What every format takes.
    #[command(flatten)]
    pub target: ImportTarget,
    /// What formats take that store rounded probabilities.
    #[command(flatten)]
    pub mass: MassArgs,
    /// The settings that the files were made with [default: the only YAML file beside them]
    #[arg(long)]
    pub settings: Option<PathBuf>,
    /// What the values of the older form are, which its files do not say: log-probs or centred-logits
    #[arg(long, value_parser = legacy_values)]
    pub values: Option<LegacyValues>,
    /// The padding token that DistillKit appended to sequences: they are taken over without it
    #[arg(long)]
    pub pad_token: Option<u64>,
}

/// Arguments of `import nemo`.
#[derive(Debug, ClapArgs)]
pub struct NemoArgs {
    /// What every format takes.
    #[command(flatten)]
    pub target: ImportTarget,
    /// What formats take that store rounded probabilities.
    #[command(flatten)]
    pub mass: MassArgs,
}

/// Arguments of `import llama-cpp`.
#[derive(Debug, ClapArgs)]
pub struct LlamaCppArgs {
    /// What every format takes.
    #[command(flatten)]
    pub target: ImportTarget,
    /// What formats take that store rounded probabilities.
    #[command(flatten)]
    pub mass: MassArgs,
    /// Number of the likeliest classes that are kept at a position
    #[arg(long, default_value_t = 64)]
    pub classes: u32,
}

/// Arguments of `import megatron`.
#[derive(Debug, ClapArgs)]
pub struct MegatronArgs {
    /// What every format takes.
    #[command(flatten)]
    pub target: ImportTarget,
    /// What formats take that store rounded probabilities.
    #[command(flatten)]
    pub mass: MassArgs,
    /// The token sequences of each split as JSON lines; without a name those of the split train
    #[arg(long, required = true, value_parser = named_source, value_name = "[SPLIT=]PATH")]
    pub tokens: Vec<NamedSource>,
}

/// A split and where its samples are.
#[derive(Clone, Debug)]
pub struct NamedSource {
    /// Name of the split.
    pub split: String,
    /// A folder or file.
    pub path: PathBuf,
}

fn named_source(text: &str) -> Result<NamedSource, String> {
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['/', '\\', '.']);
    let named = text.split_once('=').filter(|(name, _)| is_name(name));
    let (split, path) = named.unwrap_or(("train", text));
    match path.is_empty() {
        true => Err("a source is PATH or SPLIT=PATH".to_owned()),
        false => Ok(NamedSource { split: split.to_owned(), path: path.into() }),
    }
}

fn legacy_values(text: &str) -> Result<LegacyValues, String> {
    match text {
        "log-probs" => Ok(LegacyValues::LogProbs),
        "centred-logits" => Ok(LegacyValues::CentredLogits),
        other => Err(format!("`{other}` is none of log-probs, centred-logits")),
    }
}
