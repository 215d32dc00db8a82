//! The names of models on a hub.

use std::fmt;
use std::path::Path;

/// `ORG/NAME`, perhaps with `@REVISION`: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    org: String,
    model: String,
    revision: Option<String>,
}

impl HubName {
    /// Parses a name; `None` if it does not have this form.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        let (org, model) = id.split_once('/')?;
        let is_revision = |revision: &str| revision.split('/').all(is_part);
        if !is_part(org) || !is_part(model) || !revision.is_none_or(is_revision) {
            return None;
        }
        Some(Self { org: org.to_owned(), model: model.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// The same for a path; `None` also if a file or folder of that name exists.
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = Self::parse(path.to_str()?)?;
        path.symlink_metadata().is_err().then_some(name)
    }

    /// `ORG/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.org, self.model)
    }

    /// `NAME` alone.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The branch, tag or commit; `main` if none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The name of the model's folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.org, self.model)
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.id()),
            None => f.write_str(&self.id()),
        }
    }
}

/// Whether this is a component of a name, which also keeps a path from leaving the cache's folder.
fn is_part(part: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty()
        && part.len() <= 96
        && !part.starts_with('.')
        && !part.contains("..")
        && part.chars().all(is_allowed)
}

/// Whether this is the hash of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts_and_perhaps_a_revision() {
        for (text, id, revision) in [
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "main"),
            ("Qwen/Qwen3-0.6B@v1.0", "Qwen/Qwen3-0.6B", "v1.0"),
            ("org/model@refs/pr/3", "org/model", "refs/pr/3"),
        ] {
            let name = HubName::parse(text).unwrap();
            assert_eq!((name.id().as_str(), name.revision(), name.to_string().as_str()), (id, revision, text));
        }
        for text in
            ["gpt2", "a/b/c", "/a/b", "./b", "../b", "a/..", "a/", "a/b@", "a/b@../c", "a/b@/c", "a b/c", "a/b@c@d"]
        {
            assert_eq!(HubName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_folder_of_the_same_name_is_no_hub_name() {
        assert!(HubName::parse("src/name.rs").is_some());
        assert_eq!(HubName::of_path(Path::new("src/name.rs")), None, "tests run in the crate's folder");
    }
}
