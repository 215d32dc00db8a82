//! The rule by which tokens are divided into windows.

use std::ops::Range;

/// Ranges of a document's tokens that become its windows, in order, each with at least two tokens.
///
/// With a start token before every window the ranges partition the document: each has up to `max_length - 1` tokens,
/// each of which is predicted once. Without one they have up to `max_length` tokens and overlap by one, so that every
/// token except the document's first is predicted once.
pub(crate) fn windows(tokens: usize, has_bos: bool, max_length: usize) -> impl Iterator<Item = Range<usize>> {
    assert!(max_length >= 2, "a window needs two tokens");
    let extra = usize::from(has_bos);
    let own = max_length - extra;
    (0..tokens)
        .step_by(max_length - 1)
        .map(move |start| start..tokens.min(start + own))
        .filter(move |range| range.len() + extra >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_cases_by_hand() {
        let cut = |tokens, bos, max| windows(tokens, bos, max).collect::<Vec<_>>();
        assert_eq!(cut(7, true, 4), [0..3, 3..6, 6..7]);
        assert_eq!(cut(7, false, 4), [0..4, 3..7]);
        assert_eq!(cut(8, false, 4), [0..4, 3..7, 6..8]);
        assert_eq!(cut(1, true, 2), [Range { start: 0, end: 1 }]);
        assert_eq!(cut(1, false, 2), [] as [Range<usize>; 0]);
        assert_eq!(cut(0, true, 2), [] as [Range<usize>; 0]);
    }

    proptest! {
        #[test]
        fn every_token_is_predicted_once(tokens in 0usize..200, has_bos: bool, max_length in 2usize..20) {
            let mut predicted = vec![];
            for range in windows(tokens, has_bos, max_length) {
                let length = range.len() + usize::from(has_bos);
                prop_assert!((2..=max_length).contains(&length), "{range:?}");
                predicted.extend(range.skip(usize::from(!has_bos)));
            }
            let first = usize::from(!has_bos);
            prop_assert_eq!(predicted, (first..tokens.max(first)).collect::<Vec<_>>());
        }
    }
}
