//! Seeds and findings of fuzzing as tests: each file of `fuzz/corpus/` is passed to its fuzz target's function.

use super::*;
use crate::codec::{self, packed};
use crate::fuzzing::{self, KEPT, RECORDS, TRAINED};
use crate::shard::Shard;
use crate::{COMMITS_DIR, PARTS_DIR, PLAN_NAME, schema};
use arrow_array::cast::AsArray;
use arrow_schema::{DataType, Field};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Hundreds of times as long as a seed takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn no_seed_panics_or_takes_long() {
    let targets = entries(&corpus());
    assert_eq!(targets.len(), 3, "{targets:?}");
    for target in targets {
        let seeds = entries(&target);
        assert!(seeds.len() > 4, "{}: {} seeds", target.display(), seeds.len());
        for seed in seeds {
            let (name, data) = (target.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&seed).unwrap());
            // In a separate thread, so that a seed that never ends fails too.
            let (done, end) = mpsc::channel();
            std::thread::spawn(move || {
                fuzzing::run(&name, &data);
                done.send(()).unwrap();
            });
            assert_eq!(end.recv_timeout(PATIENCE), Ok(()), "{} panicked or took {PATIENCE:?}", seed.display());
        }
    }
}

/// Plain shards from our writer and from other writers, some of them invalid. Without compression, a fuzzer can reach
/// the code behind zstd.
fn plain_seeds() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let plan = fuzzing::plain_plan();
    let rows = fuzzing::rows(&plan, fuzzing::ROWS);
    let batch = codec::to_batch(&plan, &rows, None, true).unwrap();
    let constants: Vec<_> =
        schema::constants(&plan, plan.id(), 0).into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let other = |compression, version, has_dictionary| {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(false)
            .set_data_page_row_count_limit(2)
            .set_key_value_metadata(Some(constants.clone()));
        let lists = schema::columns(&plan);
        let lists = lists.fields().iter().filter(|field| matches!(field.data_type(), DataType::List(_)));
        let path = |field: &Arc<Field>| [field.name(), "list", "element"].map(str::to_owned).to_vec().into();
        let properties = lists.fold(properties, |p, list| p.set_column_dictionary_enabled(path(list), has_dictionary));
        let properties = properties.build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema::columns(&plan), options).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    let (first, second) = (WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0);
    let written = codec::encode(&plan, plan.id(), 0, &rows).unwrap();
    let refused = vec![written[..written.len() - 9].to_vec()];
    let read = vec![
        other(Compression::UNCOMPRESSED, second, false),
        other(Compression::SNAPPY, first, true),
        written,
        other(Compression::UNCOMPRESSED, first, false),
        other(Compression::UNCOMPRESSED, first, true),
    ];
    (refused, read)
}

/// For each kind, a row with a model that was trained on many rows, a model alone, and that model with a row.
fn packed_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, kept) in (0..).zip(KEPT) {
        let plan = fuzzing::plan(Layout::Packed, kept);
        let (few, many) = (fuzzing::rows(&plan, fuzzing::ROWS), fuzzing::rows(&plan, fuzzing::MODEL_ROWS));
        let packed = |rows: &[(Sample, SoftRows)]| {
            let model = packed::train(&plan, rows);
            let batch = codec::to_batch(&plan, &rows[..1], Some(&model), true).unwrap();
            let row = batch.column_by_name(schema::PACKED).unwrap().as_binary::<i32>().value(0).to_vec();
            (model.to_bytes(), row)
        };
        seeds.push([vec![TRAINED + number], packed(&many).1].concat());
        let (model, row) = packed(&few);
        let alone = [vec![number], u16::try_from(model.len()).unwrap().to_le_bytes().to_vec(), model].concat();
        seeds.extend([alone.clone(), [alone, row].concat()]);
    }
    seeds
}

/// Each record of a complete cache, unchanged and truncated.
fn manifest_seeds() -> Vec<Vec<u8>> {
    let plan = fuzzing::plain_plan();
    let folder = tempfile::tempdir().unwrap();
    let writer = CacheWriter::open(folder.path(), plan.clone(), b"tokenizer").unwrap();
    writer.write_unit(0, &fuzzing::rows(&plan, fuzzing::ROWS), &RowErrors::new(&plan.keep)).unwrap();
    writer.finish().unwrap();
    let mut seeds = Vec::new();
    for (number, name) in RECORDS.into_iter().enumerate() {
        let is_folder = [COMMITS_DIR, PARTS_DIR].contains(&name);
        let name = if is_folder { format!("{name}/00000.json") } else { name.to_owned() };
        let mut seed = vec![number as u8];
        seed.extend(fs::read(folder.path().join(name)).unwrap());
        seeds.push(seed[..seed.len() - 3].to_vec());
        seeds.push(seed);
    }
    seeds.push([vec![0], json::to_bytes(&fuzzing::partial_plan())].concat());
    seeds
}

/// A shard whose source told less, without compression.
fn partial_seed() -> Vec<u8> {
    let plan = fuzzing::partial_plan();
    let batch = codec::to_batch(&plan, &fuzzing::rows(&plan, fuzzing::ROWS), None, true).unwrap();
    let constants = schema::constants(&plan, plan.id(), 0).into_iter().map(|(key, value)| KeyValue::new(key, value));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(constants.collect())).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema::columns(&plan), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn seeds_are_what_a_cache_of_today_holds() {
    let partial = fuzzing::partial_plan();
    let shard = Shard::of_bytes("seed".into(), partial_seed().into(), (&partial, partial.id()), 0).unwrap();
    assert_eq!(shard.read(&partial, 0, 0..fuzzing::ROWS).unwrap().len() as u64, fuzzing::ROWS);
    fuzzing::plain(&partial_seed());
    let plan = fuzzing::plain_plan();
    let (refused, read) = plain_seeds();
    for seed in refused {
        let shard = Shard::of_bytes("seed".into(), seed.into(), (&plan, plan.id()), 0);
        assert!(shard.and_then(|shard| shard.read(&plan, 0, 0..fuzzing::ROWS)).is_err());
    }
    for seed in read {
        fuzzing::plain(&seed);
        let shard = Shard::of_bytes("seed".into(), seed.into(), (&plan, plan.id()), 0).unwrap();
        assert_eq!(shard.read(&plan, 0, 0..fuzzing::ROWS).unwrap().len() as u64, fuzzing::ROWS);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(PLAN_NAME), &manifest_seeds()[1][1..]).unwrap();
    assert_eq!(Plan::read(folder.path()).unwrap(), plan);
    packed_seeds().iter().for_each(|seed| fuzzing::packed_row(seed));
}

#[test]
#[ignore = "rewrites the seeds, after a change of the format: cargo test write_seeds -- --ignored"]
fn write_seeds() {
    let (refused, read) = plain_seeds();
    let plain = [refused, read, vec![partial_seed()]].concat();
    for (target, seeds) in [("manifest", manifest_seeds()), ("plain", plain), ("packed_row", packed_seeds())] {
        let folder = corpus().join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
