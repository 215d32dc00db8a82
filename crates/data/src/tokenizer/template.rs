//! The tokens that a tokenizer's own post-processor puts around a text; nothing else determines which token a text
//! starts with.

use crate::error::{Error, Result};
use std::path::Path;
use tokenizers::Tokenizer;

/// Sample texts. A text without tokens of its own does not show which tokens are before it and which after.
const PROBES: [&str; 3] = ["a", "The end.", "1 2"];

/// The tokens before and after every text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    pub bos: Option<u32>,
    pub end: Option<u32>,
}

/// Tokens before and after a text.
type Sides = (Vec<u32>, Vec<u32>);

/// Determines the tokens by letting the post-processor process sample texts.
pub(super) fn around(path: &Path, inner: &Tokenizer) -> Result<Around> {
    let refused = |problem| Error::TokenizerPart { path: path.to_owned(), problem };
    let ids = |text: &str, special| {
        let encoding = inner.encode_fast(text, special).map_err(Error::tokenizer)?;
        Ok::<_, Error>(encoding.get_ids().to_vec())
    };
    // For a single text it may be ambiguous which of two equal tokens is its own; all texts together resolve this.
    let mut possible: Option<Vec<Sides>> = None;
    for probe in PROBES {
        let (own, all): (Vec<u32>, Vec<u32>) = (ids(probe, false)?, ids(probe, true)?);
        if own.is_empty() {
            continue;
        }
        let fits = |sides: &Sides| [&sides.0[..], &own, &sides.1].concat() == all;
        let starts = 0..=all.len().saturating_sub(own.len());
        let here =
            starts.filter_map(|start| Some((all.get(..start)?.to_vec(), all.get(start + own.len()..)?.to_vec())));
        possible = Some(match possible {
            Some(earlier) => earlier.into_iter().filter(fits).collect(),
            None => here.filter(fits).collect(),
        });
    }
    // A tokenizer without letters shows what it puts around an empty text.
    let possible = match possible {
        Some(possible) => possible,
        None => {
            let all: Vec<u32> = ids("", true)?;
            (0..=all.len()).map(|start| (all[..start].to_vec(), all[start..].to_vec())).collect()
        }
    };
    let [(prefix, suffix)] = possible.as_slice() else {
        return Err(refused(
            "its post-processor does not put the same tokens in front of every text and behind it, which is all that this build reads"
                .to_owned(),
        ));
    };
    let one = |tokens: &[u32], place: &str| match *tokens {
        [] => Ok(None),
        [token] => Ok(Some(token)),
        _ => {
            let names: Vec<String> = tokens.iter().map(|&id| super::named(inner, id)).collect();
            Err(refused(format!(
                "its post-processor puts {} tokens {place} every text ({}); this build puts one there",
                tokens.len(),
                names.join(", ")
            )))
        }
    };
    Ok(Around { bos: one(prefix, "in front of")?, end: one(suffix, "behind")? })
}
