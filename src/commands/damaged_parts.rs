//! Caches that are made from others, such as exports and imports, repaired by the command that made them.

use super::verify::verify_aloud;
use crate::output::say;
use anyhow::{Result, bail};
use logitcask_cache::{Companion, MANIFEST_NAME, Plan, Tier, repair};
use std::path::Path;

/// Removes the damaged parts of a finished cache of this plan, so that they are written again; returns whether there were
/// any. One that is not finished is continued, perhaps by several processes, and none of its parts are removed. A cache of
/// another plan is left as it is.
pub(super) fn remove_damaged_parts(
    folder: &Path,
    plan: Plan,
    tokenizer: &[u8],
    companions: &[Companion<'_>],
) -> Result<bool> {
    let is_other = Plan::read(folder).is_ok_and(|there| there.id() != plan.id());
    if is_other || !folder.join(MANIFEST_NAME).exists() {
        return Ok(false);
    }
    let report = verify_aloud(folder, Tier::Rows)?;
    if report.is_whole() {
        return Ok(false);
    }
    report.findings.iter().for_each(|finding| say!("{finding}"));
    let prepared = repair::prepare(folder, plan, tokenizer, companions, &report)?;
    match prepared.left.first() {
        // A file with the name of a shard that is not of this format may be the user's own, so it is not removed.
        Some(left) => bail!("{}: {} is not a file of this cache; move it away", folder.display(), left.file),
        None => Ok(true),
    }
}
