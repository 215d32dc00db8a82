//! `data/vectors/v2`: caches that every reader of the format must read and every writer must reproduce.

use super::*;
use crate::CachedSample;
use crate::card::CARD_NAME;
use std::collections::BTreeMap;
use std::path::PathBuf;

const SELECTIONS: [(&str, Selection); 4] =
    [("top_k", TOP_K), ("top_p", TOP_P), ("sample", SAMPLE), ("dense", Selection::Dense {})];
const QUANTISED: LogProbPrecision = LogProbPrecision::Quantised { step: 0.0625 };

/// Every vector by name: two splits, one of them with two units, and together every option of the format.
fn vectors() -> BTreeMap<String, Plan> {
    let mut vectors = BTreeMap::new();
    for layout in [Layout::Plain, Layout::Packed] {
        for (name, selection) in SELECTIONS {
            let plan = Plan { layout, ..plan(selection, &[("train", 3), ("val", 1)], 2) };
            vectors.insert(format!("{}-{name}", layout.name()), plan);
        }
        let mut plan = Plan { layout, ..plan(TOP_K, &[("train", 2)], 2) };
        plan.keep.values = QUANTISED;
        plan.keep.always_keep = vec![5, 30];
        vectors.insert(format!("{}-quantised", layout.name()), plan);
        let share = PositionChoice::Share { share: 0.4, seed: 0 };
        vectors.insert(format!("{}-share", layout.name()), Plan { layout, positions: share, ..plan_of_one(TOP_P) });
        let mut plan = Plan { layout, ..plan_of_one(TOP_K) };
        plan.keep.padding = 9;
        vectors.insert(format!("{}-padding", layout.name()), plan);
        let of = |selection| Plan { layout, ..plan_of_one(selection) };
        vectors.insert(format!("{}-log_probs", layout.name()), told(of(TOP_K), LOG_PROBS));
        vectors.insert(format!("{}-renormalised", layout.name()), told(of(TOP_P), RENORMALISED));
    }
    // The tail of two classes leaves one of three atoms empty; in the formula of others it would count e^158 here.
    let mut plan = plan_of_one(Selection::TopK { k: VOCAB - 2 });
    plan.keep.tail = Some(TailRule { lowest_temperature: 0.05, highest_temperature: 1.0, atoms: 3 });
    vectors.insert("plain-empty_atom".to_owned(), plan);
    vectors
}

fn plan_of_one(selection: Selection) -> Plan {
    plan(selection, &[("train", 2)], 2)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vectors/v2")
}

fn rows_of_unit(reader: &CacheReader, unit: usize) -> Vec<(Sample, SoftRows)> {
    let range = reader.plan().unit(unit);
    let rows = range.ids().map(|id| reader.get(range.split, SampleId(id)).unwrap());
    rows.map(|row| (row.sample, row.rows)).collect()
}

/// The JSON of a decoded cache: its cache_id, then one line per sample.
fn described(reader: &CacheReader) -> String {
    let mut text = format!("{{\n\"cache_id\": \"{}\",\n\"rows\": [", reader.cache_id());
    for (number, (split, row)) in rows(reader).iter().enumerate() {
        let comma = if number == 0 { "\n" } else { ",\n" };
        text += &format!("{comma}{}", line(split, row));
    }
    text + "\n]\n}\n"
}

fn rows(reader: &CacheReader) -> Vec<(String, CachedSample)> {
    let of = |split: &str| -> Vec<_> {
        reader.in_order(split).unwrap().map(|row| (split.to_owned(), row.unwrap())).collect()
    };
    reader.splits().into_iter().flat_map(of).collect()
}

/// One sample. An f32 is written as the shortest decimal that rounds to it, a tail atom as its two integers.
fn line(split: &str, CachedSample { sample, rows }: &CachedSample) -> serde_json::Value {
    serde_json::json!({
        "split": split,
        "sample_id": sample.id.0,
        "document": sample.origin.document,
        "document_offset": sample.origin.offset,
        "input_ids": sample.input_ids,
        "positions": sample.position_indices().collect::<Vec<_>>(),
        "input_hash": sample.input_hash().to_string(),
        "counts": rows.counts,
        "drawn": rows.drawn,
        "class_ids": rows.class_ids,
        "log_probs": floats(&rows.log_probs),
        "log_z": floats(&rows.log_z),
        "gold_log_probs": floats(&rows.gold_log_probs),
        "gold_ranks": rows.gold_ranks,
        "tail": rows.tail.iter().map(|atom| [atom.log_prob, atom.log_weight]).collect::<Vec<_>>(),
    })
}

