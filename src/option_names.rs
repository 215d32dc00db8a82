//! Names of settings. The crates call them by the keys of recipes; a command without a recipe has options for some.

use anyhow::{Error, anyhow};

/// What errors advise, and what that is on the command line.
const ON_COMMAND_LINE: [(&str, &str); 12] = [
    ("`messages_column`", "`--messages-column`"),
    ("messages_column = \"conversations\"", "--messages-column conversations"),
    ("format = \"messages\"", "--messages-column messages"),
    ("`split_column`", "`--split-column`"),
    ("`special_tokens`", "`--special-tokens`"),
    ("`chat.date`", "`--date`"),
    ("`chat.variables`", "`--variable`"),
    ("[dataset.chat] date, such as \"2026-07-26\"", "--date, such as 2026-07-26"),
    ("[dataset.chat] template", "--template"),
    // These have no option.
    ("set `text_column` to one of them", "give the column of texts the name `text`"),
    ("set `text_column` to a column of strings", "make it one of strings"),
    ("mend the file, or set `on_bad_text` to \"replace\" (by U+FFFD) or \"skip\" to go on", "mend the file"),
];

/// An error with the names that its settings have on the command line.
pub fn on_command_line(error: impl Into<Error>) -> Error {
    let mut text = format!("{:#}", error.into());
    for (key, option) in ON_COMMAND_LINE {
        text = text.replace(key, option);
    }
    anyhow!(text)
}
