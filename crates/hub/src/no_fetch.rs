//! What stands for fetching in a build without it.

use crate::{Check, HubName, OnFile, Result, Settings, Snapshot, cache};

/// Is never called, because [`Settings::may_fetch`] is false in such a build.
pub(crate) fn fetch(
    name: &HubName,
    _: Option<&str>,
    settings: &Settings,
    _: OnFile<'_>,
    _: Check<'_>,
) -> Result<Snapshot> {
    Err(cache::not_there(name, settings))
}
