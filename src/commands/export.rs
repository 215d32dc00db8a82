//! `logitcask export`.

use super::tokenizer_of;
use crate::args::ExportArgs;
use anyhow::Result;
use logitcask_model::{DeviceChoice, ModelFiles, Precision, export};

/// Writes any model this build reads as a Hugging Face folder.
pub fn run(args: &ExportArgs) -> Result<()> {
    let files = ModelFiles::open(&args.model)?;
    let tokenizer = tokenizer_of(&files)?.to_json()?;
    let (device, _) = DeviceChoice::Cpu.open()?;
    let model = files.load(&device, Precision::F32)?;
    export::export(&model, args.precision, Some(&tokenizer), &args.out)?;
    println!(
        "{} ({:.1} M parameters, {})",
        args.out.display(),
        files.config().parameters() as f64 / 1e6,
        args.precision
    );
    Ok(())
}
