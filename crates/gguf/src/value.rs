//! The values of the metadata.

/// Numbers of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// `u8`, `u16`, `u32` and `u64`.
    Unsigned(Vec<u64>),
    /// `i8`, `i16`, `i32` and `i64`.
    Signed(Vec<i64>),
    /// `f32`, as the shortest decimal number that rounds to it (1e-5, not 9.999999747378752e-6), and `f64`.
    Float(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A single number.
    Number(Numbers),
    /// A list of numbers.
    NumberList(Numbers),
    /// A text.
    Text(String),
    /// A list of texts.
    TextList(Vec<String>),
}

impl Value {
    /// A number that is at least 0 and whole.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(Numbers::Unsigned(values)) => values.first().copied(),
            Self::Number(Numbers::Signed(values)) => values.first().and_then(|&value| u64::try_from(value).ok()),
            _ => None,
        }
    }

    /// A number of any type.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(Numbers::Float(values)) => values.first().copied(),
            Self::Number(Numbers::Signed(values)) => values.first().map(|&value| value as f64),
            _ => self.as_u64().map(|value| value as f64),
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Number(Numbers::Bool(values)) => values.first().copied(),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Number(Numbers::Bool(_)) => "a truth value",
            Self::Number(Numbers::Float(_)) => "a number with a fraction",
            Self::Number(_) => "a whole number",
            Self::NumberList(_) => "a list of numbers",
            Self::Text(_) => "a text",
            Self::TextList(_) => "a list of texts",
        }
    }
}
