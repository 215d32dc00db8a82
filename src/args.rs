//! Command-line arguments.

mod generate;
mod import;
mod measure;
mod serve;
mod values;

pub use generate::GenerateArgs;
pub use import::hidden::{HiddenArgs, NormCheck};
pub use import::{DistillKitArgs, ImportArgs, ImportFormat, ImportTarget, LlamaCppArgs, MegatronArgs, NamedSource};
pub use measure::MeasureArgs;
pub use serve::ServeArgs;

use crate::logging::Verbosity;
use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use logitcask_cache::Layout;
use logitcask_model::{DeviceChoice, Precision};
use std::path::PathBuf;
use values::{layout, precision, target, whole};

/// The command of scripts/gpu-check.
const MEASURE_DEVICE: &str = "measure-device";

/// Run a teacher once over a dataset, keep its truncated logits in a cache of Parquet shards, and train students from
/// the cache as often as you like.
#[derive(Debug, Parser)]
#[command(name = "logitcask", version, arg_required_else_help = true, after_help = TOP_EXAMPLES)]
pub struct Args {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// How much the command reports.
    #[command(flatten)]
    pub verbosity: Verbosity,
}

impl Args {
    /// Parses the command line; prints help or an error and exits if it does not describe a command.
    pub fn read() -> Self {
        if std::env::args_os().nth(1).is_some_and(|word| word == MEASURE_DEVICE) {
            let args = MeasureArgs::parse_from(std::env::args_os().skip(1));
            return Self { verbosity: args.verbosity, command: Command::MeasureDevice(args) };
        }
        Self::parse()
    }
}

const TOP_EXAMPLES: &str = "Examples:
  logitcask cache data/recipes/demo.toml          run the teacher and fill data/caches/demo
  logitcask train data/recipes/demo.toml --control
  logitcask inspect data/caches/demo --sample 3
  logitcask eval data/runs/demo/student/model --cache data/caches/demo";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tokenise a recipe's dataset to disk, which stage 1 otherwise does itself; several processes may share the work
    #[command(after_help = "Examples:
  logitcask prepare data/recipes/demo.toml               resumes, and makes damaged parts again")]
    Prepare(PrepareArgs),
    /// Stage 1: run the teacher over the dataset and fill the cache; resumes a run that was stopped or killed
    #[command(after_help = "Examples:
  logitcask cache data/recipes/demo.toml
  logitcask cache data/recipes/stories15m.toml --device wgpu --replace")]
    Cache(CacheArgs),
    /// Stage 2: train the recipe's student from its cache; resumes a run that was stopped or killed
    #[command(after_help = "Examples:
  logitcask train data/recipes/demo.toml --control        also train the same student on labels alone
  logitcask train data/recipes/demo.toml --seed 2 --out data/runs/demo-2
  logitcask train data/recipes/demo-pruned.toml --control start from every other layer of the teacher")]
    Train(TrainArgs),
    /// Measure a model's perplexity on text; with a cache, also compare it with the teacher: KL, agreement, acceptance
    #[command(after_help = "Examples:
  logitcask eval data/runs/demo/student/model --cache data/caches/demo
  logitcask eval teacher.Q4_K.gguf --cache data/caches/demo --json | jq .kl_99th_percentile
  logitcask eval data/demo/teacher --data story.txt --max-length 100")]
    Eval(EvalArgs),
    /// Show the contents of a cache
    #[command(after_help = "Examples:
  logitcask inspect data/caches/demo
  logitcask inspect data/caches/demo --split test --sample 3 --positions 12
  logitcask inspect data/caches/demo --json | jq .kept_mass")]
    Inspect(InspectArgs),
    /// Check a cache: structure, every hash and every row; with --live, also compare it with the teacher
    #[command(after_help = "Examples:
  logitcask verify data/caches/demo
  logitcask verify data/caches/demo --quick              structure only
  logitcask verify data/caches/demo --live 16 --recipe data/recipes/demo.toml
  logitcask verify data/caches/demo --json | jq .findings")]
    Verify(VerifyArgs),
    /// Rebuild only the missing and damaged parts of a recipe's cache
    #[command(after_help = "Examples:
  logitcask repair data/recipes/demo.toml")]
    Repair(RepairArgs),
    /// Before you make a cache, estimate bytes per token, errors and time of several selections from a few samples
    #[command(after_help = "Examples:
  logitcask estimate data/recipes/demo.toml
  logitcask estimate data/recipes/stories15m.toml --samples 64")]
    Estimate(EstimateArgs),
    /// Generate texts with a model, or its answers to prompts; with --out, write a dataset
    #[command(after_help = "Examples:
  logitcask generate data/runs/demo/student/model --prompt 'Once upon a time'
  logitcask generate data/demo/teacher --count 500 --out corpus.parquet     resumes a run that was stopped or killed
  logitcask generate models/Chat --prompts questions.jsonl --out answers.parquet --temperature 0.7 --top-p 0.9
                                                         answer prompts; resumes a run that was stopped or killed")]
    Generate(GenerateArgs),
    /// Make a cache from the files of another tool; resumes a run that was stopped or killed
    #[command(after_help = "Examples:
  logitcask import distillkit captured --teacher Qwen/Qwen3-0.6B --tokenizer models/Qwen3 --out data/caches/captured
  logitcask import nemo train=train.jsonl test=test.jsonl --teacher models/Qwen3 --out data/caches/nemo
  logitcask import llama-cpp wiki.kld --teacher models/Qwen3 --out data/caches/wiki
  logitcask import hidden states --norm after --teacher models/Qwen3 --out data/caches/states
  logitcask import distillkit --help                     what a format takes")]
    Import(ImportArgs),
    /// Offer a model to `[teacher] server` of recipes on other machines: log-probabilities of the tokens of prompts,
    /// through the completions interface that vLLM has
    #[command(after_help = "Examples:
  logitcask serve data/demo/teacher
  logitcask serve models/Chat --listen 0.0.0.0:8000 --precision bf16 --device wgpu

