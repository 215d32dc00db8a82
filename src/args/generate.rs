//! Arguments of `generate`.

use super::values::{probability, special_tokens, temperature, variable, whole};
use clap::Args as ClapArgs;
use logitcask_data::SpecialTokens;
use logitcask_model::DeviceChoice;
use serde_json::Value;
use std::path::PathBuf;

/// Arguments of `generate`.
#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    /// A Hugging Face folder, a GGUF or llama2.c file, or the name of a model on a hub (ORG/NAME or ORG/NAME@REVISION)
    pub model: PathBuf,
    /// Beginning of every generated text
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// Answer the prompts of this file or folder instead, with the model's chat template. Rows have `messages` or
    /// `conversations` (an answer at the end is written anew), `prompt` or `instruction`, and perhaps `split`
    #[arg(long, requires = "out", conflicts_with_all = ["prompt", "count"])]
    pub prompts: Option<PathBuf>,
    /// Number of texts to generate
    #[arg(long, default_value_t = 1, value_parser = whole::<u64>(1))]
    pub count: u64,
    /// Seed of the random sampling
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = whole::<u64>(0))]
    pub seed: u64,
    /// Sampling temperature, which divides the logits; 0 is greedy decoding
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = temperature)]
    pub temperature: f64,
    /// Nucleus sampling: sample among the fewest tokens whose probability reaches this value
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = probability)]
    pub top_p: f64,
    /// Largest length in tokens of a text, or with --prompts of an answer [default: what the model's context allows]
    #[arg(long, value_parser = whole::<u32>(1))]
    pub max_tokens: Option<u32>,
    /// With --prompts, largest length in tokens of a prompt and its answer [default: the model's context]
    #[arg(long, requires = "prompts", value_parser = whole::<u32>(2))]
    pub max_length: Option<u32>,
    /// Number of texts or answers generated at once [default: 128 texts, 32 answers]
    #[arg(long, value_parser = whole::<u64>(1))]
    pub batch: Option<u64>,
    /// Keep only texts that end with an end token, not those cut off at the largest length
    #[arg(long)]
    pub finished_only: bool,
    /// Write a Parquet file instead of printing: a corpus (columns text, split; 5 % validation, 5 % test), or with
    /// --prompts the answers (input_ids, assistant_masks, messages, finished, and split if the prompts have it)
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// With --prompts, a file with a chat template in place of the model's own
    #[arg(long, requires = "prompts")]
    pub template: Option<PathBuf>,
    /// With --prompts, the day (2026-07-26) that a template writes which asks for the current one
    #[arg(long, requires = "prompts")]
    pub date: Option<String>,
    /// With --prompts, a variable for the template, such as enable_thinking=false; may be repeated
    #[arg(long, requires = "prompts", value_parser = variable)]
    pub variable: Vec<(String, Value)>,
    /// With --prompts, the column with the list of messages, if it has another name than messages or conversations
    #[arg(long, requires = "prompts")]
    pub messages_column: Option<String>,
    /// With --prompts, what is done with a message that spells out a special token: refuse, plain (it is text) or parse
    #[arg(long, requires = "prompts", default_value = "refuse", value_parser = special_tokens)]
    pub special_tokens: SpecialTokens,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}
