//! What a recipe may say about the loss, and what it may say over which cache.

use crate::loss::{LossConfig, LossTerm};
use logitcask_core::{Divergence, Selection, TailPolicy, TargetTransform, TemperatureRule, Truncation};

impl LossConfig {
    /// Refuses what is no weight, no temperature and no divergence, and what makes no sense together.
    pub fn check(&self) -> Result<(), String> {
        self.alpha.check().map_err(|problem| format!("[loss] alpha: {problem}"))?;
        let (least, most) = self.alpha.range();
        if let Some(alpha) = [least, most].into_iter().find(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(format!("[loss] alpha = {alpha} is not within 0..=1"));
        }
        if self.classes == Some(0) {
            return Err("[loss] classes = 0 leaves nothing to learn from".into());
        }
        self.target.check().map_err(|problem| format!("[loss] target: {problem}"))?;
        if let Some(weigh) = self.token_weight {
            weigh.check().map_err(|problem| format!("[loss] token_weight: {problem}"))?;
        }
        if self.extra_terms.iter().any(|term| (term.tail == TailPolicy::Sampled) != (self.tail == TailPolicy::Sampled))
        {
            return Err(
                "[loss] extra_terms: tail = \"sampled\" is for all terms or none, they read the same classes".into()
            );
        }
        if let Some(second) = &self.second_teacher {
            second.blend.check().map_err(|problem| format!("[loss] second_teacher: {problem}"))?;
            if self.terms().any(|term| term.temperature_rule.is_some()) {
                return Err(
                    "[loss] second_teacher: rules about temperatures look at one teacher; leave temperature_rule out"
                        .into(),
                );
            }
        }
        self.terms().try_for_each(|term| self.check_term(&term)).map_err(|problem| format!("[loss] {problem}"))
    }

    fn check_term(&self, term: &LossTerm) -> Result<(), String> {
        let temperatures = [("temperature", Some(term.temperature)), ("student_temperature", term.student_temperature)];
        for (name, curve) in temperatures.into_iter().chain([("factor", Some(term.factor))]) {
            let Some(curve) = curve else { continue };
            curve.check().map_err(|problem| format!("{name}: {problem}"))?;
            if curve.range().0 <= 0.0 && name != "factor" {
                return Err(format!("{name} = {} is not a positive number", curve.range().0));
            }
        }
        if term.factor.range().0 < 0.0 {
            return Err(format!("factor = {} is no weight", term.factor.range().0));
        }
        term.divergence
            .check()
            .and_then(|()| term.divergence.check_tail_policy(term.tail))
            .map_err(|e| format!("divergence: {e}"))?;
        if let Some(rule) = term.temperature_rule {
            rule.check().map_err(|problem| format!("temperature_rule: {problem}"))?;
            if term.student_temperature.is_some() {
                return Err(
                    "temperature_rule decides the student's temperature too; leave student_temperature out".into()
                );
            }
            if term.divergence == (Divergence::Spearman {}) && rule.needs_slopes() {
                return Err(
                    "temperature_rule: ranks are sharper the lower the temperature, so there is nothing to learn of it"
                        .into(),
                );
            }
        }
        if term.tail == TailPolicy::Sampled && self.target != (TargetTransform::Teacher {}) {
            return Err(
                "target: which classes stand behind drawn ones is not known, so they cannot be edited; use tail = \
                        \"bucket\""
                    .into(),
            );
        }
        if matches!(self.target, TargetTransform::Similar { .. }) {
            let one = Some((1.0, 1.0));
            let is_one = Some(term.temperature.range()) == one && term.student_temperature.is_none();
            if !is_one || term.temperature_rule.is_some() || !term.divergence.is_sum_over_classes() {
                return Err("target: likeness of classes has a temperature of its own and no logits; it goes with temperature = \
                            1, no temperature_rule, and a divergence of probabilities"
                    .into());
            }
        }
        match term.divergence {
            Divergence::Pearson { columns } if columns > 0.0 && self.token_weight.is_some() => {
                Err("token_weight: a correlation over the positions of a batch has no weight of a single one".into())
            }
            _ => Ok(()),
        }
    }

    /// Refuses what rows of this kind cannot answer.
    pub fn check_against(&self, keep: &Truncation) -> Result<(), String> {
        if !self.needs_teacher() {
            return Ok(());
        }
        if let (Some(classes), Some(most)) = (self.classes, most_classes(keep))
            && classes > most
        {
            return Err(format!(
                "[loss] classes = {classes}, but this cache keeps {most} classes of a position; ask for no more, leave it out, \
                 or make a cache that keeps as many"
            ));
        }
        if let Some(classes) = self.classes
            && (keep.is_dense() || keep.is_sampled())
        {
            return Err(format!(
                "[loss] classes = {classes} asks for the likeliest of the kept classes, and this cache has none ({}); \
                 leave it out",
                if keep.is_dense() { "its rows are dense" } else { "they are drawn at random" }
            ));
        }
        if self.tail == TailPolicy::Sampled && !keep.is_sampled() {
            return Err("[loss] tail = \"sampled\" needs classes drawn at random, and this cache has none (column \
                        `drawn_counts`); make it with [cache] selection = { kind = \"sample\", n = 32 }, or use \
                        tail = \"bucket\""
                .into());
        }
        if self.target != (TargetTransform::Teacher {}) && keep.is_sampled() {
            return Err(
                "[loss] target: rows of this cache are drawn at random (column `drawn_counts`) and cannot be edited; \
                        make it with [cache] selection = { kind = \"top_k\", k = 64 }"
                    .into(),
            );
        }
        self.terms().try_for_each(|term| check_term_against(&term, keep)).map_err(|problem| format!("[loss] {problem}"))
    }
}

