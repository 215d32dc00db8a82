//! Conversion of rows to Arrow arrays.

use crate::schema::item;
use arrow_array::builder::{ListBuilder, PrimitiveBuilder};
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, PrimitiveArray};
use logitcask_core::{Sample, SoftRows};
use std::sync::Arc;

/// The contents of one row of a shard.
pub(crate) type Row = (Sample, SoftRows);

/// One number per row.
pub(crate) fn numbers<T: ArrowPrimitiveType>(rows: &[Row], of: impl Fn(&Row) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.iter().map(of)))
}

/// One list per row.
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
