//! Validation of the loss section of a recipe, by itself and against a cache.

use crate::loss::{LossConfig, LossTerm, check_source};
use logitcask_core::divergence::{OverRows, Properties};
use logitcask_core::temperature::{RequiredStats, Stat};
use logitcask_core::{
    ConfigError, Divergence, Schedule, Selection, TailPolicy, TailSource, TargetTransform, Truncation,
};

type Check = Result<(), ConfigError>;

impl LossConfig {
    /// Rejects invalid weights, temperatures and divergences, and invalid combinations of them.
    ///
    /// # Errors
    /// Names the key of the recipe, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_alone().map_err(|error| error.within("[loss]"))
    }

    fn check_alone(&self) -> Check {
        self.alpha.check().map_err(|error| error.within("alpha"))?;
        for alpha in [self.alpha.range().0, self.alpha.range().1] {
            ConfigError::unless((0.0..=1.0).contains(&alpha), "alpha", alpha, "0 to 1")?;
        }
        ConfigError::unless(self.classes != Some(0), "classes", 0, "at least 1")?;
        self.target.check().map_err(|error| error.within("target"))?;
        if let Some(rule) = self.token_weight {
            rule.check().map_err(|error| error.within("token_weight"))?;
        }
        if let Some(second) = &self.second_teacher {
            second.blend.check().map_err(|error| error.within("second_teacher.blend"))?;
        }
        if let Some(relations) = &self.relations {
            relations.check().map_err(|error| error.within("relations"))?;
        }
        self.check_term(&self.first_term())?;
        for (i, term) in self.extra_terms.iter().enumerate() {
            self.check_term(term).map_err(|error| error.within(&format!("extra_terms[{i}]")))?;
        }
        Ok(())
    }

    fn check_term(&self, term: &LossTerm) -> Check {
        check_numbers(term)?;
        let properties = &term.divergence;
        properties.check().map_err(|error| error.within("divergence"))?;
        properties.check_tail_policy(term.tail)?;
        if (term.tail == TailPolicy::Sampled) != (self.tail == TailPolicy::Sampled) {
            return Err(ConfigError::new("tail", quoted(term.tail), "\"sampled\" in all terms or in none")
                .because("all terms read the same classes"));
        }
        self.check_temperature_rule(term, properties)?;
        if term.tail == TailPolicy::Sampled && self.target != (TargetTransform::Teacher {}) {
            return Err(ConfigError::new("tail", quoted(term.tail), "\"bucket\" where `target` edits rows")
                .because("which classes stand behind sampled ones is not known"));
        }
        self.check_similar(term)?;
        match properties.compares_positions() && self.token_weight.is_some() {
            true => Err(ConfigError::new("token_weight", "a rule", "left out with this divergence")
                .because("a correlation over the positions of a batch has no weight of a single one")),
            false => Ok(()),
        }
    }

    fn check_temperature_rule(&self, term: &LossTerm, properties: &Divergence) -> Check {
        let of_weight = self.token_weight.map_or(RequiredStats::NONE, |rule| rule.required_stats());
        let of_rule = term.temperature_rule.map_or(RequiredStats::NONE, |rule| rule.required_stats());
        if of_rule.or(of_weight).contains(Stat::Slopes) {
            let key = if of_rule.contains(Stat::Slopes) { "temperature_rule" } else { "token_weight" };
            let refused =
                |expected: &str| ConfigError::new(key, "a rule that learns from the temperature's slope", expected);
            if !properties.teaches_temperature() {
                let reason = "ranks are sharper the lower the temperature, so there is nothing to learn of it";
                return Err(refused("another rule with this divergence").because(reason));
            }
            if self.second_teacher.is_some() {
                return Err(refused("another rule beside a second teacher"));
            }
        }
        let Some(rule) = term.temperature_rule else { return Ok(()) };
        rule.check().map_err(|error| error.within("temperature_rule"))?;
        if self.second_teacher.is_some() {
            return Err(ConfigError::new("temperature_rule", "a rule", "left out beside second_teacher")
                .because("rules about temperatures look at one teacher"));
        }
        match term.student_temperature {
            Some(_) => {
                Err(ConfigError::new("student_temperature", "a temperature", "left out beside temperature_rule")
                    .because("the rule decides the student's temperature too"))
            }
            None => Ok(()),
        }
    }

    /// Similarity of classes has its own temperature and no logits.
    fn check_similar(&self, term: &LossTerm) -> Check {
        if !matches!(self.target, TargetTransform::Similar { .. }) {
            return Ok(());
        }
        let is_one = term.temperature.range() == (1.0, 1.0) && term.student_temperature.is_none();
        let fits = is_one && term.temperature_rule.is_none() && term.divergence.is_sum_over_classes();
        let expected = "another target, unless temperature = 1, temperature_rule is left out and the divergence is one of \
                        probabilities";
        ConfigError::unless(fits, "target", "similar", expected)
            .map_err(|error| error.because("likeness of classes has a temperature of its own and no logits"))
    }

    /// Rejects a loss that needs more than rows of this truncation contain.
    ///
    /// # Errors
    /// Names the key of the recipe, its value and what is accepted.
    pub fn check_against(&self, keep: &Truncation) -> Result<(), ConfigError> {
        match self.needs_teacher() {
            true => self.check_rows(keep).map_err(|error| error.within("[loss]")),
            false => Ok(()),
        }
    }

    fn check_rows(&self, keep: &Truncation) -> Check {
        check_source::check(self, keep.source)?;
        if let Some(classes) = self.classes {
            if let Some(most) = most_classes(keep) {
                ConfigError::unless(classes <= most, "classes", classes, format!("{most} at most")).map_err(|error| {
                    error.because(format!(
                        "this cache keeps {most} classes of a position; leave the key out, or make a cache that keeps more"
                    ))
                })?;
            }
            if keep.is_dense() || keep.is_sampled() {
                let why = if keep.is_dense() { "its rows are dense" } else { "its classes are drawn at random" };
                return Err(ConfigError::new("classes", classes, "left out").because(format!(
                    "it asks for the likeliest of the kept classes, and this cache has none: {why}"
                )));
            }
        }
        if self.tail == TailPolicy::Sampled && !keep.is_sampled() {
            return Err(ConfigError::new("tail", quoted(self.tail), "\"bucket\"").because(
                "it needs classes drawn at random, and this cache has none (column `drawn_counts`); or make it with [cache] \
                 selection = { kind = \"sample\", n = 32 }",
            ));
        }
        if self.target != (TargetTransform::Teacher {}) && keep.is_sampled() {
            return Err(ConfigError::new("target", "a rule that edits rows", "left out").because(format!(
                "rows of this cache are drawn at random (column `drawn_counts`) and cannot be edited; {OR_TOP_K}"
            )));
        }
        if let Some(rule) = self.token_weight {
            check_likeliest("token_weight", rule.required_stats(), keep)?;
        }
        check_term_against(&self.first_term(), keep)?;
        for (i, term) in self.extra_terms.iter().enumerate() {
            check_term_against(term, keep).map_err(|error| error.within(&format!("extra_terms[{i}]")))?;
        }
        Ok(())
    }
}

