//! What the layouts give the columns: kept classes, row by row.

use super::Entries;
use crate::pages::Pages;
use crate::plan::Plan;

/// Opens a column by its name, at the first of the rows that are wanted; `Err` says what is wrong with its pages.
pub(super) type Open<'a, 'o> = dyn Fn(&'static str) -> Result<Pages<'a>, String> + 'o;

/// The columns of a layout.
pub(super) trait Kept {
    /// The kept classes of the next row, the sample of these tokens; nothing is checked yet.
    fn next(&mut self, plan: &Plan, input_ids: &[u32]) -> Result<Entries, String>;
}

/// What bits say as numbers.
pub(super) fn floats(bits: Vec<u32>) -> Vec<f32> {
    bits.into_iter().map(f32::from_bits).collect()
}

/// Numbers of 32 bits with a sign as the shorter ones that they must be.
pub(super) fn narrow<T: TryFrom<i32> + Default>(name: &str, bits: &[u32]) -> Result<Vec<T>, String> {
    let (mut numbers, mut fits) = (Vec::with_capacity(bits.len()), true);
    numbers.extend(bits.iter().map(|&bits| {
        let number = T::try_from(bits as i32);
        fits &= number.is_ok();
        number.unwrap_or_default()
    }));
    match fits {
        true => Ok(numbers),
        false => Err(format!("column {name} holds numbers of more than {} bytes", size_of::<T>())),
    }
}