/// As text, so that no library rounds it through double precision.
fn floats(values: &[f32]) -> Vec<String> {
    values.iter().map(f32::to_string).collect()
}

/// Error statistics that do not depend on the rows, so that a vector can be rewritten from its rows alone.
fn errors(plan: &Plan) -> RowErrors {
    let mut errors = RowErrors::new(&plan.keep);
    for (i, sum) in errors.log_z.iter_mut().enumerate() {
        sum.add(0.001);
        sum.add(0.000_25 * i as f64);
    }
    errors.codec.add(0.002);
    errors
}

fn write_vector(folder: &Path, plan: &Plan, rows_of: impl Fn(usize) -> Vec<(Sample, SoftRows)>) {
    let writer = CacheWriter::open(folder, plan.clone(), TOKENIZER).unwrap();
    for unit in writer.pending().unwrap() {
        writer.write_unit(unit, &rows_of(unit), &errors(plan)).unwrap();
    }
    writer.finish().unwrap();
    // The card is for people and not part of the format.
    fs::remove_file(folder.join(CARD_NAME)).unwrap();
}

#[test]
fn every_vector_is_read_as_it_always_was() {
    for name in vectors().keys() {
        let reader = CacheReader::open(&folder().join(name)).unwrap();
        let expected = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        // Not assert_eq, whose message would be a page of numbers.
        let got = described(&reader);
        let differs = got.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
        assert!(got == expected, "{name}: {differs:?}");
        serde_json::from_str::<serde_json::Value>(&expected).unwrap();
        let report = crate::verify(reader.folder(), crate::Tier::Rows, &mut |_, _| {}).unwrap();
        assert!(report.is_whole(), "{name}: {:?}", report.findings);
    }
    let there = fs::read_dir(folder()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(there, vectors().len());
}

#[test]
fn every_vector_is_written_as_it_always_was() {
    for name in vectors().keys() {
        let reader = CacheReader::open(&folder().join(name)).unwrap();
        let again = tempfile::tempdir().unwrap();
        write_vector(again.path(), reader.plan(), |unit| rows_of_unit(&reader, unit));
        let units = 0..reader.plan().unit_count();
        let (shards, commits) =
            (units.clone().map(|unit| reader.plan().shard_name(unit)), units.map(crate::commit::name));
        let names = ["plan.json", "tokenizer.json", "manifest.json", "_manifest/00000.json"].map(str::to_owned);
        for file in names.into_iter().chain(commits).chain(shards) {
            let [expected, got] = [reader.folder(), again.path()].map(|folder| fs::read(folder.join(&file)).unwrap());
            assert!(got == expected, "{name}/{file} comes out with other bytes");
        }
    }
}

#[test]
#[ignore = "rewrites data/vectors/v2; not to be run once version 2 is released"]
fn regenerate_vectors() {
    for (name, plan) in vectors() {
        let folder = folder().join(&name);
        let _ = fs::remove_dir_all(&folder);
        // Two to six tokens are enough for every column, and few enough to read.
        write_vector(&folder, &plan, |unit| {
            let range = plan.unit(unit);
            range.ids().map(|id| row_of(&plan, id, 2 + (id as usize * 3) % 5, 11)).collect()
        });
        describe(&folder);
    }
}

/// Writes the rows of every plain vector in the packed layout, for a change of that layout alone.
#[test]
#[ignore = "rewrites the packed ones of data/vectors/v2; not to be run once version 2 is released"]
fn regenerate_packed_vectors() {
    for (name, plan) in vectors().into_iter().filter(|(_, plan)| plan.layout == Layout::Packed) {
        let folder = folder().join(&name);
        let _ = fs::remove_dir_all(&folder);
        let plain = CacheReader::open(&folder.with_file_name(name.replace("packed", "plain"))).unwrap();
        write_vector(&folder, &plan, |unit| rows_of_unit(&plain, unit));
        describe(&folder);
    }
}

/// Writes the rows of a vector beside it.
fn describe(folder: &Path) {
    let text = described(&CacheReader::open(folder).unwrap());
    fs::write(folder.with_extension("json"), text).unwrap();
}
