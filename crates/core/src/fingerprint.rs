//! Fingerprints of teachers, tokenizers, datasets and files: BLAKE3 hashes, written as 64 hex digits.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A BLAKE3 hash of something that must not change between two runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The first eight hex digits, enough to tell two caches apart in a message.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl From<blake3::Hash> for Fingerprint {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = |why: &dyn fmt::Display| {
            serde::de::Error::custom(format!("`{text}` is not a BLAKE3 hash of 64 lowercase hex digits: {why}"))
        };
        // Only lowercase is accepted, so that texts are equal exactly if hashes are.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refused(&"an uppercase digit"));
        }
        Ok(blake3::Hash::from_hex(&text).map_err(|e| refused(&e))?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_anything_else_is_refused() {
        let hash = Fingerprint::of(b"abc");
        let json = serde_json::to_string(&hash).unwrap();
        // The published BLAKE3 digest of "abc".
        assert_eq!(json, "\"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85\"");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), hash);
        assert!(serde_json::from_str::<Fingerprint>("\"6437\"").is_err());
        assert!(serde_json::from_str::<Fingerprint>(&json.to_uppercase()).is_err());
    }
}