fn check_term_against(term: &LossTerm, keep: &Truncation) -> Result<(), String> {
    match term.divergence {
        Divergence::Pearson { columns } if columns > 0.0 && !keep.is_dense() => {
            return Err("divergence: a correlation over the positions of a batch (columns > 0) needs every class at every \
                        position, and this cache keeps some (column `topk_ids`); make it with [cache] selection = { kind \
                        = \"dense\" }, or set columns = 0"
                .into());
        }
        Divergence::Decoupled { .. } if keep.is_sampled() => {
            return Err("divergence: decoupled takes the label out of the others, and of classes drawn at random (column \
                        `drawn_counts`) it is not known which are left; make the cache with [cache] selection = { kind = \
                        \"top_k\", k = 64 }"
                .into());
        }
        _ => {}
    }
    if let Some(rule) = term.temperature_rule
        && rule.looks_at_kept_classes()
        && keep.is_sampled()
    {
        return Err("temperature_rule: this rule looks at the teacher's likeliest classes, and of classes drawn at random (column \
                    `drawn_counts`) the likeliest need not be among them; make the cache with [cache] selection = { kind = \
                    \"top_k\", k = 64 }"
            .into());
    }
    check_moments(term, keep)?;
    let Some(tail) = keep.tail.filter(|_| term.tail != TailPolicy::Renormalize) else { return Ok(()) };
    let of_rule = term.temperature_rule.and_then(|rule| rule.range());
    let (low, high) = term.temperature.range();
    let reached = [low, high].into_iter().chain(of_rule.into_iter().flat_map(|(low, high)| [low, high]));
    let is_outside = |t: &f64| !(tail.lowest_temperature..=tail.highest_temperature).contains(t);
    if let Some(temperature) = reached.clone().find(is_outside) {
        let renorm = match term.divergence.check_tail_policy(TailPolicy::Renormalize) {
            Ok(()) => ", or use tail = \"renorm\"",
            Err(_) => "",
        };
        return Err(format!(
            "temperature = {temperature} is outside {} to {}, for which this cache's tail is right; make it again with a \
             wider [cache] temperature_range{renorm}",
            tail.lowest_temperature, tail.highest_temperature
        ));
    }
    // A rule without bounds of its own goes as low as the cache.
    let unbounded = term.temperature_rule.filter(|rule| rule.range().is_none()).map(|_| tail.lowest_temperature);
    check_squares(term, keep, reached.chain(unbounded).fold(f64::INFINITY, f64::min))
}

/// Most classes that a row keeps, where these are its likeliest.
fn most_classes(keep: &Truncation) -> Option<u32> {
    match keep.selection {
        Selection::TopK { k } | Selection::TopP { k, .. } => Some(k.saturating_add(keep.always_keep.len() as u32)),
        Selection::Sample { .. } | Selection::Dense {} => None,
    }
}

/// Mean and spread of the logits over all classes alike are those at an endless temperature, for which a tail is only
/// extrapolated. From [`FOR_MOMENTS`] on it is right to half a nat (the golden rows; `SoftRow::logit_moments`).
fn check_moments(term: &LossTerm, keep: &Truncation) -> Result<(), String> {
    let what = match (term.divergence, term.temperature_rule) {
        (Divergence::MeanSquares { centred: true }, _) => "divergence: centred logits need the mean",
        (_, Some(TemperatureRule::LogitStd {})) => "temperature_rule: spread needs the standard deviation",
        _ => return Ok(()),
    };
    match keep.tail {
        Some(tail) if tail.highest_temperature < FOR_MOMENTS => Err(format!(
            "{what} of all classes' logits, which this cache's tail gives only from temperatures up to {FOR_MOMENTS} on, and it \
             is for {} to {}; make it again with a wider [cache] temperature_range, or with selection = {{ kind = \"dense\" }}",
            tail.lowest_temperature, tail.highest_temperature
        )),
        _ => Ok(()),
    }
}

/// Sums of squares are asked at half the temperature. Below the range a tail of classes less likely than the kept ones has
/// next to none of them, and what it has is known (`SoftRow::sum_of_squares`); one that drawn classes are of has more.
fn check_squares(term: &LossTerm, keep: &Truncation, lowest: f64) -> Result<(), String> {
    match (term.divergence, keep.tail) {
        (Divergence::Pearson { .. }, Some(tail)) if keep.is_sampled() && lowest < 2.0 * tail.lowest_temperature => {
            Err(format!(
                "divergence: a correlation at temperature = {lowest} needs this cache's tail at {}, and it is right for {} to {}; \
                 make it again with a wider [cache] temperature_range, or with selection = {{ kind = \"top_k\", k = 64 }}",
                lowest / 2.0,
                tail.lowest_temperature,
                tail.highest_temperature
            ))
        }
        _ => Ok(()),
    }
}

/// See [`check_moments`].
const FOR_MOMENTS: f64 = 10.0;

/// The temperatures for which rows of this kind answer: any, where nothing was left out of them.
pub(crate) fn temperatures(keep: &Truncation) -> (f64, f64) {
    keep.tail.map_or((LOWEST, HIGHEST), |tail| (tail.lowest_temperature, tail.highest_temperature))
}

/// Beyond these a row is its first choice alone, or says nothing at all.
const LOWEST: f64 = 0.05;
const HIGHEST: f64 = 1000.0;
