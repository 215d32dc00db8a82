//! Columns of lists, and of lists of lists, whatever number type a writer chose.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ListArray, RecordBatch};
use std::borrow::Cow;
use std::ops::Range;

/// The numbers of a list of lists: for each row a list of each position.
pub(super) struct Nested<'a, T: Clone> {
    rows: &'a ListArray,
    positions: &'a ListArray,
    numbers: Cow<'a, [T]>,
}

impl<'a, T: Number> Nested<'a, T> {
    /// The column of this name.
    pub fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, String> {
        let rows = list(batch, name)?;
        let positions = rows.values().as_list_opt::<i32>();
        let positions = positions.filter(|lists| lists.null_count() == 0);
        let positions = positions.ok_or_else(|| format!("`{name}` is not a list of lists without nulls"))?;
        Ok(Self { rows, positions, numbers: numbers(positions.values().as_ref(), name)? })
    }

    /// Number of positions of a row.
    pub fn positions(&self, row: usize) -> usize {
        range(self.rows, row).len()
    }

    /// The numbers of a position of a row.
    pub fn position(&self, row: usize, index: usize) -> &[T] {
        &self.numbers[range(self.positions, range(self.rows, row).start + index)]
    }
}

/// The numbers of a list.
pub(super) struct Flat<'a, T: Clone> {
    rows: &'a ListArray,
    numbers: Cow<'a, [T]>,
}

impl<'a, T: Number> Flat<'a, T> {
    /// The column of this name.
    pub fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, String> {
        let rows = list(batch, name)?;
        Ok(Self { rows, numbers: numbers(rows.values().as_ref(), name)? })
    }

    /// The numbers of a row.
    pub fn row(&self, row: usize) -> &[T] {
        &self.numbers[range(self.rows, row)]
    }
}

fn range(lists: &ListArray, index: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    offsets[index] as usize..offsets[index + 1] as usize
}

fn list<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ListArray, String> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"))?;
    let lists = column.as_list_opt::<i32>().filter(|lists| lists.null_count() == 0);
    lists.ok_or_else(|| format!("`{name}` is not a list without nulls, it is {}", column.data_type()))
}

/// A number that columns hold.
pub(super) trait Number: Copy {
    /// The numbers of an array, if it is of a type that can hold such numbers and all of them fit.
    fn of(array: &dyn Array) -> Option<Cow<'_, [Self]>>;
}

fn numbers<'a, T: Number>(array: &'a dyn Array, name: &str) -> Result<Cow<'a, [T]>, String> {
    let numbers = if array.null_count() == 0 { T::of(array) } else { None };
    numbers.ok_or_else(|| {
        format!(
            "`{name}` does not hold numbers of the kind that belongs there, without nulls: it has {}",
            array.data_type()
        )
    })
}

/// The first of the types that the array has, with its values converted.
macro_rules! converted {
    ($array:expr, $to:ty, $($kind:ty),+) => {{
        let mut found = None;
        $(if let Some(numbers) = $array.as_primitive_opt::<$kind>() {
            found = numbers.values().iter().map(|&number| <$to>::try_from(number).ok()).collect::<Option<Vec<_>>>();
        })+
        found.map(Cow::Owned)
    }};
}

impl Number for u8 {
    fn of(array: &dyn Array) -> Option<Cow<'_, [Self]>> {
        match array.as_primitive_opt::<UInt8Type>() {
            Some(bytes) => Some(Cow::Borrowed(bytes.values())),
            None => converted!(array, u8, UInt16Type, UInt32Type, UInt64Type, Int32Type, Int64Type),
        }
    }
}

impl Number for u64 {
    fn of(array: &dyn Array) -> Option<Cow<'_, [Self]>> {
        match array.as_primitive_opt::<UInt64Type>() {
            Some(words) => Some(Cow::Borrowed(words.values())),
            None => converted!(array, u64, UInt16Type, UInt32Type, Int32Type, Int64Type),
        }
    }
}

impl Number for f64 {
    fn of(array: &dyn Array) -> Option<Cow<'_, [Self]>> {
        match array.as_primitive_opt::<Float64Type>() {
            Some(numbers) => Some(Cow::Borrowed(numbers.values())),
            None => converted!(array, f64, Float16Type, Float32Type),
        }
    }
}
