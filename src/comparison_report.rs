//! The comparison of a model with a teacher, as text and as JSON.

use logitcask_train::eval::{Comparison, Estimate, TeacherComparison};
use serde_json::{Map, Value};

/// Every number of `comparison` in one flat JSON object; a standard error has the name of its number with `_error`.
/// Numbers that are not known are left out.
pub fn comparison_json(comparison: &Comparison) -> Map<String, Value> {
    let mut json = Map::new();
    json.insert("samples".to_owned(), comparison.samples.into());
    json.insert("positions".to_owned(), comparison.positions.into());
    let mut number = |name: &str, value: f64| {
        if value.is_finite() {
            json.insert(name.to_owned(), value.into());
        }
    };
    let mut estimates = vec![("perplexity", comparison.perplexity)];
    if let Some(teacher) = &comparison.teacher {
        if let Some(label) = teacher.label {
            number("teacher_perplexity", label.teacher_perplexity);
            estimates.push(("perplexity_ratio", label.perplexity_ratio));
            estimates.push(("label_probability_rms_difference", label.rms_difference));
        }
        if let Some(rows) = teacher.rows {
            number("kl_median", rows.kl_median);
            number("kl_99th_percentile", rows.kl_99th_percentile);
            number("kl_worst", rows.kl_worst);
            estimates.push(("kl_to_teacher", rows.kl));
            estimates.push(("acceptance_lower_bound", rows.acceptance_lower_bound));
            estimates.push(("acceptance_upper_bound", rows.acceptance_upper_bound));
        }
        estimates.extend(teacher.top1_agreement.map(|agreement| ("top1_agreement", agreement)));
    }
    for (name, estimate) in estimates {
        number(name, estimate.value);
        number(&format!("{name}_error"), estimate.error);
    }
    json
}

/// The lines of text that show `comparison`.
pub fn comparison_lines(comparison: &Comparison) -> Vec<String> {
    let Comparison { samples, positions, perplexity, teacher } = comparison;
    let mut lines = vec![line(
        "perplexity",
        &format!("{}  (over {positions} positions of {samples} samples)", with_error(*perplexity)),
    )];
    lines.extend(teacher.iter().flat_map(lines_beside_teacher));
    lines
}

fn lines_beside_teacher(teacher: &TeacherComparison) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(label) = teacher.label {
        let ratio = with_error(label.perplexity_ratio);
        lines.push(line("  of the teacher", &format!("{}, ratio {ratio}", number(label.teacher_perplexity))));
    }
    if let Some(rows) = teacher.rows {
        let [median, high, worst] = [rows.kl_median, rows.kl_99th_percentile, rows.kl_worst].map(number);
        let kl = with_error(rows.kl);
        lines
            .push(line("KL to teacher", &format!("{kl} nats, median {median}, 99th percentile {high}, worst {worst}")));
    }
    lines.push(line(
        "top-1 agreement",
        &match teacher.top1_agreement {
            Some(agreement) => with_error(agreement),
            None => {
                "-  (unknown: randomly sampled classes need not include the teacher's most probable one)".to_owned()
            }
        },
    ));
    if let Some(rows) = teacher.rows {
        let (lower, upper) = (number(rows.acceptance_lower_bound.value), with_error(rows.acceptance_upper_bound));
        lines.push(line(
            "acceptance",
            &format!("{lower} to {upper}  (share of the tokens that it drafts and the teacher accepts)"),
        ));
    }
    if let Some(label) = teacher.label {
        lines.push(line("p(label)", &format!("RMS difference {}", with_error(label.rms_difference))));
    }
    lines
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<17}{value}")
}

/// Four decimals, or two digits of a positive number that would be lost among them.
fn number(value: f64) -> String {
    if value > 0.0 && value < 1e-3 { format!("{value:.1e}") } else { format!("{value:.4}") }
}

/// The number and its standard error, if that is known, both with enough decimals for two digits of the error.
fn with_error(Estimate { value, error }: Estimate) -> String {
    if !error.is_finite() {
        return number(value);
    }
    if value > 0.0 && value < 1e-3 {
        return format!("{value:.1e} ± {error:.1e}");
    }
    let decimals = if error > 0.0 { (1.0 - error.log10().floor()).clamp(4.0, 6.0) as usize } else { 4 };
    format!("{value:.decimals$} ± {error:.decimals$}")
}
