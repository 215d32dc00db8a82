//! How opening and streaming grow with the cache: time and memory for 10 to 10,000 shards, and for 1x, 4x, 16x the data.
//!
//! `cargo bench --bench reader`; prints the tables of benches/README.md.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use logitcask_cache::{CacheReader, CacheWriter, FORMAT_VERSION, Layout, Pin, Plan};
use logitcask_core::rng::CounterRng;
use logitcask_core::select::select_reference;
use logitcask_core::{Fingerprint, Keep, Origin, RowErrors, Sample, SampleId, Selection, SoftRows, TailRule, Values};
use std::path::Path;
use std::time::Instant;

const VOCAB: u32 = 1000;

fn plan(samples: u64, per_unit: u64, layout: Layout) -> Plan {
    let pin = |bytes: &[u8]| Pin { name: "bench".into(), fingerprint: Fingerprint::of(bytes) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "bench".into(),
        layout,
        vocab_size: VOCAB,
        max_length: 128,
        precision: "f32".into(),
        batch_tokens: 1,
        keep: Keep {
            selection: Selection::TopK { k: 64 },
            always_keep: Vec::new(),
            values: Values::F16,
            tail: Some(tail),
        },
        teacher: pin(b"teacher"),
        tokenizer: pin(b"{}"),
        bos: None,
        end: None,
        dataset: pin(b"dataset"),
        units: Plan::units_of(&[("train".into(), samples)], per_unit),
    }
}

/// A few different samples, which stand for all: decoding does not know the difference.
fn some_rows(plan: &Plan, length: usize) -> Vec<(Sample, SoftRows)> {
    let of = |seed: u64| {
        let mut rng = CounterRng::new("bench", &[seed]);
        let input_ids: Vec<u32> = (0..length).map(|_| rng.below(u64::from(VOCAB)) as u32).collect();
        let sample = Sample { id: SampleId(0), origin: Origin { document: 0, offset: 0 }, input_ids };
        let mut rows = SoftRows::new(&plan.keep);
        for &gold in sample.gold_ids() {
            let logits: Vec<f32> = (0..VOCAB).map(|_| 3.0 * rng.normal() as f32).collect();
            select_reference(&logits, gold, &plan.keep, 0.0, &mut rows, &mut RowErrors::new(&plan.keep));
        }
        (sample, rows)
    };
    (0..16).map(of).collect()
}

fn write(folder: &Path, plan: &Plan, length: usize) {
    let rows = some_rows(plan, length);
    let writer = CacheWriter::open(folder, plan.clone(), b"{}").unwrap();
    for unit in 0..plan.units.len() {
        let (start, end) = (plan.units[unit].start, plan.units[unit].end);
        let numbered = |id: u64| {
            let (sample, soft) = &rows[id as usize % rows.len()];
            (Sample { id: SampleId(id), ..sample.clone() }, soft.clone())
        };
        let unit_rows: Vec<_> = (start..end).map(numbered).collect();
        writer.write_unit(unit, &unit_rows, &RowErrors::new(&plan.keep)).unwrap();
    }
    writer.finish().unwrap();
}

/// A line of /proc/self/status in MiB; 0 where there is none.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn main() {
    println!("| shards | manifest, KiB | open, ms | memory of the open reader, MiB | first sample after open, ms |");
    println!("|---|---|---|---|---|");
    for shards in [10, 100, 1_000, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(shards, 1, Layout::Plain);
        write(folder.path(), &plan, 3);
        let before = status("RssAnon");
        let start = Instant::now();
        let reader = CacheReader::open(folder.path()).unwrap();
        let open = start.elapsed().as_secs_f64();
        let memory = status("RssAnon") - before;
        let start = Instant::now();
        assert_eq!(reader.get("train", SampleId(shards - 1)).unwrap().rows.len(), 2);
        let first = start.elapsed().as_secs_f64();
        let manifest = std::fs::metadata(folder.path().join("manifest.json")).unwrap().len();
        println!("| {shards} | {} | {:.1} | {memory:.1} | {:.2} |", manifest / 1024, open * 1e3, first * 1e3);
    }
    println!(
        "\n| layout | samples | shards' bytes, MiB | epoch, s | entries/s | heap at the end, MiB | mapped pages, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for layout in [Layout::Plain, Layout::Packed] {
        for times in [1, 4, 16] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(512 * times, 128, layout);
            write(folder.path(), &plan, 128);
            let reader = CacheReader::open(folder.path()).unwrap();
            let (start, mut entries) = (Instant::now(), 0);
            for row in reader.shuffled("train", 1, 0, 0).unwrap() {
                entries += row.unwrap().rows.class_ids.len();
            }
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "| {} | {} | {:.0} | {seconds:.2} | {:.1} M | {:.0} | {:.0} |",
                layout.name(),
                512 * times,
                reader.manifest().totals.bytes as f64 / (1 << 20) as f64,
                entries as f64 / seconds / 1e6,
                status("RssAnon"),
                status("RssFile")
            );
        }
    }
}
