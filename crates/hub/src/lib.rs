//! Models by their names on a model hub, `ORG/NAME` or `ORG/NAME@REVISION`.
//!
//! [`locate`] finds such a model in the cache of snapshots that Hugging Face's tools share, and fetches it into that
//! cache if it is not there:
//!
//! ```text
//! CACHE/models--ORG--NAME/refs/REVISION       the commit that a branch or tag was when it was fetched
//! CACHE/models--ORG--NAME/snapshots/COMMIT/   the files; other tools put links to blobs/ here
//! CACHE/models--ORG--NAME/.no_exist/COMMIT/   empty files with the names of those that the commit does not have
//! ```
//!
//! What is in the cache is used without asking the network whether there is something newer, so that the same recipe
//! reads the same model until its user fetches another one.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cache;
#[cfg(feature = "fetch")]
mod download;
mod error;
#[cfg_attr(not(feature = "fetch"), path = "no_fetch.rs")]
mod fetch;
mod name;
mod settings;
#[cfg(all(test, feature = "fetch"))]
mod tests;

pub use cache::Snapshot;
pub use error::{Error, Result};
pub use name::HubName;
pub use settings::Settings;

use std::path::Path;

/// Receives the name and the size in bytes of every file before it is fetched.
pub type OnFile<'a> = &'a mut dyn FnMut(&str, u64);

/// Is called with the folder of a snapshot that has everything but the weights, before these are fetched. An error ends
/// the fetching.
pub type Check<'a> = &'a dyn Fn(&Path) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The snapshot that `path` names, if it is a hub name and nothing of that name exists in the file system; a folder
/// wins. What the cache lacks is fetched, unless `settings` forbid it.
///
/// A snapshot that another tool began can lack small files that the model has, such as its chat template. If the cache
/// does not say that there are none, the hub is asked once; if that fails, [`Snapshot::doubt`] says so.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Incomplete`] if the cache does not have the model and it may not be fetched;
/// [`Error::Fetch`] if it cannot be; [`Error::Refused`] if `check` refuses it; [`Error::Io`].
pub fn locate(path: &Path, settings: &Settings, on_file: OnFile<'_>, check: Check<'_>) -> Result<Option<Snapshot>> {
    let Some(name) = HubName::of_path(path) else { return Ok(None) };
    match cache::find(&name, settings)? {
        Some(snapshot) if cache::missing(&snapshot.folder).is_none() => {
            Ok(Some(completed(snapshot, settings, on_file)))
        }
        found if settings.may_fetch() => {
            fetch::fetch(&name, found.as_ref().map(|snapshot| snapshot.commit.as_str()), settings, on_file, check)
                .map(Some)
        }
        Some(snapshot) => Err(cache::incomplete(&snapshot, settings)),
        None => Err(cache::not_there(&name, settings)),
    }
}

/// A snapshot that can be opened, with those small files that it is not known to lack.
fn completed(snapshot: Snapshot, settings: &Settings, on_file: OnFile<'_>) -> Snapshot {
    let unknown = cache::unknown(&snapshot, settings);
    if unknown.is_empty() {
        return snapshot;
    }
    let why = match settings.may_fetch() {
        false => settings.why_not().to_owned(),
        true => match fetch::fetch(&snapshot.name, Some(&snapshot.commit), settings, on_file, &|_| Ok(())) {
            Ok(whole) => return whole,
            Err(Error::Fetch { endpoint, problem, .. }) => format!("{endpoint} cannot be asked: {problem}"),
            Err(error) => error.to_string(),
        },
    };
    let doubt = format!("the cache lacks {}, and does not say whether the model has them: {why}", unknown.join(", "));
    Snapshot { doubt: Some(doubt), ..snapshot }
}

/// The snapshot that `path` names as in [`locate`], if the cache has all of it; the network is never used.
pub fn find(path: &Path, settings: &Settings) -> Option<Snapshot> {
    let snapshot = cache::find(&HubName::of_path(path)?, settings).ok()??;
    cache::missing(&snapshot.folder).is_none().then_some(snapshot)
}
