//! The day that templates write.

use crate::error::{Error, Result};
use chrono::{NaiveDate, NaiveDateTime};
use std::fmt::Write;

/// Midnight of a day such as `2026-07-26`.
pub(super) fn parse(date: &str) -> Result<NaiveDateTime> {
    let day = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    day.ok_or_else(|| Error::Option {
        option: "chat.date",
        got: date.to_owned(),
        expected: "a day in the form \"2026-07-26\"",
    })
}

/// A day in the form of Python's `strftime`.
pub(super) fn format(day: NaiveDateTime, form: &str) -> std::result::Result<String, String> {
    let mut text = String::new();
    match write!(text, "{}", day.format(form)) {
        Ok(()) => Ok(text),
        Err(_) => Err(format!("strftime_now(\"{form}\") is no form of a date")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_python_does() {
        let day = parse("2026-07-05").unwrap();
        // python3 -c 'import datetime; print(datetime.datetime(2026, 7, 5).strftime(FORM))'
        for (form, expected) in [
            ("%d %b %Y", "05 Jul 2026"),
            ("%Y-%m-%d", "2026-07-05"),
            ("%B %d, %Y", "July 05, 2026"),
            ("%A %j %H:%M", "Sunday 186 00:00"),
        ] {
            assert_eq!(format(day, form).unwrap(), expected);
        }
        assert!(format(day, "%!").unwrap_err().contains("%!"));
        for wrong in ["today", "2026-13-01", "26 Jul 2024", ""] {
            assert!(parse(wrong).unwrap_err().to_string().starts_with("`chat.date` is "), "{wrong}");
        }
    }
}
