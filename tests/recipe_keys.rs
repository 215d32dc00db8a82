//! docs/recipes.md lists exactly the keys of a recipe, their choices and their defaults.
//!
//! The actual keys come from serde, whose error about an unknown key or choice lists the known ones. For the sections
//! that are defined in the binary, the errors of its commands are used.

use crate::fixture::Fixture;
use logitcask_core::schedule::ScheduleKind;
use logitcask_core::{
    Blend, Divergence, ExtraSource, LogProbPrecision, PositionChoice, Projection, SamplePruning, Selection,
    TargetTransform, TemperatureRule, TokenWeight,
};
use logitcask_data::{Answers, ChatConfig, DatasetConfig, GenerateConfig};
use logitcask_model::{ModelConfig, PrunedConfig, RopeScaling};
use logitcask_train::loss::{LossTerm, Relations, SecondTeacher};
use logitcask_train::{LoraConfig, LossConfig, LrSchedule, PartConfig, TrainConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// A key or choice that will never exist.
const UNKNOWN: &str = "no_such_key";

/// A type of a recipe.
trait Part: DeserializeOwned + Serialize + PartialEq + Debug {}
impl<T: DeserializeOwned + Serialize + PartialEq + Debug> Part for T {}

/// A row of a table of the page. In a table of kinds, a row without a key describes the kind itself.
#[derive(Clone, Debug)]
struct Row {
    kind: String,
    key: String,
    kind_of_value: String,
    default: String,
}

impl Row {
    fn is_required(&self) -> bool {
        self.default == "required"
    }

    /// The default, if it is written as TOML.
    fn literal(&self) -> Option<Value> {
        let text = self.default.strip_prefix('`')?.strip_suffix('`')?;
        let parsed: Table = format!("x = {text}").parse().unwrap_or_else(|e| panic!("{}: {text}: {e}", self.key));
        Some(parsed["x"].clone())
    }

    /// A choice as its value, or as the only one of an array of choices.
    fn of_choice(&self, choice: &str) -> Value {
        if self.kind_of_value.starts_with("array") { vec![choice].into() } else { choice.into() }
    }

    /// The strings that it can be: those in quotes in the column of types.
    fn choices(&self) -> BTreeSet<String> {
        let quoted = ticked(&self.kind_of_value);
        quoted.iter().filter_map(|text| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())).collect()
    }
}

