//! Numbers that are not finite, which some servers write although JSON has none.

use std::borrow::Cow;

/// What Python writes for them. None is the beginning of another, and JSON has no word that begins like one.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The text with `null` in place of every such number outside strings, so that the place of the first is found where
/// the numbers are checked.
pub(super) fn with_nulls(text: &[u8]) -> Cow<'_, [u8]> {
    if !WORDS[1..].iter().any(|word| text.windows(word.len()).any(|part| part == *word)) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest, mut in_string) = (Vec::with_capacity(text.len()), text, false);
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(word) = WORDS.iter().find(|word| !in_string && rest.starts_with(word)) {
            out.extend(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = usize::from(in_string && byte == b'\\').min(after.len());
        out.extend(&rest[..1 + escaped]);
        in_string ^= byte == b'"';
        rest = &after[escaped..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_null_and_texts_stay() {
        let text = br#"{"a": NaN, "NaN": [-Infinity, Infinity, -1.5], "b": "\"NaN\\", "c": "Infinity"}"#;
        let expected = br#"{"a": null, "NaN": [null, null, -1.5], "b": "\"NaN\\", "c": "Infinity"}"#;
        assert_eq!(&*with_nulls(text), expected);
        assert!(matches!(with_nulls(b"{\"a\": -9999.0}"), Cow::Borrowed(_)));
        assert_eq!(&*with_nulls(b"NaN \"\\"), b"null \"\\", "a text that ends early is left to the parser");
    }
}
