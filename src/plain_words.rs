//! Errors of the TOML reader, in the words of recipes: it speaks of a program's types, which their authors do not know.

/// An error with the line that it is about, in plain words.
pub fn shown(error: &toml::de::Error) -> String {
    let shown = error.to_string();
    shown.replace(error.message(), &plain(error.message())).trim_end().to_owned()
}

/// The message of an error in plain words.
pub fn plain(message: &str) -> String {
    let refused = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start));
    if let Some((got, expected)) = refused.and_then(|both| both.split_once(", expected ")) {
        let got = given(got);
        return format!("{got} was given, but it must be {}", wanted(expected, &got));
    }
    let length = message.strip_prefix("invalid length ").and_then(|both| both.split_once(", expected "));
    if let Some((count, expected)) = length {
        return format!("a list of {count} was given, but it must be {}", wanted(expected, ""));
    }
    if message == "wanted string or table" {
        return format!("it must be {}", wanted("a string", ""));
    }
    let words = [
        ("unknown field ", "unknown key "),
        ("missing field ", "missing key "),
        ("unknown variant ", "unknown value "),
    ];
    let renamed = words.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", message.strip_prefix(theirs)?)));
    renamed.unwrap_or_else(|| message.to_owned())
}

/// The value that was given, as a recipe writes it.
fn given(got: &str) -> String {
    let quoted = ["integer ", "floating point ", "boolean "].iter().find_map(|kind| got.strip_prefix(kind));
    match (quoted, got) {
        (Some(value), _) => value.trim_matches('`').to_owned(),
        (None, "sequence") => "a list".to_owned(),
        (None, "map") => "a table".to_owned(),
        (None, other) => other.strip_prefix("string ").unwrap_or(other).to_owned(),
    }
}

/// What a recipe accepts where the program has this type, for the value that was given.
fn wanted(expected: &str, got: &str) -> String {
    let of = |kind: &str| expected.starts_with(kind);
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "a text in quotes".to_owned(),
        "a sequence" => "a list in brackets".to_owned(),
        "a map" => "a table".to_owned(),
        _ if of("internally tagged enum ") && got.starts_with('"') => {
            format!("a table such as {{ kind = {got} }}, perhaps with further keys")
        }
        _ if of("internally tagged enum ") => "a table with the key `kind`".to_owned(),
        _ if of("struct ") => "a table of keys and values".to_owned(),
        _ if of("enum ") => "a text in quotes".to_owned(),
        _ => match expected.strip_prefix("an array of length ") {
            Some(count) => format!("a list of {count}"),
            None => expected.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recipe::Recipe;

    /// Words of the program's language that mean nothing in a recipe.
    const FOREIGN: [&str; 12] =
        ["enum", "struct", "usize", "u32", "u64", "f64", "variant", "field", "tagged", "sequence", "map", "boolean"];

    /// The last line of the error about a recipe with these keys.
    fn refused(keys: &str) -> String {
        let error = toml::from_str::<Recipe>(&format!("[dataset]\npath = \"x\"\n{keys}")).unwrap_err();
        let shown = shown(&error);
        assert!(shown.contains(&format!("| {}", keys.lines().last().unwrap())), "it shows the line: {shown}");
        assert!(FOREIGN.iter().all(|word| !shown.contains(word)), "{shown}");
        shown.lines().last().unwrap().to_owned()
    }

    #[test]
    fn a_wrong_type_is_told_in_words_of_recipes() {
        let selection = "a table such as { kind = \"top_k\" }, perhaps with further keys";
        let train = "[train]\nsteps = 1\nbatch_size = 1\nlearning_rate = 1.0\n";
        for (keys, got, expected) in [
            ("[cache]\nselection = \"top_k\"", "\"top_k\"", selection),
            ("[cache]\nselection = 5", "5", "a table with the key `kind`"),
            ("[cache]\nmax_length = 5.5", "5.5", "a whole number, 0 or more"),
            ("[cache]\nmax_length = -1", "-1", "a whole number, 0 or more"),
            ("[cache]\nalways_keep = 5", "5", "a list in brackets"),
            ("[cache]\ntemperature_range = [1.0]", "a list of 1", "a list of 2"),
            (&format!("{train}lora = true"), "true", "a table of keys and values"),
            (&format!("{train}gradient_checkpointing = 1"), "1", "true or false"),
            (&format!("{train}clip_norm = \"a\""), "\"a\"", "a number"),
            (&format!("{train}freeze = \"a\""), "\"a\"", "a list in brackets"),
        ] {
            assert_eq!(refused(keys), format!("{got} was given, but it must be {expected}"), "{keys}");
        }
    }

    #[test]
    fn a_choice_is_a_text() {
        for keys in ["[cache]\nlayout = 5", "[loss]\nalpha = 1.0\ntail = true"] {
            assert_eq!(refused(keys), "it must be a text in quotes", "{keys}");
        }
    }

    #[test]
    fn unknown_and_missing_keys_are_called_keys() {
        assert!(refused("[cache]\nsize = 5").starts_with("unknown key `size`, expected one of `path`, "));
        assert_eq!(refused("[cache]\nselection = { kind = \"top_k\" }"), "missing key `k`");
        assert_eq!(refused("[cache]\nselection = { k = 4 }"), "missing key `kind`");
        let unknown = refused("[cache]\nlayout = \"loose\"");
        assert_eq!(unknown, "unknown value `loose`, expected `plain` or `packed`");
    }
}
