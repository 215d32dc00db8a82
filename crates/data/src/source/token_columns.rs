//! Columns of tokens that another program made, and of the marks on those that are to be learned.

use super::DatasetConfig;
use crate::document::TokenRow;

/// Label of a token that is not to be learned, as in PyTorch and `transformers`.
const IGNORED: i64 = -100;

/// Names of the columns or fields of a source of tokens.
#[derive(Clone, Copy)]
pub(super) struct TokenColumns<'a> {
    pub(super) tokens: &'a str,
    pub(super) marks: Option<Marks<'a>>,
}

/// A column with one item for each token.
#[derive(Clone, Copy)]
pub(super) enum Marks<'a> {
    /// 1 or true for a token that is to be learned, otherwise 0 or false.
    Mask(&'a str),
    /// The token itself if it is to be learned, otherwise -100.
    Labels(&'a str),
}

impl<'a> Marks<'a> {
    pub(super) fn column(self) -> &'a str {
        match self {
            Self::Mask(column) | Self::Labels(column) => column,
        }
    }

    /// The option that names the column.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Mask(_) => "mask_column",
            Self::Labels(_) => "labels_column",
        }
    }
}

impl<'a> TokenColumns<'a> {
    /// The columns that the configuration names; `None` for a source of texts.
    pub(super) fn of(config: &'a DatasetConfig) -> Option<Self> {
        let mask = config.mask_column.as_deref().map(Marks::Mask);
        let labels = config.labels_column.as_deref().map(Marks::Labels);
        Some(Self { tokens: config.tokens_column.as_deref()?, marks: mask.or(labels) })
    }

    /// The columns, and the option that names each.
    pub(super) fn names(&self) -> Vec<(&'a str, &'static str)> {
        let marks = self.marks.map(|marks| (marks.column(), marks.option()));
        [Some((self.tokens, "tokens_column")), marks].into_iter().flatten().collect()
    }

    /// Combines the numbers of a row; `marks` is given if there is such a column. Returns what is wrong with them.
    pub(super) fn row(&self, ids: &[i64], marks: Option<&[i64]>) -> Result<TokenRow, String> {
        let id =
            |&id: &i64| u32::try_from(id).map_err(|_| format!("`{}` holds {id}, which is no token id", self.tokens));
        let marks = self.marks.zip(marks).map(|(kind, numbers)| marked(kind, self.tokens, ids, numbers)).transpose()?;
        Ok(TokenRow { ids: ids.iter().map(id).collect::<Result<_, _>>()?, marks })
    }
}

fn marked(kind: Marks<'_>, tokens: &str, ids: &[i64], numbers: &[i64]) -> Result<Vec<bool>, String> {
    let column = kind.column();
    if numbers.len() != ids.len() {
        return Err(format!("`{tokens}` holds {} items and `{column}` {}; they must agree", ids.len(), numbers.len()));
    }
    let mark = |(place, (&id, &number)): (usize, (&i64, &i64))| match kind {
        Marks::Mask(_) if number == 0 || number == 1 => Ok(number == 1),
        Marks::Mask(_) => Err(format!("`{column}` holds {number} at index {place}; a mask holds 0 and 1")),
        Marks::Labels(_) if number == id || number == IGNORED => Ok(number == id),
        Marks::Labels(_) => Err(format!(
            "`{column}` holds {number} at index {place} where the token is {id}; a label is the token of the same index, \
             or {IGNORED}"
        )),
    };
    ids.iter().zip(numbers).enumerate().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_and_labels_mark_the_same_tokens() {
        let ids = [5, 6, 7];
        for (marks, numbers) in [(Marks::Mask("mask"), [0, 1, 1]), (Marks::Labels("labels"), [-100, 6, 7])] {
            let row = TokenColumns { tokens: "ids", marks: Some(marks) }.row(&ids, Some(&numbers)).unwrap();
            assert_eq!(row, TokenRow { ids: vec![5, 6, 7], marks: Some(vec![false, true, true]) });
        }
    }

    #[test]
    fn rows_that_mean_nothing_are_refused_by_column_and_index() {
        let mask = TokenColumns { tokens: "ids", marks: Some(Marks::Mask("mask")) };
        let labels = TokenColumns { tokens: "ids", marks: Some(Marks::Labels("labels")) };
        for (columns, ids, marks, expected) in [
            (mask, &[1, -2][..], &[0, 1][..], "`ids` holds -2, which is no token id"),
            (mask, &[1, 1 << 32], &[0, 1], "`ids` holds 4294967296"),
            (mask, &[1, 2], &[1], "`ids` holds 2 items and `mask` 1"),
            (mask, &[1, 2], &[0, 2], "`mask` holds 2 at index 1; a mask holds 0 and 1"),
            (labels, &[1, 2], &[-100, 1], "`labels` holds 1 at index 1 where the token is 2"),
        ] {
            let refused = columns.row(ids, Some(marks)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
