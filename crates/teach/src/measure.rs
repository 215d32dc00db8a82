//! Benchmarks of a device: how fast it computes logits and selects from them, compared with a plain copy, which no
//! kernel can beat.

use crate::select::{SelectProblem, select_logits};
use crate::teacher::{Logits, Outputs, Teacher, host};
use crate::{Error, Result};
use burn::tensor::{Device, Distribution, Tensor};
use logitcask_core::rng::CounterRng;
use logitcask_core::{Origin, RowSource, Sample, SampleId, Selection, TailRule, Truncation};
use logitcask_data::batch_by_length;
use std::time::{Duration, Instant};

/// Bytes of logits in one chunk, about as many as a teacher hands over at once.
const CHUNK: usize = 64 << 20;
/// Chunks that are processed in turn, so that the next one is never in the device's cache.
const CHUNKS: usize = 4;
/// Timed runs, of which the fastest counts. One untimed run before them compiles the kernels.
const RUNS: usize = 5;
/// No further forward pass starts after this time, except the first timed one.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Time for one row, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct SelectionSeconds {
    /// Number of classes in the row, each an f32.
    pub classes: usize,
    /// Copying the row within the device's memory.
    pub copy: f64,
    /// Computing the row's summary with the selection kernel. `None` on a CPU, which has no such kernel.
    pub kernel: Option<f64>,
    /// Selecting from the row, until the selected row is in memory.
    pub select: f64,
    /// Reading the whole row back, which selection on the device avoids.
    pub read: f64,
}

/// The truncation that recipes use by default.
fn keep() -> Truncation {
    let tail = Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 });
    Truncation {
        selection: Selection::TopK { k: 64 },
        always_keep: Vec::new(),
        values: Default::default(),
        tail,
        padding: 0,
        source: RowSource::FULL,
    }
}

/// Measures selection from random rows of `classes` classes on `device`.
///
/// # Errors
/// [`Error::Device`] if the device fails.
pub fn selection(device: &Device, classes: usize) -> Result<SelectionSeconds> {
    let (rows, keep) = ((CHUNK / (4 * classes)).max(1), keep());
    let make = |_| Tensor::<2>::random([rows, classes], Distribution::Normal(0.0, 2.2), device);
    let chunks: Vec<Tensor<2>> = (0..CHUNKS).map(make).collect();
    let (gold_ids, offsets) = (vec![7; rows], vec![0.5; rows]);
    let is_cpu = *device == Device::flex();
    let seconds = |work: &dyn Fn(&Tensor<2>) -> Result<Vec<Tensor<2>>>| fastest(device, &chunks, rows, work);
    let select = |chunk: &Tensor<2>| {
        let logits = match is_cpu {
            true => Logits::Host(host(chunk.clone())?.into()),
            false => Logits::Device(Box::new(chunk.clone())),
        };
        select_logits(&logits, &gold_ids, &offsets, &keep).map_err(|problem| match problem {
            SelectProblem::Device(problem) => Error::Device(problem),
            SelectProblem::Row(row, problem) => Error::Device(format!("row {row} of random numbers: {problem}")),
        })?;
        Ok(Vec::new())
    };
    Ok(SelectionSeconds {
        classes,
        copy: seconds(&|chunk| Ok(vec![chunk.clone() + 1.0]))?,
        kernel: kernel(device, &chunks, (&gold_ids, &keep))?,
        select: seconds(&select)?,
        read: seconds(&|chunk| host(chunk.clone()).map(|_| Vec::new()))?,
    })
}

#[cfg(feature = "wgpu")]
fn kernel(device: &Device, chunks: &[Tensor<2>], (ids, keep): (&[u32], &Truncation)) -> Result<Option<f64>> {
    if *device == Device::flex() {
        return Ok(None);
    }
    let summarise = |chunk: &Tensor<2>| Ok(crate::select::summarise_on_device(chunk.clone(), ids, keep));
    fastest(device, chunks, ids.len(), &summarise).map(Some)
}

#[cfg(not(feature = "wgpu"))]
fn kernel(_: &Device, _: &[Tensor<2>], _: (&[u32], &Truncation)) -> Result<Option<f64>> {
    Ok(None)
}

/// Seconds for one row in the fastest run over all chunks. The results of `work` are held until the device has
/// finished, because a device may skip computing what is dropped.
fn fastest<T>(
    device: &Device,
    chunks: &[Tensor<2>],
    rows: usize,
    work: &dyn Fn(&Tensor<2>) -> Result<T>,
) -> Result<f64> {
    let mut best = f64::INFINITY;
    for run in 0..=RUNS {
        sync(device)?;
        let start = Instant::now();
        let held = chunks.iter().map(work).collect::<Result<Vec<T>>>()?;
        sync(device)?;
        drop(held);
        let seconds = start.elapsed().as_secs_f64();
        best = if run > 0 { best.min(seconds) } else { best };
    }
    Ok(best / (rows * chunks.len()) as f64)
}

fn sync(device: &Device) -> Result<()> {
    device.sync().map_err(|e| Error::Device(e.to_string()))
}

/// Positions per second of the teacher's forward pass alone, with batches of `rows` windows of `width` random tokens.
///
/// # Errors
/// The teacher's error.
pub fn forward(teacher: &dyn Teacher, device: &Device, [rows, width]: [usize; 2]) -> Result<f64> {
    let mut rng = CounterRng::new("measured tokens", &[]);
    let sample = |id| {
        let tokens = (0..width).map(|_| rng.below(teacher.vocab_size() as u64) as u32).collect();
        Sample::new(SampleId(id), Origin { document: id, offset: 0 }, tokens)
    };
    let samples: Vec<Sample> = (0..rows as u64).map(sample).collect();
    let batches = batch_by_length(&samples, rows * width);
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    for run in 0..=RUNS {
        if run > 1 && begin.elapsed() > TIME_LIMIT {
            break;
        }
        let start = Instant::now();
        // Waits for each chunk before the next one takes its memory.
        for batch in &batches {
            teacher.outputs(batch, &mut |_: Outputs| sync(device))?;
        }
        best = if run > 0 { best.min(start.elapsed().as_secs_f64()) } else { best };
    }
    Ok((rows * (width - 1)) as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_measured_without_a_kernel() {
        let seconds = selection(&Device::flex(), 1 << 20).unwrap();
        assert!(seconds.kernel.is_none() && seconds.copy > 0.0 && seconds.select > 0.0 && seconds.read > 0.0);
    }
}
