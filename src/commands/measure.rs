//! `logitcask measure-device`, for scripts/gpu-check: measurements of a device as rows of a Markdown table.

use crate::args::MeasureArgs;
use crate::devices;
use crate::models;
use crate::output::say;
use anyhow::Result;
use logitcask_model::{Device, Precision};
use logitcask_teach::{LocalTeacher, measure};

/// Number of windows per batch, and tokens per window.
const BATCH: [usize; 2] = [64, 256];

/// Prints the device's name and number formats, times of selection and of a copy, and a model's forward rate.
pub fn run(args: &MeasureArgs) -> Result<()> {
    let (device, name) = devices::open(args.device)?;
    say!("| device | {name} |");
    let formats = formats_of(&device);
    say!("| number formats | {} |", formats.iter().map(Precision::to_string).collect::<Vec<_>>().join(", "));
    for &classes in &args.classes {
        let row = measure::selection(&device, classes)?;
        // A copy reads and writes every byte.
        let (us, bytes) = (|seconds: f64| 1e6 * seconds, 4.0 * row.classes as f64);
        let copied = 2.0 * bytes / row.copy;
        say!("| {classes} classes: copy within the device | {:.2} us a row, {:.1} GB/s |", us(row.copy), copied / 1e9);
        if let Some(kernel) = row.kernel {
            let share = 100.0 * bytes / kernel / copied;
            say!("| selection kernel alone | {:.2} us a row, {share:.0} % of the bandwidth of a copy |", us(kernel));
        }
        say!("| selection, rows in memory | {:.2} us a row |", us(row.select));
        say!("| reading rows back whole | {:.2} us a row |", us(row.read));
    }
    let Some(path) = &args.model else { return Ok(()) };
    let files = models::open(path)?;
    let [rows, width] = BATCH;
    let width = width.min(files.config().max_position_embeddings());
    let files = files.for_texts_of(width);
    for precision in formats {
        let teacher = LocalTeacher::new(files.load(&device, precision)?);
        let rate = measure::forward(&teacher, &device, [rows, width])?;
        say!("| {}, forward alone, {precision} | {rate:.0} positions/s |", files.name());
    }
    Ok(())
}

/// The number formats that a device supports.
fn formats_of(device: &Device) -> Vec<Precision> {
    let all = [Precision::F32, Precision::F16, Precision::Bf16];
    all.into_iter().filter(|format| format.dtype(device).is_ok()).collect()
}
