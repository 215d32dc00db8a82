//! Arguments of `serve`.

use super::values::precision;
use clap::Args as ClapArgs;
use logitcask_model::{DeviceChoice, Precision};
use std::path::PathBuf;

/// Arguments of `serve`.
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// A Hugging Face folder, a GGUF or llama2.c file, or the name of a model on a hub (ORG/NAME or ORG/NAME@REVISION)
    pub model: PathBuf,
    /// Address and port to listen at. Whoever reaches it can use the model: 127.0.0.1 is this machine alone
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: String,
    /// Number format of weights and activations: f32, bf16 or f16
    #[arg(long, default_value = "f32", value_parser = precision)]
    pub precision: Precision,
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}
