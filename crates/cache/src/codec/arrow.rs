//! Rows to Arrow arrays.

use crate::schema::item;
use arrow_array::builder::{ListBuilder, PrimitiveBuilder};
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, PrimitiveArray};
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
