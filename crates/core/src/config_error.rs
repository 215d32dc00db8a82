//! Why a value of a recipe or a plan was refused.

use std::fmt::{self, Display, Formatter};

/// A key whose value was refused: what was given there, and what would have been accepted.
///
/// A check names keys as they are spelled in the table that it belongs to. Whoever calls the check for a part of a larger
/// table adds where that part is by [`Self::within`].
///
/// # Examples
/// ```
/// use logitcask_core::ConfigError;
///
/// let error = ConfigError::new("temperature_range[0]", -1, "a positive number").within("[cache]");
/// assert_eq!(error.to_string(), "[cache] temperature_range[0] = -1 was given, but it must be a positive number");
/// let error = ConfigError::missing("tail", "a table").because("classes that are left out need a summary");
/// assert_eq!(error.to_string(), "tail was not given, but it must be a table: classes that are left out need a summary");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct ConfigError {
    /// Path of the key, beginning with the outermost table that is known. Empty where the value itself was checked, and its
    /// owner has not yet said by [`Self::within`] what it calls it.
    pub key: String,
    /// The value as it was given; `None` where the key is absent.
    pub got: Option<String>,
    /// What is accepted there. It completes the sentence "it must be ...".
    pub expected: String,
    /// Why that is so, or what to do instead, where the expectation does not say so itself.
    pub reason: Option<String>,
}

impl ConfigError {
    /// A value that was given and is not accepted.
    pub fn new(key: impl Into<String>, got: impl Display, expected: impl Into<String>) -> Self {
        Self { key: key.into(), got: Some(got.to_string()), expected: expected.into(), reason: None }
    }

    /// A key that has to be there and is not.
    pub fn missing(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { key: key.into(), got: None, expected: expected.into(), reason: None }
    }

    /// `Ok` where the condition `holds`. Otherwise what [`Self::new`] makes of the rest.
    ///
    /// # Errors
    /// The value is refused.
    pub fn unless(
        holds: bool,
        key: impl Into<String>,
        got: impl Display,
        expected: impl Into<String>,
    ) -> Result<(), Self> {
        match holds {
            true => Ok(()),
            false => Err(Self::new(key, got, expected)),
        }
    }

    /// The same error with a reason, or advice, behind its sentence.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// The same error where the key belongs to `table`: the head of a TOML table such as `[cache]`, or the name of a
    /// field that holds the key, such as `tail` or `terms[1]`.
    #[must_use]
    pub fn within(self, table: &str) -> Self {
        let separator = match self.key.is_empty() || self.key.starts_with('[') {
            true => "",
            false if table.starts_with('[') => " ",
            false => ".",
        };
        Self { key: format!("{table}{separator}{}", self.key), ..self }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.got, self.key.as_str()) {
            (Some(got), "") => write!(f, "{got} was given")?,
            (Some(got), key) => write!(f, "{key} = {got} was given")?,
            (None, key) => write!(f, "{key} was not given")?,
        }
        write!(f, ", but it must be {}", self.expected)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_prefixed_as_tables_fields_and_items_are_written() {
        let error = ConfigError::new("atoms", 9, "1 to 8");
        assert_eq!(error.clone().within("tail").within("[cache]").key, "[cache] tail.atoms");
        assert_eq!(ConfigError::new("[2]", 0, "positive").within("terms").key, "terms[2]");
        assert_eq!(error.within("terms[2]").key, "terms[2].atoms");
        let nameless = ConfigError::new("", 9, "1 to 8");
        assert_eq!(nameless.to_string(), "9 was given, but it must be 1 to 8");
        assert_eq!(nameless.within("alpha").within("[loss]").key, "[loss] alpha");
    }

    #[test]
    fn a_condition_that_holds_is_no_error() {
        assert_eq!(ConfigError::unless(true, "k", 0, "positive"), Ok(()));
        let refused = ConfigError::unless(false, "k", 0, "at least 1").unwrap_err();
        assert_eq!(refused.to_string(), "k = 0 was given, but it must be at least 1");
    }
}
