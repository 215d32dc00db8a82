//! Columns beside the logits.

use super::{TOKENIZER, TOP_K, TOP_P, forge, local, plan, read_error, rows_of, write};
use crate::verify::{Tier, verify};
use crate::{CacheReader, CacheWriter, Error, Layout, Plan, codec, convert};
use logitcask_core::{ColumnPrecision, ExtraColumn, ExtraSource, HiddenPositions, RowErrors, SampleId, SoftRows};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn column(name: &str, positions: HiddenPositions, precision: ColumnPrecision, size: u32) -> ExtraColumn {
    ExtraColumn { name: name.into(), from: ExtraSource::Hidden { positions, project: None }, precision, size }
}

/// Two splits, with vectors of positions in f16 and of samples in f32.
fn with_columns(layout: Layout) -> Plan {
    let extras = vec![
        column("hidden", HiddenPositions::All, ColumnPrecision::F16, 3),
        column("pooled", HiddenPositions::Mean, ColumnPrecision::F32, 5),
    ];
    Plan { layout, extras, ..plan(TOP_P, &[("train", 12), ("test", 5)], 6) }
}

fn written(layout: Layout) -> (tempfile::TempDir, Plan) {
    let (folder, plan) = (tempfile::tempdir().unwrap(), with_columns(layout));
    write(folder.path(), &plan);
    (folder, plan)
}

fn only(rows: &SoftRows, columns: &[usize]) -> SoftRows {
    SoftRows { extras: columns.iter().map(|&column| rows.extras[column].clone()).collect(), ..rows.clone() }
}

#[test]
fn columns_are_read_if_they_are_asked_for() {
    for layout in [Layout::Plain, Layout::Packed] {
        let (folder, plan) = written(layout);
        let reader = CacheReader::open(folder.path()).unwrap();
        let expected: Vec<_> = (0..2).flat_map(|unit| rows_of(&plan, unit, 0)).collect();
        for (names, columns) in [(&[][..], &[][..]), (&["pooled"], &[1]), (&["pooled", "hidden"], &[1, 0])] {
            let reader = reader.with_extras(names).unwrap();
            let whole: Vec<_> = reader.in_order("train").unwrap().map(Result::unwrap).collect();
            assert_eq!(whole.len(), 12);
            for (read, (sample, rows)) in whole.iter().zip(&expected) {
                assert_eq!((&read.sample, &read.rows), (sample, &only(rows, columns)), "{layout:?} {names:?}");
            }
            assert_eq!(reader.get("train", SampleId(7)).unwrap(), whole[7]);
            assert_eq!(reader.range("train", 4..9).unwrap(), whole[4..9]);
            for read in reader.shuffled("train", 1, 0, 3).unwrap().map(Result::unwrap) {
                assert_eq!(read, whole[read.sample.id.0 as usize]);
            }
        }
        let Err(Error::NoExtra { column, there, .. }) = reader.with_extras(&["pooled", "logits"]) else { panic!() };
        assert_eq!((column.as_str(), there), ("logits", vec!["hidden".to_owned(), "pooled".to_owned()]));
    }
}

#[test]
fn a_cache_with_columns_is_whole_and_converts_to_the_other_layout() {
    let (folder, packed) = (written(Layout::Plain).0, written(Layout::Packed).0);
    let report = verify(folder.path(), Tier::Rows, &mut |_, _| ()).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let into = tempfile::tempdir().unwrap();
    let cache = CacheReader::open(folder.path()).unwrap();
    convert(&cache, into.path(), Layout::Packed, &AtomicBool::new(false), &mut || ()).unwrap().unwrap();
    let id = |folder: &Path| CacheReader::open(folder).unwrap().cache_id();
    assert_eq!(id(into.path()), id(packed.path()));
}

/// A change that spoils rows.
type Edit<'a> = &'a dyn Fn(&mut SoftRows);