/// The tables of the page by the anchor of the heading above them.
struct Page(BTreeMap<String, Vec<Row>>);

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md");
        let (mut tables, mut anchor, mut kind) = (BTreeMap::<_, Vec<Row>>::new(), String::new(), String::new());
        for line in fs::read_to_string(path).unwrap().lines() {
            if let Some(heading) = line.strip_prefix('#') {
                anchor = anchor_of(heading.trim_start_matches('#'));
                kind.clear();
            }
            let Some(cells) = cells(line).filter(|cells| !["key", "kind"].contains(&&*cells[0])) else { continue };
            let (key, kind_of_value, default) = match &*cells {
                [key, kind_of_value, default, meaning] if !meaning.is_empty() => (key, kind_of_value, default),
                [own, key, kind_of_value, default, meaning] if !meaning.is_empty() => {
                    if !own.is_empty() {
                        kind = own.trim_matches('`').to_owned();
                        assert!(key.is_empty(), "{line}: the row of a kind says what the kind is");
                    }
                    (key, kind_of_value, default)
                }
                _ => panic!("{line}: neither four nor five columns, or no meaning"),
            };
            tables.entry(anchor.clone()).or_default().push(Row {
                kind: kind.clone(),
                key: key.trim_matches('`').to_owned(),
                kind_of_value: kind_of_value.clone(),
                default: default.clone(),
            });
        }
        Self(tables)
    }

    fn table(&self, anchor: &str) -> &[Row] {
        self.0.get(anchor).unwrap_or_else(|| panic!("the page has no table under #{anchor}"))
    }

    /// The parameters of a kind, or the keys of a section.
    fn rows(&self, anchor: &str, kind: &str) -> Vec<Row> {
        let rows = self.table(anchor).iter().filter(|row| row.kind == kind && !row.key.is_empty());
        rows.cloned().collect()
    }

    fn kinds(&self, anchor: &str) -> BTreeSet<String> {
        self.table(anchor).iter().map(|row| row.kind.clone()).collect()
    }

    /// A value of the type that the page gives a key.
    fn sample(&self, row: &Row) -> Value {
        let of = &row.kind_of_value;
        match of {
            _ if !row.choices().is_empty() => row.of_choice(&row.choices().pop_first().unwrap()),
            _ if of.starts_with("integer") => 2.into(),
            _ if of.starts_with("number") => 0.5.into(),
            _ if of == "boolean" => true.into(),
            _ if of == "path" || of == "string" => "x".into(),
            _ if of == "array of integers" => vec![1, 2].into(),
            _ if of == "array of numbers" => vec![1.0, 2.0].into(),
            _ if of == "table of values" => Table::from_iter([("x".to_owned(), 1.into())]).into(),
            _ if of == "array of strings" => vec!["x"].into(),
            _ if of == "array of two numbers" => vec![0.5, 2.0].into(),
            _ => {
                let Some((_, link)) = of.split_once("](#") else { panic!("{}: {of} is no type", row.key) };
                let anchor = link.split_once(')').unwrap().0;
                let table = Value::Table(self.smallest(anchor, &self.table(anchor)[0].kind));
                if of.starts_with("array") { vec![table].into() } else { table }
            }
        }
    }

    /// The smallest table with the required keys of a kind or section.
    fn smallest(&self, anchor: &str, kind: &str) -> Table {
        let rows = self.rows(anchor, kind);
        let mut table: Table =
            rows.iter().filter(|row| row.is_required()).map(|row| (row.key.clone(), self.sample(row))).collect();
        if !kind.is_empty() {
            table.insert("kind".into(), kind.into());
        }
        table
    }

    /// Compares a section with its type, in both directions.
    fn check_section<T: Part>(&self, anchor: &str) {
        assert_eq!(self.kinds(anchor), BTreeSet::from([String::new()]), "#{anchor} is a table of keys");
        self.check_keys::<T>(anchor, "");
    }

    /// Compares a table of kinds with its type: the kinds, and the parameters of each.
    fn check_kinds<T: Part>(&self, anchor: &str) {
        let unknown = Table::from_iter([("kind".to_owned(), UNKNOWN.into())]);
        assert_eq!(self.kinds(anchor), known(&refusal::<T>(unknown)), "kinds of #{anchor}");
        self.kinds(anchor).iter().for_each(|kind| self.check_keys::<T>(anchor, kind));
    }

    fn check_keys<T: Part>(&self, anchor: &str, kind: &str) {
        let (rows, smallest) = (self.rows(anchor, kind), self.smallest(anchor, kind));
        let documented: BTreeSet<String> = rows.iter().map(|row| row.key.clone()).collect();
        assert_eq!(documented.len(), rows.len(), "#{anchor} {kind}: a key that stands there twice");
        let mut unknown = Table::from_iter([(UNKNOWN.to_owned(), 1.into())]);
        unknown
            .extend(smallest.iter().filter(|(key, _)| *key == "kind").map(|(key, value)| (key.clone(), value.clone())));
        // For a kind without parameters, serde lists none.
        let there = unknown.try_into::<T>().err().map_or(BTreeSet::new(), |e| known(&e.to_string()));
        assert_eq!(documented, there, "keys of #{anchor} {kind}");
        let least: T = parsed(smallest.clone(), anchor);
        for row in &rows {
            let place = format!("#{anchor} {kind} {}", row.key);
            let with = |value: Value| {
                let mut table = smallest.clone();
                table.insert(row.key.clone(), value);
                table
            };
            let _: T = parsed(with(self.sample(row)), &place);
            if !row.choices().is_empty() {
                assert_eq!(row.choices(), known(&refusal::<T>(with(row.of_choice(UNKNOWN)))), "choices of {place}");
            }
            match row.literal() {
                Some(default) => assert_eq!(parsed::<T>(with(default), &place), least, "default of {place}"),
                None if row.is_required() => {
                    let mut table = smallest.clone();
                    table.remove(&row.key);
                    let error = refusal::<T>(table);
                    assert!(error.contains(&format!("missing field `{}`", row.key)), "{place}: {error}");
                }
                None => {
                    assert_eq!(row.default, "none", "default of {place}");
                    let written = Value::try_from(&least).unwrap();
                    assert_eq!(written.get(&row.key), None, "{place} has a default");
                }
            }
        }
    }
}

/// The anchor that GitHub creates for a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// The cells of a line of a table; `\|` is not a border.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?.replace("\\|", "\u{0}");
    let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect();
    (!cells.iter().all(|cell| cell.starts_with("---"))).then_some(cells)
}

