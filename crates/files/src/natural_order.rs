//! The order of files whose names have numbers.

use std::cmp::Ordering;
use std::path::Path;

/// The order in which people number files: digits that follow each other are compared as one number, so that `hs_2`
/// comes before `hs_10`.
pub fn natural_order(a: &Path, b: &Path) -> Ordering {
    let (left, right) = (a.to_string_lossy(), b.to_string_lossy());
    let (mut a, mut b): (&str, &str) = (&left, &right);
    while !a.is_empty() && !b.is_empty() {
        let (of_a, of_b) = (next_part(&mut a), next_part(&mut b));
        let is_number = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        let order = match is_number(of_a) && is_number(of_b) {
            true => numbers(of_a, of_b),
            false => of_a.cmp(of_b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len()).then(left.cmp(&right))
}

/// Compares runs of digits of any length as numbers.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then(a.cmp(b))
}

/// Takes the digits, or what comes before the next digit.
fn next_part<'a>(text: &mut &'a str) -> &'a str {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["b2", "hs_10", "hs_2", "hs_02", "hs_1/x", "hs_", "a", "hs_2b", "hs_99999999999999999999999"];
        names.sort_by(|a, b| natural_order(Path::new(a), Path::new(b)));
        let wanted = ["a", "b2", "hs_", "hs_1/x", "hs_02", "hs_2", "hs_2b", "hs_10", "hs_99999999999999999999999"];
        assert_eq!(names, wanted);
    }
}
