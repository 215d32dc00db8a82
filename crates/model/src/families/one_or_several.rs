//! Hugging Face's format of a list of tokens: a number for a single token, and a list for several.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token id or a list of token ids")]
enum OneOrSeveral {
    One(u32),
    Several(Vec<u32>),
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    Ok(match OneOrSeveral::deserialize(deserializer)? {
        OneOrSeveral::One(id) => vec![id],
        OneOrSeveral::Several(ids) => ids,
    })
}

pub(super) fn serialize<S: Serializer>(ids: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
    match ids {
        [id] => id.serialize(serializer),
        several => several.serialize(serializer),
    }
}
