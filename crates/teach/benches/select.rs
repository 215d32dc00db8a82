//! The cost of selection in microseconds per row, on one thread and on all threads, compared with one pass that only
//! reads the row.
//!
//! `make bench-select` prints a table of benches/README.md. Every result is first compared with the f64 reference.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{LogProbPrecision, RowErrors, RowSource, Selection, SoftRows, TailRule, Truncation};
use logitcask_select::RowSelector;
use logitcask_teach::select::select_rows;
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of logits in all rows together. At 128 MiB they fit into no cache, as a teacher's logits come from memory
/// too.
const LOGITS: usize = 1 << 25;
const RUNS: usize = 10;

fn keep(selection: Selection, tail: bool) -> Truncation {
    let rule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: tail.then_some(rule),
        padding: 0,
        source: RowSource::FULL,
    }
}

/// Logits like those of a language model: most are close together and a few are far above.
fn logits(vocab_size: usize) -> Vec<f32> {
    let mut rng = CounterRng::new("select bench", &[vocab_size as u64]);
    let mut logit = |_| {
        let z = 2.2 * rng.normal();
        (if z > 5.0 { 2.0 * z } else { z }) as f32
    };
    (0..LOGITS).map(&mut logit).collect()
}

/// A label for every row, sampled from the row's distribution.
fn labels(logits: &[f32], vocab_size: usize) -> Vec<u32> {
    let mut rng = CounterRng::new("select bench labels", &[vocab_size as u64]);
    let draw = |row: &[f32]| {
        let masses = row.iter().map(|z| f64::from(*z).exp()).scan(0.0, |mass, p| {
            *mass += p;
            Some(*mass)
        });
        let masses: Vec<f64> = masses.collect();
        let sampling_offset = rng.uniform() * masses[vocab_size - 1];
        masses.partition_point(|mass| *mass < sampling_offset).min(vocab_size - 1) as u32
    };
    logits.chunks_exact(vocab_size).map(draw).collect()
}

/// A measured case: its name, the work on all rows with one thread and, if that differs, with all threads.
type Case<'a> = (&'static str, Box<dyn FnMut() + 'a>, Option<Box<dyn FnMut() + 'a>>);

/// The best times of every case, in microseconds per row. The cases take turns, so that other load on the machine
/// affects all alike.
fn best(cases: &mut [Case], rows: usize) -> Vec<[f64; 2]> {
    let seconds = |work: &mut dyn FnMut()| {
        let clock = Instant::now();
        work();
        clock.elapsed().as_secs_f64()
    };
    let mut best = vec![[f64::INFINITY; 2]; cases.len()];
    for _ in 0..RUNS {
        for (best, (_, one, all)) in best.iter_mut().zip(&mut *cases) {
            best[0] = best[0].min(seconds(one));
            best[1] = best[1].min(all.as_mut().map_or(f64::INFINITY, |all| seconds(all)));
        }
    }
    best.into_iter().map(|pair| pair.map(|seconds| seconds * 1e6 / rows as f64)).collect()
}

fn prove(logits: &[f32], gold: &[u32], keep: &Truncation, vocab_size: usize) {
    let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
    RowSelector::new(keep).select(&logits[..vocab_size], gold[0], 0.5, &mut rows, &mut errors).unwrap();
    let (mut slow, mut slow_errors) = (SoftRows::new(keep), RowErrors::new(keep));
    select_reference(&logits[..vocab_size], gold[0], keep, 0.5, &mut slow, &mut slow_errors);
    assert_eq!(rows.class_ids, slow.class_ids);
    assert!((rows.log_z[0] - slow.log_z[0]).abs() < 1e-5);
}

/// A pass that reads a row and keeps its largest number.
fn stream(row: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; 64];
    for chunk in row.as_chunks::<64>().0 {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &z)| *lane = if z > *lane { z } else { *lane });
    }
    lanes.into_iter().fold(f32::MIN, f32::max)
}

fn main() {
    println!(
        "| classes | keeps | one thread, us per row | x one reading pass | all threads, us per row |\n|---|---|---|---|---|"
    );
    for vocab_size in [32_768, 131_072] {
        let logits = logits(vocab_size);
        let gold = labels(&logits, vocab_size);
        let sampling_offsets = vec![0.5; gold.len()];
        let keeps = [
            ("top 64, log Z", keep(Selection::TopK { k: 64 }, false)),
            ("and 5 atoms, errors at 19 temperatures", keep(Selection::TopK { k: 64 }, true)),
            ("top_p 0.95 of 64, the same", keep(Selection::TopP { p: 0.95, k: 64 }, true)),
            ("sample 32, the same", keep(Selection::Sample { n: 32, seed: 0 }, true)),
        ];
        let (logits, gold, sampling_offsets) = (&logits[..], &gold[..], &sampling_offsets[..]);
        let rows = || logits.chunks_exact(vocab_size);
        let mut cases: Vec<Case> =
            vec![("one reading pass", Box::new(|| rows().for_each(|row| _ = black_box(stream(row)))), None)];
        for (name, keep) in &keeps {
            prove(logits, gold, keep, vocab_size);
            let mut selector = RowSelector::new(keep);
            let one = move || {
                let (mut out, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
                for (row, &gold) in rows().zip(gold) {
                    selector.select(row, gold, 0.5, &mut out, &mut errors).unwrap();
                }
            };
            let all = || drop(select_rows(logits, gold, sampling_offsets, keep, vocab_size).unwrap());
            cases.push((name, Box::new(one), Some(Box::new(all))));
        }
        let best = best(&mut cases, gold.len());
        let pass = best[0][0];
        for ((name, ..), [one, all]) in cases.iter().zip(best) {
            let all = if all.is_finite() { format!("{all:.1}") } else { String::new() };
            println!("| {vocab_size} | {name} | {one:.1} | {:.1} | {all} |", one / pass);
        }
    }
}