/// The texts between backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names that serde lists in an error about an unknown one.
fn known(error: &str) -> BTreeSet<String> {
    let line = error.lines().find(|line| line.contains(&format!("`{UNKNOWN}`, ")) && line.contains("unknown "));
    let line = line.unwrap_or_else(|| panic!("it says nothing of {UNKNOWN}: {error}"));
    let (_, listed) = line.split_once(&format!("`{UNKNOWN}`, ")).unwrap();
    assert!(listed.starts_with("expected ") || listed == "there are no fields", "{line}");
    ticked(listed).into_iter().collect()
}

fn parsed<T: Part>(table: Table, place: &str) -> T {
    table.clone().try_into().unwrap_or_else(|e| panic!("{place}: {table}: {e}"))
}

fn refusal<T: Part>(table: Table) -> String {
    match table.clone().try_into::<T>() {
        Ok(read) => panic!("{table} should be refused, and is {read:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn sections_of_the_libraries_are_documented() {
    let page = Page::read();
    page.check_section::<DatasetConfig>("dataset");
    page.check_section::<ChatConfig>("datasetchat");
    page.check_section::<Answers>("datasetchatanswers");
    page.check_section::<GenerateConfig>("datasetgenerate");
    page.check_section::<ModelConfig>("student");
    page.check_section::<RopeScaling>("studentrope_scaling");
    page.check_section::<PrunedConfig>("student-from-an-existing-model");
    page.check_section::<LossConfig>("loss");
    page.check_section::<LossTerm>("lossextra_terms");
    page.check_section::<SecondTeacher>("losssecond_teacher");
    page.check_section::<Relations>("lossrelations");
    page.check_section::<TrainConfig>("train");
    page.check_section::<LoraConfig>("trainlora");
    page.check_section::<PartConfig>("trainparts");
    page.check_section::<SamplePruning>("trainpruning");
}

#[test]
fn settings_of_families_are_documented() {
    let (page, anchor) = (Page::read(), "settings-of-families");
    let student: Vec<Row> = page.rows("student", "");
    let families = student.iter().find(|row| row.key == "model_type").unwrap().choices();
    assert!(page.kinds(anchor).is_subset(&families));
    let common: BTreeSet<String> = student.iter().map(|row| row.key.clone()).collect();
    for family in families {
        let with = |key: &str, value: Value| {
            let mut table = page.smallest("student", "");
            table.extend([("model_type".to_owned(), family.clone().into()), (key.to_owned(), value)]);
            table
        };
        let rows = page.rows(anchor, &family);
        let documented = common.iter().chain(rows.iter().map(|row| &row.key)).cloned().collect();
        assert_eq!(known(&refusal::<ModelConfig>(with(UNKNOWN, 1.into()))), documented, "{family}");
        let least: ModelConfig = parsed(with("model_type", family.clone().into()), &family);
        for row in rows {
            let place = format!("{family} {}", row.key);
            let other: ModelConfig = parsed(with(&row.key, page.sample(&row)), &place);
            let default = row.literal().map(|default| parsed::<ModelConfig>(with(&row.key, default), &place));
            assert!(default.is_none_or(|default| default == least), "default of {place}");
            let is_default = row.literal() == Some(page.sample(&row));
            assert!(is_default || row.kind_of_value == "boolean" || other != least, "{place} is read");
        }
    }
}

#[test]
fn kinds_and_their_parameters_are_documented() {
    let page = Page::read();
    page.check_kinds::<PositionChoice>("positions-kinds");
    page.check_kinds::<ExtraSource>("from-kinds");
    page.check_kinds::<Projection>("project-kinds");
    page.check_kinds::<Selection>("selection-kinds");
    page.check_kinds::<LogProbPrecision>("values-kinds");
    page.check_kinds::<ScheduleKind>("schedule-kinds");
    page.check_kinds::<Divergence>("divergence-kinds");
    page.check_kinds::<TemperatureRule>("temperature_rule-kinds");
    page.check_kinds::<TargetTransform>("target-kinds");
    page.check_kinds::<TokenWeight>("token_weight-kinds");
    page.check_kinds::<Blend>("blend-kinds");
    page.check_kinds::<LrSchedule>("learning-rate-schedule-kinds");
}

#[test]
fn sections_of_the_binary_are_documented() {
    let (page, fixture) = (Page::read(), Fixture::new(20));
    let documented = |anchor: &str| page.rows(anchor, "").into_iter().map(|row| row.key).collect::<BTreeSet<_>>();
    // The error of a recipe that consists of a dataset and this text.
    let error = |key: &str, value: Value| {
        let sections = [("dataset", page.smallest("dataset", "").into()), (key, value)];
        let recipe = Table::from_iter(sections.map(|(key, value)| (key.to_owned(), value)));
        fs::write(fixture.recipe(), recipe.to_string()).unwrap();
        fixture.fails(&["cache", "recipe.toml"])
    };
    assert!(error("extends", 1.into()).contains("extends must be the path of another recipe"));
    assert_eq!(documented("top-level"), known(&error(UNKNOWN, 1.into())));
    let mut column = page.smallest("cacheextrasname", "");
    column.insert(UNKNOWN.to_owned(), 1.into());
    let extras = Table::from_iter([("x".to_owned(), column.into())]);
    let error_of_column = error("cache", Table::from_iter([("extras".to_owned(), extras.into())]).into());
    assert_eq!(documented("cacheextrasname"), known(&error_of_column));
    for section in ["teacher", "tokenizer", "data", "cache", "eval", "export", "generations"] {
        let error_of = |key: &str, value: Option<Value>| {
            let mut table = page.smallest(section, "");
            table.remove(key);
            table.extend(value.map(|value| (key.to_owned(), value)));
            error(section, if section == "data" { vec![table].into() } else { table.into() })
        };
        assert_eq!(documented(section), known(&error_of(UNKNOWN, Some(1.into()))), "keys of [{section}]");
        for row in page.rows(section, "") {
            let place = format!("[{section}] {}", row.key);
            if !row.choices().is_empty() {
                let choices = known(&error_of(&row.key, Some(UNKNOWN.into())));
                assert_eq!(row.choices(), choices, "choices of {place}");
            }
            let error = error_of(&row.key, None);
            let is_missing = error.contains(&format!("missing key `{}`", row.key));
            assert_eq!(is_missing, row.is_required(), "{place}: {error}");
        }
    }
}

/// A run records its recipe with all defaults.
#[test]
fn defaults_of_the_binary_are_documented() {
    let (page, fixture) = (Page::read(), Fixture::new(60));
    // The default windows are longer than the context of the fixture's teacher. Its weights do not depend on the
    // context.
    let config = fixture.path("teacher/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["max_position_embeddings"] = 256.into();
    fs::write(config, json.to_string()).unwrap();
    fs::write(fixture.recipe(), LEAST).unwrap();
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
    let record: Table = fs::read_to_string(fixture.path("run/recipe.toml")).unwrap().parse().unwrap();
    let recipe = record["recipe"].as_table().unwrap();
    for section in ["teacher", "cache", "eval", "export"] {
        for row in page.rows(section, "").iter().filter(|row| !row.is_required()) {
            let place = format!("[{section}] {}", row.key);
            // An empty list is not written.
            let default = row.literal().filter(|value| value.as_array().is_none_or(|list| !list.is_empty()));
            assert!(row.literal().is_some() || row.default == "none", "default of {place}: {}", row.default);
            assert_eq!(recipe[section].get(&row.key), default.as_ref(), "default of {place}");
        }
    }
    let top = page.rows("top-level", "");
    let loss = top.iter().find(|row| row.key == "loss").and_then(Row::literal).unwrap();
    assert_eq!(parsed::<LossConfig>(loss.as_table().unwrap().clone(), "loss"), LossConfig::LABELS);
}

/// A minimal recipe, with a held-out share that is large enough for the few texts.
const LEAST: &str = r#"
[dataset]
path = "texts.jsonl"
held_out = 0.3

[teacher]
model = "teacher"

[student]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1

[loss]
alpha = 0.5

[train]
steps = 1
batch_size = 2
learning_rate = 1e-2
"#;

/// The recipe at the beginning of the page is valid, and the links of the page lead to existing targets.
#[test]
fn the_example_is_a_recipe_and_links_lead_to_headings() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md")).unwrap();
    let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let fixture = Fixture::new(20);
    fs::write(fixture.recipe(), block).unwrap();
    let error = fixture.fails(&["cache", "recipe.toml"]);
    assert!(error.contains("models/SmolLM"), "only its files are missing: {error}");
    let anchors: BTreeSet<String> =
        text.lines().filter_map(|line| Some(anchor_of(line.strip_prefix("##")?.trim_start_matches('#')))).collect();
    for link in text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(anchors.contains(link), "#{link} is no heading");
    }
}
