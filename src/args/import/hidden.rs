//! The arguments of `import hidden`.

use super::ImportTarget;
use clap::Args as ClapArgs;
use logitcask_core::Selection;
use logitcask_model::{DeviceChoice, NormSide};
use serde::Deserialize;

/// What `import hidden --help` ends with.
pub const HIDDEN_HELP: &str = "\
Each file has token ids (token_ids or input_ids), [tokens] or [sequences, tokens], and states (hidden_states or \
last_hidden_state) of the same shape with [width] or [layers, width] behind it, of which the last layer is taken, in \
f32, f16 or bf16. Padded sequences need attention_mask. vLLM's connectors for hidden states write such files. The files \
of a folder are taken in the order of their numbers, and a split may have several paths.

The teacher must be on this machine. Only its final norm and head are loaded, which takes 4 bytes for each of their \
parameters, and rows are computed in f32. They are those that `cache` makes where the layers run here, and serve losses \
at any temperature from 0.75 to 10.

Files do not say whether their states are from before or after the final norm, and the wrong answer gives wrong rows \
that nothing else would show. So the answer is compared with the log-probabilities of some tokens, and refused if these \
differ by more than 0.1 nats on average:
  --check log-probs  with those in the files: token_logprobs, of the shape of the token
                     ids or without the first of each sequence. The default if all have it
  --check model      with the teacher's, which is loaded whole and reads up to 1040 tokens
  --check none       not at all

vLLM's connectors write states from before the norm; last_hidden_state of transformers, and the last item of its \
hidden_states, are from after it.

Examples:
  logitcask import hidden states --norm after --teacher models/Qwen3 --out data/caches/states
  logitcask import hidden hs_*.safetensors --norm before --check model --teacher models/Qwen3 --out data/caches/states
  logitcask import hidden train=a test=b --norm after --classes 128 --teacher models/Qwen3 --out data/caches/states";

/// Arguments of `import hidden`.
#[derive(Debug, ClapArgs)]
pub struct HiddenArgs {
    /// What every format takes.
    #[command(flatten)]
    pub target: ImportTarget,
    /// The side of the final norm that the states are from: before or after
    #[arg(long, value_parser = norm_side)]
    pub norm: NormSide,
    /// What --norm is checked with: log-probs, model or none [default: log-probs, if every file has them]
    #[arg(long, value_parser = norm_check)]
    pub check: Option<NormCheck>,
    /// Number of the likeliest classes that are kept at a position
    #[arg(long, default_value_t = 64)]
    pub classes: u32,
    /// Another selection, as in a recipe, such as '{ kind = "top_p", p = 0.95, k = 64 }'
    #[arg(long, conflicts_with = "classes", value_parser = selection)]
    pub selection: Option<Selection>,
    /// Name of the tensor of states [default: hidden_states or last_hidden_state]
    #[arg(long)]
    pub states: Option<String>,
    /// Name of the tensor of token ids [default: token_ids or input_ids]
    #[arg(long)]
    pub tokens: Option<String>,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// What the side of the norm is checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormCheck {
    /// The log-probabilities of tokens in the files.
    LogProbs,
    /// Those that the teacher gives here.
    Model,
    /// Nothing.
    None,
}

fn norm_side(text: &str) -> Result<NormSide, String> {
    let found = [NormSide::Before, NormSide::After].into_iter().find(|side| side.name() == text);
    found.ok_or_else(|| format!("`{text}` is none of before, after"))
}

fn norm_check(text: &str) -> Result<NormCheck, String> {
    match text {
        "log-probs" => Ok(NormCheck::LogProbs),
        "model" => Ok(NormCheck::Model),
        "none" => Ok(NormCheck::None),
        other => Err(format!("`{other}` is none of log-probs, model, none")),
    }
}

fn selection(text: &str) -> Result<Selection, String> {
    #[derive(Deserialize)]
    struct Keys {
        selection: Selection,
    }
    let keys: Result<Keys, _> = toml::from_str(&format!("selection = {text}"));
    keys.map(|keys| keys.selection).map_err(|error| format!("not a selection: {}", error.message()))
}
