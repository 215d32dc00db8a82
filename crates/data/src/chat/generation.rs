//! The tag `{% generation %}`, with which templates say what the assistant wrote. It is an extension of `transformers`.

use super::marks::{BEGIN, END};
use std::ops::Range;

/// The template with conditions in place of the tags, which write marks around their content, and whether there are
/// any. What a comment, a raw block or a text within an expression spells out is no tag.
///
/// A condition is divided like the tag: its white space is removed by the same rules. `trim_blocks` removes a line feed
/// after a tag but not after a mark, so that a second, empty condition follows the mark.
pub(super) fn rewrite(template: &str) -> (String, bool) {
    let (mut rewritten, mut rest, mut is_there) = (String::with_capacity(template.len()), template, false);
    while let Some((start, kind)) = first_opening(rest) {
        let Some(length) = element(&rest[start..], kind) else { break };
        rewritten.push_str(&rest[..start]);
        let (open, inner, close) = parts(&rest[start + 2..start + length - 2]);
        match inner {
            _ if kind != Kind::Tag => rewritten.push_str(&rest[start..start + length]),
            "generation" => {
                is_there = true;
                rewritten.push_str(&format!("{{%{open} if true %}}{{{{ \"{BEGIN}\" }}}}{{% if true {close}%}}"));
            }
            "endgeneration" => {
                rewritten.push_str(&format!("{{%{open} endif %}}{{{{ \"{END}\" }}}}{{% endif {close}%}}"));
            }
            "raw" => {
                let end = end_of_raw(&rest[start + length..]);
                rewritten.push_str(&rest[start..start + length + end]);
                rest = &rest[start + length + end..];
                continue;
            }
            _ => rewritten.push_str(&rest[start..start + length]),
        }
        rest = &rest[start + length..];
    }
    rewritten.push_str(rest);
    (rewritten, is_there)
}

/// What a template has besides text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag,
    Expression,
    Comment,
}

/// Where the first element begins, and what it is.
fn first_opening(text: &str) -> Option<(usize, Kind)> {
    let kinds = [("{%", Kind::Tag), ("{{", Kind::Expression), ("{#", Kind::Comment)];
    kinds.into_iter().filter_map(|(opening, kind)| Some((text.find(opening)?, kind))).min_by_key(|(start, _)| *start)
}

/// Length of the element at the beginning of a text; `None` if it has no end. Its end is not looked for within quotes,
/// which comments do not have.
fn element(text: &str, kind: Kind) -> Option<usize> {
    let close = match kind {
        Kind::Comment => return text[2..].find("#}").map(|end| end + 4),
        Kind::Tag => "%}",
        Kind::Expression => "}}",
    };
    let (mut quote, mut is_escaped) = (None, false);
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(begun) if c == begun => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return Some(at + 2),
            None if ['"', '\''].contains(&c) => quote = Some(c),
            None => {}
        }
    }
    None
}

/// Length of a text up to the end of the raw block that it begins in.
fn end_of_raw(text: &str) -> usize {
    for (start, _) in text.match_indices("{%") {
        if let Some(length) = text[start..].find("%}").map(|end| end + 2)
            && parts(&text[start + 2..start + length - 2]).1 == "endraw"
        {
            return start + length;
        }
    }
    text.len()
}

/// The marks of white space control at both ends of an element, and what is within them.
fn parts(inner: &str) -> (&'static str, &str, &'static str) {
    let (open, inner) = control(inner, |text, mark| text.strip_prefix(mark));
    let (close, inner) = control(inner, |text, mark| text.strip_suffix(mark));
    (open, inner.trim(), close)
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
    fn what_only_spells_out_a_tag_is_left_alone() {
        for other in [
            "{# {% generation %}x{% endgeneration %} #}{{ x }}",
            "{#- \" {% generation %} -#}{{ x }}",
            "{% raw %}{% generation %}{# {% endgeneration %}{% endraw %}",
            "{%- raw -%} {% generation %} {%- endraw -%}{{ x }}",
            "{{ '{% generation %}' }}{{ \"\\\"{% generation %}\" }}",
            "{% set x = '%}{% generation %}' %}{{ x }}",
            "{% raw %}{% generation %}",
        ] {
            assert_eq!(rewrite(other), (other.to_owned(), false), "{other}");
        }
        for (before, inner) in
            [("{# ' #}", "a"), ("{% raw %}{#{% endraw %}", "b"), ("{{ '}}{#' }}", "c"), ("{% set x = \"'\" %}", "d")]
        {
            let (rewritten, is_there) = rewrite(&format!("{before}{{% generation %}}{inner}{{% endgeneration %}}"));
            assert!(is_there && rewritten.starts_with(before) && rewritten.contains(BEGIN), "{rewritten}");
        }
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
