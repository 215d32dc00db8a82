//! A cache of ours as files that DistillKit reads.

use super::bits::pack;
use super::settings::{Compression, NumberFormat, id_bits};
use crate::error::{Error, Result};
use arrow_array::builder::{ListBuilder, UInt8Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use half::f16;
use logitcask_cache::CacheReader;
use logitcask_core::{PositionChoice, SoftRow};
use logitcask_files::AtomicFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the settings beside the files.
const SETTINGS: &str = "compression_config.yaml";
/// Key of the cache's id in the footer of every file.
const CACHE_ID: &str = "logitcask.cache_id";

/// Writes every split of `cache` into a folder of its own in `out`: a file for each of its units, and the settings. All
/// kept log-probabilities are stored exactly, so nothing is lost but the tail, log_z, the labels' own values and extra
/// columns. Files that exist are left as they are, so that an interrupted export goes on; returns `false` if `stop` was
/// set. `on_unit` is called after every unit.
///
/// # Errors
/// A cache whose positions do not all keep the same number of the likeliest classes, or that caches only some
/// positions; a folder that holds something else; errors in the cache.
pub fn export(cache: &CacheReader, out: &Path, stop: &AtomicBool, on_unit: &mut dyn FnMut()) -> Result<bool> {
    let settings = settings_of(cache)?;
    let plan = cache.plan();
    for split in cache.splits() {
        let folder = out.join(split);
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        write_settings(&folder.join(SETTINGS), &settings)?;
        for (number, unit) in plan.units(split).into_iter().flatten().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let path = folder.join(format!("data_{number}.parquet"));
            if !is_written(&path, cache)? {
                let bytes = encode(cache, unit, &settings).map_err(|error| match error {
                    EncodeError::Cache(error) => error.into(),
                    EncodeError::Parquet(error) => Error::file(&path, error),
                })?;
                create(&path, &bytes)?;
            }
            on_unit();
        }
    }
    Ok(true)
}

/// The settings that lose nothing of the kept classes, whose values are f16 numbers.
fn settings_of(cache: &CacheReader) -> Result<Compression> {
    let plan = cache.plan();
    let refused = |why: &str| Err(Error::file(cache.folder(), why));
    if plan.positions != (PositionChoice::All {}) {
        return refused(
            "it caches chosen positions only, but DistillKit's files have every position of a sequence: export a cache \
             that was made with positions = { kind = \"all\" }",
        );
    }
    if plan.keep.is_sampled() {
        return refused(
            "its classes were drawn at random, and DistillKit's files have no place for what a drawn class stands for: \
             export a cache with selection top_k",
        );
    }
    if !plan.keep.is_fixed() {
        return refused(
            "its positions keep different numbers of classes (top_p, or always_keep), but DistillKit's files have the \
             same number everywhere: export a cache with selection top_k and without always_keep",
        );
    }
    let k = plan.keep.max_kept(plan.vocab_size);
    Ok(Compression {
        d: plan.vocab_size.into(),
        k,
        exact_k: k,
        exact_dtype: NumberFormat::Float16,
        polynomial_terms: None,
        term_dtype: NumberFormat::Float32,
        residual_bins: Vec::new(),
        delta_encoding: false,
        error_diffusion: false,
        normalize_t: false,
    })
}

fn write_settings(path: &Path, settings: &Compression) -> Result<()> {
    let yaml = yaml_serde::to_string(settings).map_err(|error| Error::file(path, error))?;
    if !path.exists() {
        return create(path, yaml.as_bytes());
    }
    match fs::read_to_string(path).map_err(Error::io(path, "read it"))? == yaml {
        true => Ok(()),
        false => Err(Error::file(path, "these are the settings of other files: name an empty or a new folder")),
    }
}

/// Whether the file is there, and of this cache.
fn is_written(path: &Path, cache: &CacheReader) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let metadata = super::files::metadata(path)?;
    let id = metadata.iter().find(|(key, _)| key == CACHE_ID).map(|(_, value)| value.as_str());
    match id == Some(&cache.cache_id().to_string()) {
        true => Ok(true),
        false => {
            Err(Error::file(path, "this file is not of the cache that is exported: name an empty or a new folder"))
        }
    }
}

/// Writes a new file, which appears only when it is complete.
fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicFile::create(path, ".new-")?;
        file.write_all(bytes)?;
        file.sync()?;
        file.persist_new()?;
        logitcask_files::sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(Error::io(path, "write it"))
}

/// What may fail while a unit is encoded.
enum EncodeError {
    Cache(logitcask_cache::Error),
    Parquet(ParquetError),
}

/// The Parquet file of a unit.
fn encode(cache: &CacheReader, unit: usize, settings: &Compression) -> Result<Vec<u8>, EncodeError> {
    let range = cache.plan().unit(unit);
    let mut tokens = ListBuilder::new(UInt64Builder::new());
    let mut values = ListBuilder::new(ListBuilder::new(UInt8Builder::new()));
    let mut ids = ListBuilder::new(ListBuilder::new(UInt8Builder::new()));
    for sample in cache.range(range.split, range.ids()).map_err(EncodeError::Cache)? {
        sample.sample.input_ids.iter().for_each(|&token| tokens.values().append_value(token.into()));
        tokens.append(true);
        for row in sample.rows.iter() {
            let (of_values, of_ids) = position(row, settings);
            values.values().values().append_slice(&of_values);
            values.values().append(true);
            ids.values().values().append_slice(&of_ids);
            ids.values().append(true);
        }
        values.append(true);
        ids.append(true);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("input_ids", Arc::new(tokens.finish())),
        ("compressed_logprobs", Arc::new(values.finish())),
        ("bytepacked_indices", Arc::new(ids.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| EncodeError::Parquet(error.into()))?;
    let id = KeyValue::new(CACHE_ID.to_owned(), cache.cache_id().to_string());
    let properties = WriterProperties::builder()
        .set_compression(Codec::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![id]))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(EncodeError::Parquet)?;
    writer.write(&batch).and_then(|()| writer.into_inner()).map_err(EncodeError::Parquet)
}

/// The bytes of a position: its values, and its ids. A dense row is in the order of ids, so it is sorted first.
fn position(row: SoftRow<'_>, settings: &Compression) -> (Vec<u8>, Vec<u8>) {
    let mut entries: Vec<(u32, f32)> = row.class_ids.iter().copied().zip(row.log_probs.iter().copied()).collect();
    entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let values = entries.iter().flat_map(|(_, log_prob)| f16::from_f32(*log_prob).to_le_bytes()).collect();
    (values, pack(entries.iter().map(|(id, _)| u64::from(*id)), id_bits(settings.d)))
}
