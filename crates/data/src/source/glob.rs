//! Patterns of file names: `*` and `?` match within one folder, `**` across folders, and `[0-9]` one of several
//! characters.

/// Whether `pattern` matches all of `name`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    matches(pattern.as_bytes(), name.as_bytes())
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        // `a/**/b` also matches `a/b`.
        [b'*', b'*', b'/', rest @ ..] => {
            matches(rest, name) || (0..name.len()).any(|at| name[at] == b'/' && matches(rest, &name[at + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        [b'*', rest @ ..] => {
            let end = name.iter().position(|byte| *byte == b'/').unwrap_or(name.len());
            (0..=end).any(|at| matches(rest, &name[at..]))
        }
        [b'?', rest @ ..] => matches!(name, [first, after @ ..] if *first != b'/' && matches(rest, after)),
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
            matches!(name, [first, after @ ..] if is_one_of(&rest[..end], *first) && matches(&rest[end + 1..], after))
        }
        [byte, rest @ ..] => matches!(name, [first, after @ ..] if first == byte && matches(rest, after)),
    }
}

/// Matches `[abc]`, `[a-z]`, and `[!abc]` for any other character.
fn is_one_of(class: &[u8], byte: u8) -> bool {
    let (not, mut class) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let [first, rest @ ..] = class {
        (found, class) = match rest {
            [b'-', last, rest @ ..] => (found || (*first..=*last).contains(&byte), rest),
            _ => (found || *first == byte, rest),
        };
    }
    found != not && byte != b'/'
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_of_cards() {
        for (pattern, name, expected) in [
            ("data/train-*", "data/train-00000-of-00001.parquet", true),
            ("data/train-*", "data/train/a.parquet", false),
            ("data/train-*", "data/train-a/b.parquet", false),
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "b/a.jsonl", false),
            ("**/*.jsonl", "a.jsonl", true),
            ("**/*.jsonl", "b/c/a.jsonl", true),
            ("en/**", "en/a/b.txt", true),
            ("./a.txt", "a.txt", true),
            ("train-?????-of-*.parquet", "train-00001-of-00002.parquet", true),
            ("train-[0-9][0-9].parquet", "train-07.parquet", true),
            ("train-[!0-9]*", "train-07.parquet", false),
            ("a[", "a[", true),
            ("a", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
