//! Where the paths of a recipe lead.

use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders from which a recipe's relative paths are taken, the first that has one deciding: the recipe's own, and the
/// current one.
#[derive(Clone, Debug)]
pub struct Bases([PathBuf; 2]);

impl Bases {
    /// Of this recipe.
    pub fn of(recipe: &Path) -> Self {
        Self([recipe.parent().unwrap_or(Path::new("")).to_owned(), PathBuf::new()])
    }

    /// What `path` leads to: the first of the places that is there, or `path` itself where none is.
    pub fn find(&self, path: &Path) -> PathBuf {
        self.places(path).find(|place| place.exists()).unwrap_or_else(|| path.to_owned())
    }

    /// A folder that may have to be made: the first of the places that is there, or else the one of whose path most is
    /// there.
    pub fn find_or_make(&self, path: &Path) -> PathBuf {
        let missing = |place: &PathBuf| place.ancestors().take_while(|part| !is_there(part)).count();
        self.places(path).min_by_key(missing).unwrap_or_else(|| path.to_owned())
    }

    fn places(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(move |base| base.join(path))
    }
}

/// The empty path is the current folder.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// Do both lead to one place, through whatever links?
pub fn are_one(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Refuses to write where something lies: it may be the input.
pub fn refuse_existing(path: &Path) -> Result<()> {
    match path.exists() {
        true => bail!("{}: is there already; name another file, or remove it first", path.display()),
        false => Ok(()),
    }
}

/// Moves a folder out of the way: `NAME.old-1`, or the first such name that is free.
pub fn move_aside(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().ok_or_else(|| anyhow!("{}: it has no name to move it aside by", folder.display()))?;
    let numbered = |i: u32| {
        let mut numbered = OsString::from(name);
        numbered.push(format!(".old-{i}"));
        folder.with_file_name(numbered)
    };
    let free = (1..1000).map(numbered).find(|path| !path.exists());
    let free = free.ok_or_else(|| anyhow!("{}: too many old copies beside it; remove some", folder.display()))?;
    std::fs::rename(folder, &free).with_context(|| format!("{}: cannot move it aside", folder.display()))?;
    Ok(free)
}

/// Writes a file so that after a crash it holds what it held before or `bytes`.
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
    fn what_is_there_comes_first_and_what_is_to_be_made_goes_where_most_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("recipes/elsewhere")).unwrap();
        let bases = Bases::of(&at("recipes/own.toml"));
        assert_eq!(bases.find(Path::new("corpus")), Path::new("corpus"), "as it stands, where it is nowhere");
        std::fs::write(at("recipes/corpus"), "").unwrap();
        assert_eq!(bases.find(Path::new("corpus")), at("recipes/corpus"));
        assert_eq!(bases.find_or_make(Path::new("elsewhere/caches/x")), at("recipes/elsewhere/caches/x"));
        // The tests run where there is a folder `src`, and the recipe's folder has none.
        assert_eq!(bases.find_or_make(Path::new("src/x/y")), Path::new("src/x/y"));
        assert_eq!(
            bases.find_or_make(Path::new("out/x")),
            at("recipes/out/x"),
            "a tie goes to the recipe's own folder"
        );
    }
}