It has POST /v1/completions, with prompts as token ids or texts, prompt_logprobs or echo with logprobs, and
max_tokens 0 or 1 (the token that follows is the likeliest), GET /v1/models and GET /health. Whatever else is asked
for is refused by name.")]
    Serve(ServeArgs),
    /// Write a model as a folder that `transformers` opens, or a cache in another layout or for another tool
    #[command(after_help = "Examples:
  logitcask export data/demo/teacher --out demo-f16 --precision f16
  logitcask export data/caches/demo --layout packed --out data/caches/packed
  logitcask export data/caches/demo --to distillkit --out demo-distillkit")]
    Export(ExportArgs),
    /// Train a byte-level BPE tokenizer on a dataset's train split
    #[command(after_help = "Examples:
  logitcask tokenizer texts.jsonl --size 2048 --out tokenizer.json")]
    Tokenizer(TokenizerArgs),
    /// Print a script that lets a shell complete this program's arguments
    #[command(after_help = "Examples:
  logitcask completions bash > ~/.local/share/bash-completion/completions/logitcask
  logitcask completions fish > ~/.config/fish/completions/logitcask.fish")]
    Completions(CompletionsArgs),
    /// Write a manual page for each command into a folder
    #[command(after_help = "Examples:
  logitcask man --out ~/.local/share/man/man1")]
    Man(ManArgs),
    /// `measure-device`, which no help, completion or suggestion names: see [`Args::read`]
    #[command(skip)]
    MeasureDevice(MeasureArgs),
}

/// Arguments of `prepare`.
#[derive(Debug, ClapArgs)]
pub struct PrepareArgs {
    /// The experiment's recipe (TOML)
    pub recipe: PathBuf,
}

