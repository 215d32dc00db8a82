//! The dataset card, which turns a cache's folder into a dataset that can be shared as it is.

use crate::manifest::Manifest;
use crate::names::DATA_DIR;
use crate::plan::{Layout, Plan};
use crate::{names, schema};
use arrow_schema::DataType;
use logitcask_core::{
    ExtraColumn, ExtraSource, Gold, GoldSource, HiddenPositions, LogProbPrecision, Selection, TailSource,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The card's file name.
pub const CARD_NAME: &str = "README.md";

/// Total length of each split's shards.
pub(crate) type SplitBytes = BTreeMap<String, u64>;

/// The text of the card: YAML for dataset hubs, then a description for people. It is a function of plan and commits.
pub(crate) fn text(plan: &Plan, manifest: &Manifest, bytes: &SplitBytes) -> String {
    let mut card = String::new();
    // Writing into a String cannot fail.
    let _ = write_card(&mut card, plan, manifest, bytes);
    card
}

fn write_card(card: &mut String, plan: &Plan, manifest: &Manifest, bytes: &SplitBytes) -> std::fmt::Result {
    write_yaml(card, plan, manifest)?;
    write_dataset_info(card, plan, bytes)?;
    write_table(card, plan, manifest)?;
    write_columns(card, plan)?;
    write_reading(card, plan)
}

/// Writes the YAML that dataset hubs read.
fn write_yaml(card: &mut String, plan: &Plan, manifest: &Manifest) -> std::fmt::Result {
    writeln!(
        card,
        "---\npretty_name: Logit cache of {} over {}",
        plain(&plan.teacher.name),
        plain(&plan.dataset.name)
    )?;
    writeln!(
        card,
        "tags:\n- logitcask\n- knowledge-distillation\n- soft-targets\nsize_categories:\n- {}",
        size(manifest.totals.rows)
    )?;
    writeln!(card, "configs:\n- config_name: default\n  data_files:")?;
    for split in plan.splits.iter().map(|split| &split.name) {
        let number = "?".repeat(names::digits(plan.units(split).map_or(0, |units| units.len())));
        // In quotes, because YAML reads `no` as false. The full name is given, because `train-*` would include the
        // shards of `train-hard`.
        writeln!(
            card,
            "  - split: \"{}\"\n    path: \"{DATA_DIR}/{split}-{number}-of-{number}.parquet\"",
            names::card_split(split)
        )?;
    }
    Ok(())
}

/// Writes the columns' types and the splits' sizes as the `datasets` library does, and ends the YAML.
fn write_dataset_info(card: &mut String, plan: &Plan, bytes: &SplitBytes) -> std::fmt::Result {
    // The library's names of types are Arrow's in lower case.
    let name = |data_type: &DataType| data_type.to_string().to_lowercase();
    writeln!(card, "dataset_info:\n  features:")?;
    for field in schema::columns(plan).fields() {
        let (kind, of) = match field.data_type() {
            DataType::List(item) => ("list", item.data_type()),
            single => ("dtype", single),
        };
        writeln!(card, "  - name: {}\n    {kind}: {}", field.name(), name(of))?;
    }
    writeln!(card, "  splits:")?;
    for split in &plan.splits {
        let (name, size) = (names::card_split(&split.name), bytes.get(&split.name).copied().unwrap_or_default());
        writeln!(card, "  - name: \"{name}\"\n    num_bytes: {size}\n    num_examples: {}", split.samples)?;
    }
    let total: u64 = bytes.values().sum();
    writeln!(card, "  download_size: {total}\n  dataset_size: {total}\n---\n")
}

fn write_table(card: &mut String, plan: &Plan, manifest: &Manifest) -> std::fmt::Result {
    let totals = &manifest.totals;
    writeln!(card, "# What {} says about {}\n", plain(&plan.teacher.name), plain(&plan.dataset.name))?;
    writeln!(
        card,
        "A logit cache in Logitcask's format, version {}: for every token the teacher's log-probabilities of the likely \
         next tokens, and {}. Students are distilled from it without the teacher.\n",
        plan.format_version,
        match plan.keep.source.tail {
            TailSource::Atoms => "a summary of all others from which its distribution follows at every temperature",
            TailSource::Mass => "of all others their total probability at T = 1, which is what these leave of 1",
            TailSource::None => "nothing of all others",
        }
    )?;
    writeln!(card, "| | |\n|---|---|")?;
    writeln!(card, "| cache id | `{}` |", manifest.cache_id())?;
    writeln!(
        card,
        "| teacher | {} (`{}`), {} |",
        plain(&plan.teacher.name),
        plan.teacher.fingerprint.short(),
        plan.precision
    )?;
    write!(card, "| vocabulary | {} classes", plan.vocab_size)?;
    match plan.keep.padding {
        0 => writeln!(card, " |")?,
        padding => writeln!(
            card,
            "; the teacher's head has {padding} more that no token has, in `log_z` and the tail alone |"
        )?,
    }
    writeln!(card, "| samples, positions, kept classes | {}, {}, {} |", totals.rows, totals.positions, totals.entries)?;
    writeln!(
        card,
        "| kept at each position | {}, {} of the probability on average |",
        plan.selection(),
        percent(totals.kept_mass)
    )?;
    writeln!(card, "| layout | {} |", plan.layout.name())?;
    if !plan.keep.source.is_full() {
        writeln!(card, "| told by the source | {} |", plan.keep.source)?;
    }
    if let Some(tail) = plan.keep.tail {
        let worst = totals.log_z_error.iter().map(|e| e.worst).fold(0.0, f64::max);
        writeln!(
            card,
            "| temperatures | {} to {}: log Z right to {worst:.1e} nat, measured at every position |",
            tail.lowest_temperature, tail.highest_temperature
        )?;
    }
    writeln!(card, "| rounding of log-probabilities | {:.1e} nat at worst |\n", totals.codec_error.worst)
}

fn write_columns(card: &mut String, plan: &Plan) -> std::fmt::Result {
    let positions = match plan.positions.is_all() {
        true => "the L - 1 tokens that have a next token",
        false => "those that `positions` lists",
    };
    writeln!(
        card,
        "One row is one sample of L tokens and P positions, which are {positions}; lists are flat, position after \
         position, and speak of the token that follows.\n"
    )?;
    writeln!(card, "| column | what |\n|---|---|")?;
    for field in schema::columns(plan).fields() {
        writeln!(card, "| `{}` | {} |", field.name(), meaning(field.name(), plan))?;
    }
    Ok(())
}

/// Writes a program that reads a row and computes log Z at any temperature, or how to get columns that it can read.
fn write_reading(card: &mut String, plan: &Plan) -> std::fmt::Result {
    if plan.layout == Layout::Packed {
        return writeln!(card, "\n`logitcask export` turns the packed columns into plain lists.");
    }
    if !plan.keep.source.log_z || plan.keep.source.tail != TailSource::Atoms {
        // Neither log Z at T = 1 nor that at another temperature follows from less.
        return Ok(());
    }
    let k = plan.max_kept();
    let (start, end) = match (plan.keep.is_fixed(), plan.keep.selection) {
        (false, _) => (r#"sum(row["topk_counts"][:i])"#.to_owned(), r#"start + row["topk_counts"][i]"#.to_owned()),
        (true, Selection::Sample { .. }) => (format!("{k} * i"), format!(r#"start + {k} - row["drawn_counts"][i]"#)),
        (true, _) => (format!("{k} * i"), format!("start + {k}")),
    };
    let shard = plan.shard_name(0);
    writeln!(
        card,
        r#"
log Z of a position at temperature T in Python:

```python
import math
import pyarrow.parquet as pq

def log_z(row, i, T):
    start = {start}
    terms = [p / T for p in row["topk_log_probs"][start:{end}]]"#
    )?;
    if let Some(tail) = plan.keep.tail {
        let (atoms, reference) = (tail.atoms, tail.reference());
        writeln!(
            card,
            r#"    for x, w in zip(row["tail_logits"][{atoms} * i:][:{atoms}], row["tail_log_weights"][{atoms} * i:][:{atoms}]):
        terms += [(w + (1 / T - {reference}) * x) / 512] if x != -32768 else []"#
        )?;
    }
    writeln!(
        card,
        r#"    return row["log_z"][i] / T + math.log(sum(map(math.exp, terms)))

row = pq.read_table("{shard}").slice(0, 1).to_pylist()[0]
print(log_z(row, i=0, T=1.0))
```"#
    )
}

fn meaning(column: &str, plan: &Plan) -> String {
    let k = plan.max_kept();
    if let Some(extra) = plan.extras.iter().find(|extra| extra.name == column) {
        return extra_meaning(extra);
    }
    match column {
        schema::SAMPLE_ID => "place in the split".into(),
        schema::DOCUMENT => "index of the document it was cut from".into(),
        schema::DOCUMENT_OFFSET => "its first token's place in that document".into(),
        schema::INPUT_HASH_LOW => "first half of the hash of `input_ids`".into(),
        schema::INPUT_HASH_HIGH => "second half of that hash".into(),
        schema::INPUT_IDS => "the tokens, L".into(),
        schema::POSITIONS => "the positions, as indices into `input_ids`, P".into(),
        schema::LOG_Z => "log sum exp of the raw logits over the whole vocabulary, P".into(),
        schema::GOLD_LOG_PROBS => "log-probability of the token that follows, P".into(),
        schema::GOLD_RANKS if plan.keep.source.gold == GoldSource::Kept => {
            format!("its place among the kept classes, {} if it is none of them, P", Gold::UNKNOWN_RANK)
        }
        schema::GOLD_RANKS => "classes the teacher ranks before it, P".into(),
        schema::TAIL_LOGITS => format!("{} pseudo-classes of the tail, logit - log_z in 1/512 nat", plan.keep.atoms()),
        schema::TAIL_LOG_WEIGHTS => "log of their weights in 1/512 nat".into(),
        schema::TOPK_COUNTS => format!("kept classes at each position, at most {k}"),
        schema::DRAWN_COUNTS => "how many of them, at the end, were drawn at random".into(),
        schema::TOPK_IDS if plan.keep.is_fixed() => format!("the {k} kept classes of each position, likeliest first"),
        schema::TOPK_IDS => "the kept classes of each position, likeliest first".into(),
        schema::TOPK_LOG_PROBS => match plan.keep.values {
            LogProbPrecision::F16 {} => "their log-probabilities at T = 1".into(),
            LogProbPrecision::Quantised { step } => format!("their log-probabilities at T = 1, in steps of {step}"),
        },
        schema::PACKED => "the teacher's output: kept classes, labels, log_z and tail, entropy-coded".into(),
        _ => "what decodes `packed`, in the first row".into(),
    }
}

/// What an extra column holds.
fn extra_meaning(extra: &ExtraColumn) -> String {
    let ExtraColumn { from: ExtraSource::Hidden { positions, project }, size, precision, .. } = extra;
    let whose = match positions {
        HiddenPositions::All => "of each position, P vectors",
        HiddenPositions::Last => "of the last position, one vector",
        HiddenPositions::Mean => "the mean over the positions, one vector",
    };
    let how = if project.is_some() { ", projected at random" } else { "" };
    format!("last hidden state after the final norm{how}: {whose} of {size} {}", precision.name())
}

/// The name in a form that breaks neither YAML nor a table.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "._-/ ".contains(c) { c } else { '_' }).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The size category as hubs define it.
fn size(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "n>10M",
    }
}
