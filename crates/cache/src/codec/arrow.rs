//! Typed columns to and from Arrow arrays.

use crate::schema::item;
use arrow_array::builder::{ListBuilder, PrimitiveBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use logitcask_core::{Sample, SoftRows};
use std::sync::Arc;

/// What one row of a shard is made of.
pub(crate) type Row = (Sample, SoftRows);

/// One number a row.
pub(crate) fn numbers<T: ArrowPrimitiveType>(rows: &[Row], of: impl Fn(&Row) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.iter().map(of)))
}

/// One list a row.
pub(crate) fn lists<'a, T, I>(rows: &'a [Row], of: impl Fn(&'a Row) -> I) -> ArrayRef
where
    T: ArrowPrimitiveType,
    I: Iterator<Item = T::Native>,
{
    let mut builder = ListBuilder::new(PrimitiveBuilder::<T>::new()).with_field(item(T::DATA_TYPE));
    for row in rows {
        of(row).for_each(|value| builder.values().append_value(value));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// A list column: row `i` owns `values[offsets[i]..offsets[i + 1]]`.
pub(crate) struct Lists<'a, T: ArrowPrimitiveType> {
    name: &'static str,
    offsets: &'a [i32],
    values: &'a [T::Native],
}

impl<'a, T: ArrowPrimitiveType> Lists<'a, T> {
    /// The column `name`; `Err` says what is missing or of another type.
    pub(crate) fn of(batch: &'a RecordBatch, name: &'static str) -> Result<Self, String> {
        let lists = column(batch, name, |c| c.as_list_opt::<i32>())?;
        let values = lists.values().as_primitive_opt::<T>();
        let values = values.ok_or_else(|| format!("column `{name}` holds items of {}", lists.value_type()))?;
        Ok(Self { name, offsets: lists.value_offsets(), values: values.values() })
    }

    /// The list of row `i`.
    pub(crate) fn row(&self, i: usize) -> Result<&'a [T::Native], String> {
        let (start, end) = (self.offsets[i] as usize, self.offsets[i + 1] as usize);
        self.values.get(start..end).ok_or_else(|| format!("column `{}`: items {start}..{end} are not there", self.name))
    }
}

/// The numbers of the column `name`.
pub(crate) fn typed<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<&'a [T::Native], String> {
    Ok(column(batch, name, |c| c.as_primitive_opt::<T>())?.values())
}

/// The column `name` as what `cast` makes of it.
pub(crate) fn column<'a, A>(
    batch: &'a RecordBatch,
    name: &'static str,
    cast: impl Fn(&'a ArrayRef) -> Option<&'a A>,
) -> Result<&'a A, String> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
    cast(column).ok_or_else(|| format!("column `{name}` has type {}", column.data_type()))
}
