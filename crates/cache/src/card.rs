//! The dataset card, which turns a cache's folder into a dataset that can be shared as it is.

use crate::manifest::Manifest;
use crate::names::DATA_DIR;
use crate::plan::{Layout, Plan};
use crate::{names, schema};
use logitcask_core::LogProbPrecision;
use std::fmt::Write;

/// The card's file name.
pub const CARD_NAME: &str = "README.md";

/// The text of the card: YAML for dataset hubs, then a description for people. It is a function of plan and manifest.
pub(crate) fn text(plan: &Plan, manifest: &Manifest) -> String {
    let mut card = String::new();
    // Writing into a String cannot fail.
    let _ = write_card(&mut card, plan, manifest);
    card
}

fn write_card(card: &mut String, plan: &Plan, manifest: &Manifest) -> std::fmt::Result {
    write_yaml(card, plan, manifest)?;
    write_table(card, plan, manifest)?;
    write_columns(card, plan)
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
    writeln!(card, "---\n")
}

fn write_table(card: &mut String, plan: &Plan, manifest: &Manifest) -> std::fmt::Result {
    let totals = &manifest.totals;
    writeln!(card, "# What {} says about {}\n", plain(&plan.teacher.name), plain(&plan.dataset.name))?;
    writeln!(
        card,
        "A logit cache in Logitcask's format, version {}: for every token the teacher's log-probabilities of the likely \
         next tokens, and a summary of all others from which its distribution follows at every temperature. Students \
         are distilled from it without the teacher.\n",
        plan.format_version
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
    if plan.layout == Layout::Packed {
        writeln!(card, "\n`logitcask export` turns the packed columns into plain lists.")?;
    }
    Ok(())
}

fn meaning(column: &str, plan: &Plan) -> String {
    let k = plan.max_kept();
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
