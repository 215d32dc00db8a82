//! A folder of texts, from a hub or made by hand: its files in order, and the split that each names.

use super::data_file::{DataFile, Entry};
use super::{card, glob, kind, names, saved};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum nesting of folders; a link to a parent folder would recurse endlessly.
const MAX_DEPTH: usize = 16;
/// Maximum number of names in a note.
const SHOWN: usize = 5;

/// The files to read.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub files: Vec<DataFile>,
    /// The card that listed the files, if one did.
    pub card: Option<PathBuf>,
    pub notes: Vec<String>,
    pub is_folder: bool,
}

/// Lists the files of a folder and its subfolders. If a column names splits, files need not.
pub(super) fn layout(folder: &Path, has_column: bool) -> Result<Layout> {
    let mut entries = vec![];
    walk(folder, "", 0, &mut entries)?;
    entries.sort();
    if let Some(files) = saved::by_split(folder, &entries)? {
        return Ok(Layout { files, is_folder: true, ..Layout::default() });
    }
    let card_path = folder.join("README.md");
    let named = match card_path.is_file() {
        true => card::data_files(&card_path)?,
        false => None,
    };
    let layout = match named {
        Some(named) => by_card(folder, card_path, &named, entries)?,
        None => by_names(folder, has_column, entries)?,
    };
    let relatives = layout.files.iter().filter_map(|file| file.path.strip_prefix(folder).ok());
    let relatives: Vec<String> = relatives.map(|path| path.to_string_lossy().replace('\\', "/")).collect();
    names::check_shards(folder, relatives.iter().map(String::as_str))?;
    Ok(layout)
}

fn walk(folder: &Path, below: &str, depth: usize, found: &mut Vec<Entry>) -> Result<()> {
    if depth > MAX_DEPTH {
        let problem = format!("lies more than {MAX_DEPTH} folders deep; is it a link to a folder above it?");
        return Err(Error::Folder { path: folder.to_owned(), problem });
    }
    let saved = saved::data_files(folder)?;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_description =
            ["LICENSE", "dataset_infos.json"].contains(&&*name) || saved::DESCRIPTIONS.contains(&&*name);
        if name.starts_with('.') || name.ends_with(".md") || is_description {
            continue;
        }
        // What `datasets` computed from the others and left beside them.
        if name.ends_with(".arrow") && saved.as_ref().is_some_and(|files| !files.contains(&name)) {
            continue;
        }
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) => {
                return Err(match fs::read_link(&path) {
                    Ok(target) if e.kind() == std::io::ErrorKind::NotFound => Error::Link { path, target },
                    _ => Error::io(&path)(e),
                });
            }
        };
        let relative = format!("{below}{name}");
        if metadata.is_dir() {
            walk(&path, &format!("{relative}/"), depth + 1, found)?;
        } else {
            found.push((relative, path));
        }
    }
    Ok(())
}

/// Uses the files that the card lists; a note mentions others.
fn by_card(folder: &Path, card: PathBuf, named: &[card::SplitFiles], entries: Vec<Entry>) -> Result<Layout> {
    let refused = |problem| Error::Card { path: card.clone(), problem };
    let is_named = |pattern: &String, relative: &str| {
        glob::fits(pattern, relative)
            || relative.strip_prefix(pattern.trim_end_matches('/')).is_some_and(|below| below.starts_with('/'))
    };
    for (split, pattern) in named.iter().flat_map(|named| named.patterns.iter().map(|pattern| (&named.split, pattern)))
    {
        if !entries.iter().any(|(relative, _)| is_named(pattern, relative)) {
            return Err(refused(format!(
                "name `{pattern}` for the split `{split}`, and no file there fits; fetch it, or name a folder or file as the `path`"
            )));
        }
    }
    let (mut files, mut others) = (vec![], vec![]);
    for (relative, path) in entries {
        let splits: BTreeSet<&str> = named
            .iter()
            .filter(|named| named.patterns.iter().any(|pattern| is_named(pattern, &relative)))
            .map(|named| named.split.as_str())
            .collect();
        let splits: Vec<&str> = splits.into_iter().collect();
        match *splits.as_slice() {
            [] => others.push(relative),
            [split] => files.push(DataFile { path, split: Some(split.to_owned()) }),
            _ => return Err(refused(format!("put {relative} into the splits {}", splits.join(" and ")))),
        }
    }
    let notes = match others.as_slice() {
        [] => vec![],
        others => {
            let shown = others.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if others.len() > SHOWN { ", ..." } else { "" };
            let (folder, count) = (folder.display(), others.len());
            vec![format!("{folder}: {count} files that its README.md does not name are not read: {shown}{more}")]
        }
    };
    Ok(Layout { files, card: Some(card), notes, is_folder: true })
}

/// Determines the splits from names of files and folders, if any names one.
fn by_names(folder: &Path, has_column: bool, entries: Vec<Entry>) -> Result<Layout> {
    let mut files = vec![];
    for (relative, path) in entries {
        if kind(&path).is_none() {
            return Err(Error::Extension { path });
        }
        let split = match names::split(&path, &relative) {
            // The column decides, so a name with two splits is not a contradiction.
            Err(_) if has_column => None,
            split => split?,
        };
        files.push(DataFile { path, split });
    }
    let named = files.iter().find_map(|file| Some((&file.path, file.split.as_deref()?)));
    let unnamed = files.iter().find(|file| file.split.is_none());
    if let (Some((path, split)), Some(unnamed), false) = (named, unnamed, has_column) {
        let problem = format!(
            "names no split, while {} names `{split}`; rename one of them, move one elsewhere, or name the splits of the texts in a `split_column`",
            path.strip_prefix(folder).unwrap_or(path).display()
        );
        return Err(Error::Folder { path: unnamed.path.clone(), problem });
    }
    Ok(Layout { files, is_folder: true, ..Layout::default() })
}
