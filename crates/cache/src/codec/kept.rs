//! The interface of the layouts: the teacher's output, row by row.

use crate::column_chunk::{ColumnError, ColumnToRead};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use logitcask_core::{Sample, SoftRows};

/// Finds a column by its name, for the requested rows. Every column of the plan exists, since the footer was checked.
pub(super) type Find<'a, 'o> = dyn Fn(&str) -> Result<ColumnToRead<'a>, ColumnError> + 'o;

/// The columns of a layout.
pub(super) trait KeptColumns {
    /// Returns what the teacher said about the next row's sample; it is not checked yet.
    fn next(&mut self, plan: &Plan, sample: &Sample) -> Result<SoftRows, RowProblem>;
}

/// Parquet's 32-bit integers are signed; an annotation marks them as unsigned.
pub(super) fn unsigned(numbers: &[i32]) -> Vec<u32> {
    numbers.iter().map(|number| number.cast_unsigned()).collect()
}

/// Converts 32-bit integers to the narrower type that the format requires.
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
