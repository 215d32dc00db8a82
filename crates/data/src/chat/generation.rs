//! The tag `{% generation %}`, with which templates say what the assistant wrote. It is an extension of `transformers`.

use super::marks::{BEGIN, END};
use std::ops::Range;

/// The template with conditions in place of the tags, which write marks around their content, and whether there are
/// any.
///
/// A condition is divided like the tag: its white space is removed by the same rules. `trim_blocks` removes a line feed
/// after a tag but not after a mark, so that a second, empty condition follows the mark.
pub(super) fn rewrite(template: &str) -> (String, bool) {
    let (mut rewritten, mut rest, mut is_there) = (String::with_capacity(template.len()), template, false);
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}").map(|end| end + 2) else { break };
        let inner = &rest[start + 2..start + length - 2];
        let (open, inner) = control(inner, |text, mark| text.strip_prefix(mark));
        let (close, inner) = control(inner, |text, mark| text.strip_suffix(mark));
        rewritten.push_str(&rest[..start]);
        match inner.trim() {
            "generation" => {
                is_there = true;
                rewritten.push_str(&format!("{{%{open} if true %}}{{{{ \"{BEGIN}\" }}}}{{% if true {close}%}}"));
            }
            "endgeneration" => {
                rewritten.push_str(&format!("{{%{open} endif %}}{{{{ \"{END}\" }}}}{{% endif {close}%}}"));
            }
            _ => rewritten.push_str(&rest[start..start + length]),
        }
        rest = &rest[start + length..];
    }
    rewritten.push_str(rest);
    (rewritten, is_there)
}

/// The mark of white space control at one end of a tag, and what is within it.
fn control(inner: &str, strip: impl for<'a> Fn(&'a str, char) -> Option<&'a str>) -> (&'static str, &str) {
    match (strip(inner, '-'), strip(inner, '+')) {
        (Some(within), _) => ("-", within),
        (None, Some(within)) => ("+", within),
        (None, None) => ("", inner),
    }
}

/// Takes the marks out of a rendered text. Returns it with the bytes that were between them.
pub(super) fn take_marks(marked: &str) -> Result<(String, Vec<Range<usize>>), String> {
    let (mut text, mut spans, mut begun) = (String::with_capacity(marked.len()), Vec::new(), None);
    for c in marked.chars() {
        match (c, begun) {
            (BEGIN, None) => begun = Some(text.len()),
            (END, Some(start)) => {
                spans.push(start..text.len());
                begun = None;
            }
            (BEGIN | END, _) => return Err("its `{% generation %}` blocks lie within each other".to_owned()),
            (c, _) => text.push(c),
        }
    }
    match begun {
        None => Ok((text, spans)),
        Some(_) => Err("it leaves a `{% generation %}` block before its end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_replaced_with_their_white_space_control() {
        let (rewritten, is_there) = rewrite("a{%- if x %}\n{% generation %}b{%- endgeneration -%}{% endif %}{% z");
        assert!(is_there);
        assert_eq!(
            rewritten,
            "a{%- if x %}\n{% if true %}{{ \"\u{E000}\" }}{% if true %}b{%- endif %}{{ \"\u{E001}\" }}{% endif -%}\
             {% endif %}{% z"
        );
        let other = "{% set generation = 1 %}{{ generation }}{# generation #}";
        assert_eq!(rewrite(other), (other.to_owned(), false));
    }

    #[test]
    fn marks_become_ranges_of_bytes() {
        let marked = "é\u{E000}ab\u{E001}c\u{E000}\u{E001}";
        assert_eq!(take_marks(marked).unwrap(), ("éabc".to_owned(), vec![2..4, 5..5]));
        for wrong in ["\u{E000}", "\u{E001}", "\u{E000}\u{E000}\u{E001}\u{E001}"] {
            assert!(take_marks(wrong).is_err(), "{wrong:?}");
        }
    }
}
