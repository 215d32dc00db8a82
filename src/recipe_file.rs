//! Reading of recipes: other recipes that they extend, and the places that their relative paths lead to.

use crate::paths::Bases;
use crate::plain_words;
use crate::recipe::Recipe;
use crate::recipe_of_cache as of_cache;
use crate::student::{self, is_pretrained};
use anyhow::{Context, Result, anyhow, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Reads a recipe; an error about a key names its line. A recipe that `extends` another inherits the keys that it
/// does not have itself. Relative paths are looked up as [`Bases`] describes.
pub fn read(path: &Path) -> Result<Recipe> {
    let mut recipe: Recipe = match read_table(path)? {
        (text, None) => {
            // Parsed from the text first, so that an error names its line.
            let named = |e: toml::de::Error| anyhow!("{}: {}", path.display(), plain_words::shown(&e));
            let mut table = parse(path, &text)?;
            student::check(&table, Some(&text)).map_err(|e| anyhow!("{}: {e}", path.display()))?;
            let _: Recipe = toml::from_str(&text).map_err(named)?;
            find_paths(&mut table, &Bases::of(path));
            of_cache::complete(&mut table).with_context(|| path.display().to_string())?;
            table.try_into().map_err(named)?
        }
        (text, Some(base)) => {
            let base = Bases::of(path).find(&base);
            let (base_text, further) = read_table(&base)
                .with_context(|| format!("{}: cannot read the recipe that it extends", path.display()))?;
            if further.is_some() {
                bail!(
                    "{}: extends {}, which itself extends another recipe; extend only recipes that do not",
                    path.display(),
                    base.display()
                );
            }
            // The paths of each recipe are relative to that recipe's folder.
            let (mut under, mut over) = (parse(&base, &base_text)?, parse(path, &text)?);
            find_paths(&mut under, &Bases::of(&base));
            find_paths(&mut over, &Bases::of(path));
            let named = |e: String| anyhow!("{} (over {}): {e}", path.display(), base.display());
            let mut merged = merge(&under, over);
            of_cache::complete(&mut merged).with_context(|| path.display().to_string())?;
            student::check(&merged, None).map_err(named)?;
            merged.try_into().map_err(|e| named(plain_words::shown(&e)))?
        }
    };
    recipe.check().with_context(|| path.display().to_string())?;
    recipe.place_answers(path);
    Ok(recipe)
}

/// A recipe's text, and the path of the recipe that it extends.
fn read_table(path: &Path) -> Result<(String, Option<PathBuf>)> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData | ErrorKind::IsADirectory => anyhow!(not_a_recipe(path)),
        _ => anyhow!(error).context(format!("{}: cannot read the recipe", path.display())),
    })?;
    let extends = parse(path, &text)?.get(EXTENDS).map(|base| base.as_str().map(PathBuf::from));
    match extends {
        Some(None) => bail!("{}: extends must be the path of another recipe", path.display()),
        Some(base) => Ok((text, base)),
        None => Ok((text, None)),
    }
}

fn parse(path: &Path, text: &str) -> Result<toml::Table> {
    text.parse().map_err(|e| match path.extension().is_some_and(|extension| extension == "toml") {
        true => anyhow!("{}: {e}", path.display()),
        false => anyhow!("{}: {e}", not_a_recipe(path)),
    })
}

fn not_a_recipe(path: &Path) -> String {
    format!(
        "{}: this is not a recipe. A recipe is a TOML file such as data/recipes/demo.toml; it names texts with \
         [dataset] path",
        path.display()
    )
}

/// Replaces a recipe's relative paths by the places where they are found.
fn find_paths(table: &mut toml::Table, bases: &Bases) {
    // The name of a model on a server is no path, although a file may have it.
    let is_name = |sections: &[&str], key: &str, table: &toml::Table| {
        let teacher = table.get("teacher").and_then(toml::Value::as_table);
        (sections, key) == (&["teacher"], "model") && teacher.is_some_and(|teacher| teacher.contains_key("server"))
    };
    for (sections, key) in PATHS {
        if is_name(sections, key, table) {
            continue;
        }
        let section = sections.iter().try_fold(&mut *table, |table, name| table.get_mut(*name)?.as_table_mut());
        find_path(section.and_then(|section| section.get_mut(*key)), |path| match *sections {
            ["cache"] | ["dataset", "generate"] => bases.find_or_make(path),
            _ => bases.find(path),
        });
    }
    for data in table.get_mut("data").and_then(toml::Value::as_array_mut).into_iter().flatten() {
        find_path(data.as_table_mut().and_then(|data| data.get_mut("cache")), |path| bases.find(path));
    }
}

/// Replaces a relative path by the place where it is found.
fn find_path(value: Option<&mut toml::Value>, find: impl Fn(&Path) -> PathBuf) {
    let Some(toml::Value::String(path)) = value else { return };
    // A path that is not valid Unicode cannot be a TOML string; it stays relative.
    if let Some(found) = find(Path::new(path)).to_str() {
        *path = found.to_owned();
    }
}

/// Sections and keys of the paths in a recipe.
const PATHS: &[(&[&str], &str)] = &[
    (&["dataset"], "path"),
    (&["dataset", "chat"], "template"),
    (&["dataset", "generate"], "path"),
    (&["teacher"], "model"),
    (&["teacher"], "tokenizer"),
    (&["tokenizer"], "path"),
    (&["cache"], "path"),
    (&["student"], "from"),
    (&["loss", "second_teacher"], "cache"),
];

/// The keys of `over`, and those of `base` that `over` does not have, section by section. A student that starts from a
/// model has none of the keys of a shape.
fn merge(base: &toml::Table, over: toml::Table) -> toml::Table {
    let mut merged = base.clone();
    for (name, section) in over.into_iter().filter(|(name, _)| name != EXTENDS) {
        match (merged.get_mut(&name).and_then(toml::Value::as_table_mut), section) {
            (Some(there), toml::Value::Table(section)) => {
                if name == STUDENT && is_pretrained(&section) && !is_pretrained(there) {
                    there.clear();
                }
                there.extend(section);
            }
            (_, section) => {
                merged.insert(name, section);
            }
        }
    }
    merged
}

/// The section of the student.
const STUDENT: &str = "student";

/// The key that names another recipe.
const EXTENDS: &str = "extends";
