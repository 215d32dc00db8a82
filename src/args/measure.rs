//! The arguments of `measure-device`, which is no part of the command list.

use crate::logging::Verbosity;
use clap::Parser;
use logitcask_model::DeviceChoice;
use std::path::PathBuf;

/// Measure a device and print rows of a Markdown table, for scripts/gpu-check
#[derive(Debug, Parser)]
#[command(name = "measure-device", bin_name = "logitcask measure-device")]
pub struct MeasureArgs {
    /// auto, cpu, wgpu, wgpu:N or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Numbers of classes for which selection is measured
    #[arg(long, value_delimiter = ',', default_value = "32000,131072", value_parser = classes)]
    pub classes: Vec<usize>,
    /// A model whose forward pass is measured
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// How much the command reports
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// A number of classes that a selection is measured with.
fn classes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|classes| (1024..=1 << 24).contains(classes));
    number.ok_or_else(|| "the number of classes must be 1,024 to 16,777,216".to_owned())
}
