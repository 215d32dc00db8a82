//! The error for a rejected value of a recipe or a plan.

use std::fmt::{self, Display, Formatter};

/// A key whose value was rejected: the value given and what would have been accepted.
///
/// A check names keys as they are spelled in the table it validates. A caller that validates part of a larger table
/// adds the path of that part with [`Self::within`].
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
    /// Path of the key, starting with the outermost table known so far. It is empty if the value itself was checked and
    /// its owner has not yet named it with [`Self::within`].
    pub key: String,
    /// The value as it was given; `None` if the key is missing.
    pub got: Option<String>,
    /// What is accepted. It completes the sentence "it must be ...".
    pub expected: String,
    /// Why that is required, or what to do instead, if `expected` does not say so itself.
    pub reason: Option<String>,
}

impl ConfigError {
    /// The error for a value that was given but is not accepted.
    pub fn new(key: impl Into<String>, got: impl Display, expected: impl Into<String>) -> Self {
        Self { key: key.into(), got: Some(got.to_string()), expected: expected.into(), reason: None }
    }

    /// The error for a required key that is missing.
    pub fn missing(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { key: key.into(), got: None, expected: expected.into(), reason: None }
    }

    /// Returns `Ok` if `holds`, otherwise the error that [`Self::new`] builds from the other arguments.
    ///
    /// # Errors
    /// `holds` is false.
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

    /// Returns the same error with a reason or advice appended to its sentence.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Returns the same error with its key placed in `table`: the head of a TOML table such as `[cache]`, or the name
    /// of a field that holds the key, such as `tail` or `terms[1]`.
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