const OR_TOP_K: &str = "or make the cache with [cache] selection = { kind = \"top_k\", k = 64 }";

fn quoted(policy: TailPolicy) -> String {
    format!("\"{}\"", policy.name())
}

fn check_numbers(term: &LossTerm) -> Check {
    let temperatures = [("temperature", Some(term.temperature)), ("student_temperature", term.student_temperature)];
    for (name, curve) in temperatures.into_iter().filter_map(|(name, curve)| Some((name, curve?))) {
        curve.check().map_err(|error| error.within(name))?;
        ConfigError::unless(curve.range().0 > 0.0, name, curve.range().0, "a positive number")?;
    }
    term.factor.check().map_err(|error| error.within("factor"))?;
    let lowest = |curve: Schedule| curve.range().0;
    ConfigError::unless(lowest(term.factor) >= 0.0, "factor", lowest(term.factor), "a weight, 0 or more")
}

/// Rejects rules that need the teacher's most probable classes if the rows do not determine them.
fn check_likeliest(key: &str, required: RequiredStats, keep: &Truncation) -> Check {
    match required.iter().find(|stat| stat.needs_likeliest_classes()) {
        Some(stat) if keep.is_sampled() => Err(ConfigError::new(
            key,
            format!("a rule that asks for {stat:?}"),
            "another rule over this cache",
        )
        .because(format!(
            "it looks at the teacher's likeliest classes, and classes drawn at random (column `drawn_counts`) need not \
                     have them among them; {OR_TOP_K}"
        ))),
        _ => Ok(()),
    }
}

