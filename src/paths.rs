//! Paths in recipes, and files that are moved or replaced.

use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders in which a recipe's relative paths are looked up, in this order: the recipe's own and the current one.
#[derive(Clone, Debug)]
pub struct Bases([PathBuf; 2]);

impl Bases {
    /// The folders for this recipe.
    pub fn of(recipe: &Path) -> Self {
        Self([recipe.parent().unwrap_or(Path::new("")).to_owned(), PathBuf::new()])
    }

    /// The first place where `path` exists, or `path` itself if there is none.
    pub fn find(&self, path: &Path) -> PathBuf {
        self.places(path).find(|place| place.exists()).unwrap_or_else(|| path.to_owned())
    }

    /// The place of a folder that may have to be created: the one with the fewest missing components, the first if
    /// several have equally few.
    pub fn find_or_make(&self, path: &Path) -> PathBuf {
        let missing = |place: &PathBuf| place.ancestors().take_while(|part| !exists(part)).count();
        self.places(path).min_by_key(missing).unwrap_or_else(|| path.to_owned())
    }

    fn places(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(move |base| base.join(path))
    }
}

/// Whether `path` exists; the empty path is the current folder.
fn exists(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// Whether both paths are the same file or folder after links are resolved.
pub fn are_one(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Refuses an output path that exists, since it may be the input.
pub fn refuse_existing(path: &Path) -> Result<()> {
    match path.exists() {
        true => bail!("{}: this file already exists; name another one, or remove it first", path.display()),
        false => Ok(()),
    }
}

/// Refuses an output path in a folder that is missing or cannot be written, before the work is done.
pub fn refuse_unwritable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{}: there is no such folder; create it first", folder.display());
    }
    tempfile::tempfile_in(folder).with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(())
}

/// Renames a folder to `NAME.old-1`, or to the first such name that is free; returns the new path.
pub fn move_aside(folder: &Path) -> Result<PathBuf> {
    let name =
        folder.file_name().ok_or_else(|| anyhow!("{}: cannot move a folder without a name aside", folder.display()))?;
    let numbered = |i: u32| {
        let mut numbered = OsString::from(name);
        numbered.push(format!(".old-{i}"));
        folder.with_file_name(numbered)
    };
    let free = (1..1000).map(numbered).find(|path| !path.exists());
    let free = free.ok_or_else(|| anyhow!("{}: there are too many old copies of it; remove some", folder.display()))?;
    std::fs::rename(folder, &free).with_context(|| format!("{}: cannot move it aside", folder.display()))?;
    Ok(free)
}

/// Replaces a file atomically: after a crash it has its old content or `bytes`.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    logitcask_files::replace(path, |file| file.write_all(bytes))
        .with_context(|| format!("{}: cannot write it", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_keeps_its_dots_when_it_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("llama-3.1");
        for expected in ["llama-3.1.old-1", "llama-3.1.old-2"] {
            std::fs::create_dir(&cache).unwrap();
            assert_eq!(move_aside(&cache).unwrap(), folder.path().join(expected));
        }
    }

    #[test]
    fn existing_paths_come_first_and_new_folders_go_where_fewest_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("recipes/elsewhere")).unwrap();
        let bases = Bases::of(&at("recipes/own.toml"));
        assert_eq!(bases.find(Path::new("corpus")), Path::new("corpus"), "unchanged, since it exists nowhere");
        std::fs::write(at("recipes/corpus"), "").unwrap();
        assert_eq!(bases.find(Path::new("corpus")), at("recipes/corpus"));
        assert_eq!(bases.find_or_make(Path::new("elsewhere/caches/x")), at("recipes/elsewhere/caches/x"));
        // The current folder of a test has a folder `src`, the recipe's folder has none.
        assert_eq!(bases.find_or_make(Path::new("src/x/y")), Path::new("src/x/y"));
        assert_eq!(
            bases.find_or_make(Path::new("out/x")),
            at("recipes/out/x"),
            "a tie goes to the recipe's own folder"
        );
    }
}
