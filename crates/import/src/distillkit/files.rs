//! The Parquet files of a folder, as one sequence of rows.

use crate::error::{Error, Result};
use arrow_schema::Schema;
use logitcask_files::natural_order;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are decoded together: each may have megabytes.
const ROWS_PER_BATCH: usize = 4;

/// A Parquet file.
pub(super) struct Part {
    pub path: Arc<Path>,
    /// Rows of each row group.
    groups: Vec<u64>,
}

impl Part {
    /// Reads the footer.
    fn open(path: &Path) -> Result<Self> {
        let builder = builder(path)?;
        let groups = builder.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64).collect();
        Ok(Self { path: path.into(), groups })
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.groups.iter().sum()
    }

    /// The names of the columns.
    pub fn columns(&self) -> Result<Vec<String>> {
        Ok(names(builder(&self.path)?.schema()))
    }

    /// Reads the rows `range` of these columns, whose order in a batch is that of the file. Row groups without any of
    /// them are not read.
    pub fn read(&self, columns: &[&str], range: Range<u64>) -> Result<ParquetRecordBatchReader> {
        let builder = builder(&self.path)?;
        let find = |name: &&str| {
            builder.schema().index_of(name).map_err(|_| {
                let there = names(builder.schema()).join(", ");
                let problem = format!("there is no column `{name}`; the columns are {there}: {WRONG_SETTINGS}");
                Error::file(&self.path, problem)
            })
        };
        let mask =
            ProjectionMask::roots(builder.parquet_schema(), columns.iter().map(find).collect::<Result<Vec<usize>>>()?);
        let (mut start, mut before, mut chosen) = (0, 0, Vec::new());
        for (number, rows) in self.groups.iter().enumerate() {
            match (start + rows <= range.start, start < range.end) {
                (true, _) => before += rows,
                (false, true) => chosen.push(number),
                (false, false) => {}
            }
            start += rows;
        }
        let (skipped, count) = ((range.start - before) as usize, (range.end - range.start) as usize);
        let builder = builder.with_projection(mask).with_row_groups(chosen).with_batch_size(ROWS_PER_BATCH);
        builder.with_offset(skipped).with_limit(count).build().map_err(|error| Error::file(&self.path, error))
    }
}

/// What may be wrong where a column is missing.
const WRONG_SETTINGS: &str = "the settings are those of other files, or these are none that DistillKit wrote";

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// Opens a file. Its types are Parquet's own: the writer's variants of lists and strings do not matter.
fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(Error::io(path, "read it"))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| Error::file(path, format!("not a whole Parquet file: {error}; fetch it again")))
}

/// The key-value pairs in a file's footer.
pub(super) fn metadata(path: &Path) -> Result<Vec<(String, String)>> {
    let builder = builder(path)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    Ok(pairs.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect())
}

/// The Parquet files at `source`, a folder or one file, ordered by the numbers in their names.
///
/// # Errors
/// No such files, or a gap in `data_0.parquet`, `data_1.parquet`, ...
pub(super) fn parts(source: &Path) -> Result<Vec<Part>> {
    let mut paths = match source.is_dir() {
        false => vec![source.to_owned()],
        true => {
            let entries = fs::read_dir(source).map_err(Error::io(source, "list it"))?;
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<Result<Vec<PathBuf>, _>>().map_err(Error::io(source, "list it"))?
        }
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    if paths.is_empty() {
        return Err(Error::file(
            source,
            "no .parquet file is here; name the folder that DistillKit wrote, or one of its files",
        ));
    }
    paths.sort_by(|a, b| natural_order(a, b));
    if source.is_dir() {
        check_gaps(source, &paths)?;
    }
    paths.iter().map(|path| Part::open(path)).collect()
}

/// The number of a file that DistillKit wrote.
fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("data_")?.parse().ok()
}

/// Refuses numbered files of which one is missing: the rows after it would get other places.
fn check_gaps(folder: &Path, paths: &[PathBuf]) -> Result<()> {
    let Some(numbers) = paths.iter().map(|path| number_of(path)).collect::<Option<Vec<u64>>>() else { return Ok(()) };
    match (0..).zip(&numbers).find(|(expected, got)| expected != *got) {
        None => Ok(()),
        Some((missing, _)) => Err(Error::file(
            folder,
            format!("data_{missing}.parquet is missing, though data_{} is there: fetch it", numbers[numbers.len() - 1]),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_by_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let names = |names: &[&str]| names.iter().map(|name| folder.path().join(name)).collect::<Vec<PathBuf>>();
        let mut paths = names(&["data_10.parquet", "data_9.parquet", "data_0.parquet"]);
        paths.sort_by(|a, b| natural_order(a, b));
        assert_eq!(paths, names(&["data_0.parquet", "data_9.parquet", "data_10.parquet"]));
        let error = check_gaps(folder.path(), &paths).unwrap_err().to_string();
        assert!(error.contains("data_1.parquet is missing, though data_10 is there"), "{error}");
        check_gaps(folder.path(), &names(&["data_0.parquet", "data_1.parquet"])).unwrap();
        check_gaps(folder.path(), &names(&["train-00001-of-00002.parquet"])).unwrap();
    }
}
