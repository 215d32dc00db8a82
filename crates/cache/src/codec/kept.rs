//! What the layouts give the columns: kept classes, row by row.

use super::KeptClasses;
use crate::column_chunk::{ColumnError, ColumnToRead};
use crate::plan::Plan;
use crate::row_problem::RowProblem;

/// Finds a column by its name, for the rows that are wanted; every column of the plan is there, since the footer was checked.
pub(super) type Find<'a, 'o> = dyn Fn(&'static str) -> Result<ColumnToRead<'a>, ColumnError> + 'o;

/// The columns of a layout.
pub(super) trait KeptColumns {
    /// The kept classes of the next row, the sample of these tokens; nothing is checked yet.
    fn next(&mut self, plan: &Plan, input_ids: &[u32]) -> Result<KeptClasses, RowProblem>;
}

/// Parquet's integers of 32 bits have a sign, and an annotation that says that it means nothing.
pub(super) fn unsigned(numbers: &[i32]) -> Vec<u32> {
    numbers.iter().map(|number| number.cast_unsigned()).collect()
}

/// Integers of 32 bits as the shorter ones that they must be.
pub(super) fn narrow<T: TryFrom<i32> + Default>(column: &'static str, wide: &[i32]) -> Result<Vec<T>, RowProblem> {
    let (mut numbers, mut fits) = (Vec::with_capacity(wide.len()), true);
    numbers.extend(wide.iter().map(|&number| {
        let number = T::try_from(number);
        fits &= number.is_ok();
        number.unwrap_or_default()
    }));
    match fits {
        true => Ok(numbers),
        false => Err(RowProblem::Wide { column, bytes: size_of::<T>() }),
    }
}
