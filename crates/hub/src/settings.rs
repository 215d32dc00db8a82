//! Where the cache is, and whether and from where models may be fetched.

use std::env;
use std::path::{Path, PathBuf};

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// The settings of Hugging Face's tools that apply here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the cache.
    pub cache: PathBuf,
    /// The hub's address.
    pub endpoint: String,
    /// The token of an account, for models that are not public.
    pub token: Option<String>,
    /// The file in which login stored a token.
    pub token_file: PathBuf,
    /// Whether the network must not be used.
    pub offline: bool,
}

impl Settings {
    /// Reads the environment: `HF_HUB_CACHE`, or the folder `hub` in `HF_HOME` (otherwise in
    /// `XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface`); `HF_ENDPOINT`; `HF_TOKEN`, or the file that login wrote
    /// (`HF_TOKEN_PATH`, or `token` in `HF_HOME`); `HF_HUB_OFFLINE`, or `TRANSFORMERS_OFFLINE`. Paths may begin with `~`.
    pub fn from_env() -> Self {
        Self::of(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(value: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = || value("HOME").or_else(|| value("USERPROFILE")).map(PathBuf::from).unwrap_or_default();
        let path = |name: &str| value(name).map(|path| expanded(&path, &home()));
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
        let hf_home = || path("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let is_on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Self {
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| hf_home().join("hub")),
            endpoint: value("HF_ENDPOINT").unwrap_or_else(|| PUBLIC.to_owned()).trim_end_matches('/').to_owned(),
            token: value("HF_TOKEN"),
            token_file: path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home().join("token")),
            offline: value("HF_HUB_OFFLINE").or_else(|| value("TRANSFORMERS_OFFLINE")).is_some_and(is_on),
        }
    }

    /// The token to use.
    #[cfg(feature = "fetch")]
    pub(crate) fn token(&self) -> Option<String> {
        let stored = || std::fs::read_to_string(&self.token_file).ok();
        self.token.clone().or_else(stored).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// Whether this build can fetch models, and may.
    pub(crate) fn may_fetch(&self) -> bool {
        cfg!(feature = "fetch") && !self.offline
    }

    /// Why nothing is fetched, and what to do.
    pub(crate) fn why_not(&self) -> &'static str {
        match self.offline {
            true => "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids to fetch it: unset it",
            false => "this build cannot fetch models: build it with the feature `hub`",
        }
    }
}

/// The path with the user's folder in place of a `~` at its beginning.
fn expanded(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with(['/', std::path::MAIN_SEPARATOR]) => home.join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(&str, &str)]) -> Settings {
        Settings::of(&|name| values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_most_particular_variable_wins() {
        let mut values = vec![("HOME", "/h")];
        for (key, value, cache) in [
            ("HOME", "/h", "/h/.cache/huggingface/hub"),
            ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
            ("HF_HOME", "/hf", "/hf/hub"),
            ("HF_HOME", "~/hf", "/h/hf/hub"),
            ("HF_HUB_CACHE", "/c", "/c"),
            ("HF_HUB_CACHE", "~", "/h"),
            ("HF_HUB_CACHE", "~other/c", "~other/c"),
        ] {
            values.retain(|(other, _)| *other != key);
            values.push((key, value));
            assert_eq!(of(&values).cache, PathBuf::from(cache));
        }
    }

    #[test]
    fn offline_is_a_switch() {
        for (value, expected) in [("1", true), ("ON", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(of(&[("HF_HUB_OFFLINE", value)]).offline, expected, "{value}");
            assert_eq!(of(&[("TRANSFORMERS_OFFLINE", value)]).offline, expected, "{value}");
        }
        assert_eq!(of(&[("HF_ENDPOINT", "http://a/")]).endpoint, "http://a");
    }
}