/// Arguments of `cache`.
#[derive(Debug, ClapArgs)]
pub struct CacheArgs {
    /// The experiment's recipe (TOML)
    pub recipe: PathBuf,
    /// auto (a hardware GPU if there is one, else the CPU), cpu, wgpu, wgpu:N (the N-th GPU) or cuda:N. wgpu and wgpu:N
    /// need a program that was built for GPUs (make GPU=1), and cuda:N needs one that was built with the feature cuda
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// If the folder holds a cache of another plan, move that cache aside and start a new one
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `train`.
#[derive(Clone, Debug, ClapArgs)]
pub struct TrainArgs {
    /// The experiment's recipe (TOML)
    pub recipe: PathBuf,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Also train a control: the same student, steps and seed, on the labels alone
    #[arg(long)]
    pub control: bool,
    /// Override the recipe's seed
    #[arg(long, allow_negative_numbers = true, value_parser = whole::<u64>(0))]
    pub seed: Option<u64>,
    /// Run folder [default: data/runs/RECIPE]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// If the folder holds a run of another recipe or cache, move that run aside and start a new one
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `eval`.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("source").required(true).args(["cache", "data"]))]
pub struct EvalArgs {
    /// A Hugging Face folder, a GGUF or llama2.c file, or the name of a model on a hub (ORG/NAME or ORG/NAME@REVISION)
    pub model: PathBuf,
    /// A cache: compare the model with its teacher, on one of its splits. Either --cache or --data is required
    #[arg(long)]
    pub cache: Option<PathBuf>,
    /// The split of the cache
    #[arg(long, default_value = "test")]
    pub split: String,
    /// A text source (.txt, .jsonl, .parquet): measure only perplexity, with the model's own tokenizer
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Window length for --data, in tokens [default: the model's context]
    #[arg(long, value_parser = whole::<usize>(2))]
    pub max_length: Option<usize>,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// The cache's folder
    pub cache: PathBuf,
    /// Show this sample's rows with their token texts, from its first cached position on; samples and positions are
    /// counted from 0
    #[arg(long, conflicts_with = "json", allow_negative_numbers = true, value_parser = whole::<u64>(0))]
    pub sample: Option<u64>,
    /// The split of that sample [default: train]
    #[arg(long)]
    pub split: Option<String>,
    /// Number of positions of that sample to show [default: 16]
    #[arg(long, requires = "sample", value_parser = whole::<usize>(1))]
    pub positions: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// The cache's folder
    pub cache: PathBuf,
    /// Check only the structure (files, sizes and footers), not hashes of row groups and rows
    #[arg(long)]
    pub quick: bool,
    /// Also run the teacher again on this many samples of every split and compare
    #[arg(long, requires = "recipe", value_parser = whole::<u64>(1))]
    pub live: Option<u64>,
    /// The recipe that names the teacher
    #[arg(long, requires = "live")]
    pub recipe: Option<PathBuf>,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `repair`.
#[derive(Debug, ClapArgs)]
pub struct RepairArgs {
    /// The recipe that the cache was made with (TOML)
    pub recipe: PathBuf,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Arguments of `estimate`.
#[derive(Debug, ClapArgs)]
pub struct EstimateArgs {
    /// The experiment's recipe (TOML)
    pub recipe: PathBuf,
    /// Number of calibration samples, spread over the first split; at least 2
    #[arg(long, default_value_t = 32, value_parser = whole::<u64>(2))]
    pub samples: u64,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Arguments of `export`.
#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// A Hugging Face folder, a llama2.c file, or a cache
    pub source: PathBuf,
    /// The folder to write
    #[arg(long)]
    pub out: PathBuf,
    /// For a model: number format of the weights, f32 [the default], f16 or bf16
    #[arg(long, value_parser = precision)]
    pub precision: Option<Precision>,
    /// For a cache: plain (typed lists for any Parquet reader) or packed (smallest); no value changes
    #[arg(long, value_parser = layout)]
    pub layout: Option<Layout>,
    /// For a cache: the tool to write it for, distillkit (a folder of Parquet files and settings for each split). Kept
    /// values do not change; what that tool has no place for is left out, and said
    #[arg(long, value_parser = target, conflicts_with = "layout")]
    pub to: Option<Target>,
}

/// A tool that a cache can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// DistillKit's Parquet files.
    DistillKit,
}

/// Arguments of `tokenizer`.
#[derive(Debug, ClapArgs)]
pub struct TokenizerArgs {
    /// A text source (.parquet, .jsonl, .txt)
    pub data: PathBuf,
    /// Column that names each document's split
    #[arg(long)]
    pub split_column: Option<String>,
    /// Number of tokens in the vocabulary
    #[arg(long, default_value_t = 4096, value_parser = whole::<u32>(1))]
    pub size: u32,
    /// The tokenizer.json to write
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `completions`.
#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// The folder to write the pages into; it is created if it is missing
    #[arg(long)]
    pub out: PathBuf,
}