#[test]
fn a_writer_refuses_numbers_that_do_not_fit_their_column() {
    let plan = with_columns(Layout::Plain);
    let write = |edit: Edit<'_>| {
        let folder = tempfile::tempdir().unwrap();
        let writer = CacheWriter::open(folder.path(), plan.clone(), TOKENIZER).unwrap();
        let mut rows = rows_of(&plan, 0, 0);
        edit(&mut rows[2].1);
        writer.write_unit(0, &rows, &RowErrors::new(&plan.keep)).map(|_| ()).map_err(|error| error.to_string())
    };
    write(&|_| ()).unwrap();
    let edits: [(Edit<'_>, &str); 7] = [
        (&|rows| _ = rows.extras.pop(), "numbers of 1 extra columns, the plan has 2"),
        (&|rows| _ = rows.extras[0].values.pop(), "`hidden` has"),
        (&|rows| rows.extras[1].values.push(0.0), "`pooled` has 6 numbers, 5 belong there"),
        (&|rows| rows.extras.swap(0, 1), "`hidden` has"),
        (&|rows| rows.extras[0].values[1] = f32::INFINITY, "`hidden` has inf, which is no finite f16"),
        (&|rows| rows.extras[0].values[1] = 1.000_1, "`hidden` has 1.0001, which is no finite f16"),
        (&|rows| rows.extras[1].values[4] = f32::NAN, "`pooled` has NaN, which is no finite f32"),
    ];
    for (edit, wanted) in edits {
        let error = write(edit).unwrap_err();
        assert!(error.contains(wanted) && error.contains("sample 2"), "{error}");
    }
}

#[test]
fn a_bad_column_is_found_by_whoever_reads_it_and_by_nobody_else() {
    let (folder, plan) = written(Layout::Packed);
    let mut rows = rows_of(&plan, 1, 0);
    rows[4].1.extras[1].values[0] = f32::NAN;
    let bytes = codec::encode(&plan, plan.id(), 1, &rows).unwrap();
    forge(folder.path(), &plan, 1, &bytes);
    assert_eq!(read_error(folder.path(), "train"), None);
    let reader = CacheReader::open(folder.path()).unwrap();
    let first_error = |names: &[&str]| {
        let mut samples = reader.with_extras(names).unwrap().in_order("train").unwrap();
        samples.find_map(|sample| sample.err()).map(|error| error.to_string())
    };
    assert_eq!(first_error(&["hidden"]), None);
    let error = first_error(&["pooled"]).unwrap();
    assert!(error.contains("sample 10") && error.contains("`pooled` has NaN"), "{error}");
    let report = verify(folder.path(), Tier::Rows, &mut |_, _| ()).unwrap();
    assert!(!report.is_whole());
}

#[test]
fn a_plan_refuses_names_that_are_taken_and_lists_columns_as_a_difference() {
    let check = |extras: Vec<ExtraColumn>| Plan { extras, ..plan(TOP_K, &[("train", 4)], 4) }.check();
    let hidden = |name: &str| column(name, HiddenPositions::All, ColumnPrecision::F16, 3);
    check(vec![hidden("hidden"), hidden("hidden_2")]).unwrap();
    for (extras, wanted) in [
        (vec![hidden("hidden"), hidden("hidden")], "names that no other column has"),
        (vec![hidden("log_z")], "names that no other column has"),
        (vec![hidden("packed")], "names that no other column has"),
        (vec![hidden("Hidden")], "a-z"),
        ((0..17).map(|i| hidden(&format!("hidden_{i}"))).collect(), "at most 16"),
    ] {
        let error = check(extras).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // A huge vector for each of many positions does not fit a page.
    let huge = Plan {
        max_length: 1 << 14,
        extras: vec![column("hidden", HiddenPositions::All, ColumnPrecision::F16, 1 << 16)],
        ..plan(TOP_K, &[("train", 4)], 4)
    };
    assert!(huge.check().unwrap_err().to_string().contains("max_length"));
    let (with, without) = (with_columns(Layout::Plain), Plan { extras: Vec::new(), ..with_columns(Layout::Plain) });
    assert_ne!(with.id(), without.id());
    let [difference] = &without.differences(&with)[..] else { panic!() };
    assert!(difference.contains("none here, hidden (hidden states, all, 3 f16); pooled"), "{difference}");
}

#[test]
fn a_column_lies_in_a_shard_as_a_list_of_its_name() {
    let (folder, plan) = written(Layout::Plain);
    let bytes = crate::Store::get(&local(folder.path()), &plan.shard_name(0), u64::MAX).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[names.len() - 2..], ["hidden", "pooled"]);
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let column = batch.column_by_name("pooled").unwrap();
    let lists = arrow_array::cast::AsArray::as_list::<i32>(column);
    let row = lists.value(2);
    let numbers = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Float32Type>(&row);
    assert_eq!(numbers.values().to_vec(), rows_of(&plan, 0, 0)[2].1.extras[1].values);
}