fn check_term_against(term: &LossTerm, keep: &Truncation) -> Check {
    let properties = &term.divergence;
    let refused = |expected: &str| ConfigError::new("divergence", term.divergence.name(), expected);
    if properties.needs_all_classes() && !keep.is_dense() {
        return Err(refused("another one over this cache").because(
            "it needs every class at every position, and this cache keeps some (column `topk_ids`); or make it with [cache] \
             selection = { kind = \"dense\" }, or leave out what compares positions (columns = 0)",
        ));
    }
    if properties.needs_label() && keep.is_sampled() {
        return Err(refused("another one over this cache").because(format!(
            "it takes the label out of the others, and of classes drawn at random (column `drawn_counts`) it is not known \
             which are left; {OR_TOP_K}"
        )));
    }
    if let Some(rule) = term.temperature_rule {
        check_likeliest("temperature_rule", rule.required_stats(), keep)?;
    }
    check_moments(term, keep)?;
    let Some(tail) = keep.tail.filter(|_| term.tail != TailPolicy::Renormalize) else { return Ok(()) };
    let of_rule = term.temperature_rule.and_then(|rule| rule.range());
    let (low, high) = term.temperature.range();
    let reached = [low, high].into_iter().chain(of_rule.into_iter().flat_map(|(low, high)| [low, high]));
    let is_outside = |t: &f64| !(tail.lowest_temperature..=tail.highest_temperature).contains(t);
    if let Some(temperature) = reached.clone().find(is_outside) {
        let renorm = match properties.check_tail_policy(TailPolicy::Renormalize) {
            Ok(()) => ", or use tail = \"renorm\"",
            Err(_) => "",
        };
        let range = format!("within {} to {}", tail.lowest_temperature, tail.highest_temperature);
        return Err(ConfigError::new("temperature", temperature, range).because(format!(
            "for these this cache's tail is right; make it again with a wider [cache] temperature_range{renorm}"
        )));
    }
    // A rule without bounds of its own may use the lowest temperature of the cache.
    let unbounded = term.temperature_rule.filter(|rule| rule.range().is_none()).map(|_| tail.lowest_temperature);
    check_squares(term, keep, reached.chain(unbounded).fold(f64::INFINITY, f64::min))
}

/// Maximum number of classes that a row keeps, if these are its most probable ones.
fn most_classes(keep: &Truncation) -> Option<u32> {
    match keep.selection {
        Selection::TopK { k } | Selection::TopP { k, .. } => Some(k.saturating_add(keep.always_keep.len() as u32)),
        Selection::Sample { .. } | Selection::Dense {} => None,
    }
}

/// Mean and standard deviation of the logits over all classes are those at an infinite temperature, for which a tail
/// can only be extrapolated. For a highest temperature of at least [`FOR_MOMENTS`] the result is accurate to half a nat
/// (the golden rows; `SoftRow::logit_moments`).
fn check_moments(term: &LossTerm, keep: &Truncation) -> Check {
    let needs_std = |required: RequiredStats| required.contains(Stat::TeacherLogitStd);
    let (key, what) = if term.divergence.needs_mean_logit() {
        ("divergence", "centred logits need the mean")
    } else if term.temperature_rule.is_some_and(|rule| needs_std(rule.required_stats())) {
        ("temperature_rule", "it needs the standard deviation")
    } else {
        return Ok(());
    };
    match keep.tail {
        Some(tail) if tail.highest_temperature < FOR_MOMENTS => {
            Err(ConfigError::new(key, "a choice that looks at all logits", "another one over this cache").because(format!(
                "{what} of all classes' logits, which this cache's tail gives only from temperatures up to {FOR_MOMENTS} on, and \
                 it is for {} to {}; make it again with a wider [cache] temperature_range, or with selection = {{ kind = \
                 \"dense\" }}",
                tail.lowest_temperature, tail.highest_temperature
            )))
        }
        _ => Ok(()),
    }
}

/// Sums of squares are evaluated at half the temperature. Below the range, a tail of classes less probable than the
/// kept ones contributes almost nothing to them, and its contribution is known (`SoftRow::sum_of_squares`); a tail that
/// includes sampled classes contributes more.
fn check_squares(term: &LossTerm, keep: &Truncation, lowest: f64) -> Check {
    let Some(tail) = keep.tail.filter(|_| term.divergence.needs_squares() && keep.is_sampled()) else {
        return Ok(());
    };
    let least = 2.0 * tail.lowest_temperature;
    ConfigError::unless(lowest >= least, "temperature", lowest, format!("{least} or more with this divergence")).map_err(
        |error| {
            error.because(format!(
                "a correlation at temperature = {lowest} needs this cache's tail at {}, and it is right for {} to {}; make it \
                 again with a wider [cache] temperature_range, or with selection = {{ kind = \"top_k\", k = 64 }}",
                lowest / 2.0,
                tail.lowest_temperature,
                tail.highest_temperature
            ))
        },
    )
}

/// See [`check_moments`].
const FOR_MOMENTS: f64 = 10.0;

/// The temperatures at which rows of this truncation are accurate: any if no class was left out, and 1 if the shape of the
/// tail is not known.
pub(crate) fn temperatures(keep: &Truncation) -> (f64, f64) {
    if keep.source.tail != TailSource::Atoms {
        return (1.0, 1.0);
    }
    keep.tail.map_or((LOWEST, HIGHEST), |tail| (tail.lowest_temperature, tail.highest_temperature))
}

/// Beyond these temperatures a row is reduced to its first choice, or carries no information.
const LOWEST: f64 = 0.05;
const HIGHEST: f64 = 1000.0;
