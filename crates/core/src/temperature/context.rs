//! The statistics of a step's positions that temperature and weight rules can request.

/// Every statistic that a temperature or weight rule can request, one variant each. A rule gets what it requests, or
/// the recipe is rejected; statistics that were not requested are NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// [`LogitStats::largest`] and [`LogitStats::log_z`] of the teacher.
    TeacherConfidence,
    /// [`LogitStats::label`] of the teacher, and [`TokenStats::gold_rank`].
    TeacherLabel,
    /// [`LogitStats::entropy`] of the teacher.
    TeacherEntropy,
    /// The standard deviation of the teacher's logits over all classes, for [`super::Temperatures::TimesLogitStd`].
    TeacherLogitStd,
    /// [`TokenStats::target_temperature`].
    TargetTemperature,
    /// [`LogitStats::largest`] and [`LogitStats::log_z`] of the student.
    StudentConfidence,
    /// [`LogitStats::second`] of the student.
    StudentSecond,
    /// [`LogitStats::label`] of the student, and [`TokenStats::is_right`].
    StudentLabel,
    /// [`LogitStats::entropy`] of the student.
    StudentEntropy,
    /// [`TokenStats::distance`].
    Distance,
    /// [`TokenStats::cosine`].
    Cosine,
    /// [`StepFeedback::cross_entropy`] and [`StepFeedback::teacher_cross_entropy`].
    CrossEntropy,
    /// [`StepFeedback::slopes`].
    Slopes,
}

/// Source of a statistic, which determines its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatSource {
    /// The teacher's cached row only.
    TeacherRow,
    /// A forward pass of the student's head before the loss: the head's product is computed a second time.
    Student,
    /// The teacher's cached row, for the loss itself: no rule sees the value.
    Targets,
    /// The loss of the step.
    Loss,
}

impl Stat {
    /// Every statistic.
    pub const ALL: [Self; 13] = [
        Self::TeacherConfidence,
        Self::TeacherLabel,
        Self::TeacherEntropy,
        Self::TeacherLogitStd,
        Self::TargetTemperature,
        Self::StudentConfidence,
        Self::StudentSecond,
        Self::StudentLabel,
        Self::StudentEntropy,
        Self::Distance,
        Self::Cosine,
        Self::CrossEntropy,
        Self::Slopes,
    ];

    /// The source of the statistic.
    pub fn source(self) -> StatSource {
        match self {
            Self::TeacherConfidence | Self::TeacherLabel | Self::TeacherEntropy | Self::TargetTemperature => {
                StatSource::TeacherRow
            }
            Self::TeacherLogitStd => StatSource::Targets,
            Self::StudentConfidence
            | Self::StudentSecond
            | Self::StudentLabel
            | Self::StudentEntropy
            | Self::Distance
            | Self::Cosine => StatSource::Student,
            Self::CrossEntropy | Self::Slopes => StatSource::Loss,
        }
    }

    /// Whether it depends on the teacher's most probable classes, which a row of sampled classes does not determine.
    pub fn needs_likeliest_classes(self) -> bool {
        matches!(self, Self::TeacherConfidence | Self::Cosine)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The set of statistics that a rule requests; others are not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequiredStats {
    bits: u16,
    target_entropy: Option<f64>,
}

impl RequiredStats {
    /// No statistics.
    pub const NONE: Self = Self { bits: 0, target_entropy: None };

    /// The set of `stats`.
    pub const fn of(stats: &[Stat]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < stats.len() {
            bits |= stats[i].bit();
            i += 1;
        }
        Self { bits, target_entropy: None }
    }

    /// Requests [`Stat::TargetTemperature`] for this entropy in nats.
    pub const fn of_target_entropy(nats: f64) -> Self {
        Self { bits: Stat::TargetTemperature.bit(), target_entropy: Some(nats) }
    }

    /// The union of both requests.
    pub fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, target_entropy: self.target_entropy.or(other.target_entropy) }
    }

    /// Whether `stat` is requested.
    pub fn contains(&self, stat: Stat) -> bool {
        self.bits & stat.bit() != 0
    }

    /// All requested statistics.
    pub fn iter(&self) -> impl Iterator<Item = Stat> {
        let this = *self;
        Stat::ALL.into_iter().filter(move |stat| this.contains(*stat))
    }

    /// Whether a statistic of this source is requested.
    pub fn needs(&self, source: StatSource) -> bool {
        self.iter().any(|stat| stat.source() == source)
    }

    /// Whether [`StepContext::positions`] must be filled.
    pub fn needs_positions(&self) -> bool {
        self.needs(StatSource::TeacherRow) || self.needs(StatSource::Student)
    }

    /// The entropy in nats for [`TokenStats::target_temperature`], if that is requested.
    pub fn target_entropy(&self) -> Option<f64> {
        self.target_entropy
    }
}

/// Statistics of a row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogitStats {
    /// log sum exp at T = 1.
    pub log_z: f64,
    /// The largest raw logit.
    pub largest: f64,
    /// The second largest raw logit; available for a student only.
    pub second: f64,
    /// Entropy in nats at T = 1.
    pub entropy: f64,
    /// log-probability of the label at T = 1.
    pub label: f64,
}

impl LogitStats {
    /// Probability of the first choice at T = 1.
    pub fn confidence(&self) -> f64 {
        (self.largest - self.log_z).exp()
    }

    /// Difference between the probabilities of the first and the second choice at T = 1.
    pub fn margin(&self) -> f64 {
        self.confidence() - (self.second - self.log_z).exp()
    }
}

/// Statistics of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenStats {
    /// Statistics of the teacher's row.
    pub teacher: LogitStats,
    /// Statistics of the student's row.
    pub student: LogitStats,
    /// Number of classes that the teacher ranks before the label.
    pub gold_rank: u32,
    /// Whether the student's first choice is the label.
    pub is_right: bool,
    /// Hellinger distance of teacher and student at T = 1, within 0..=1, with the classes that were not kept as one
    /// class.
    pub distance: f64,
    /// Cosine of the two vectors of raw logits of the kept classes.
    pub cosine: f64,
    /// The temperature at which the teacher's entropy is [`RequiredStats::target_entropy`].
    pub target_temperature: f64,
}

impl LogitStats {
    /// Keeps the values whose [`Stat`] is requested and replaces the others by NaN.
    fn only(self, required: &RequiredStats, [confidence, second, entropy, label]: [Option<Stat>; 4]) -> Self {
        let asked = |stat: Option<Stat>, x: f64| {
            if stat.is_some_and(|stat| required.contains(stat)) { x } else { f64::NAN }
        };
        Self {
            log_z: asked(confidence, self.log_z),
            largest: asked(confidence, self.largest),
            second: asked(second, self.second),
            entropy: asked(entropy, self.entropy),
            label: asked(label, self.label),
        }
    }
}

impl TokenStats {
    /// Keeps the requested values and replaces the others by NaN, so that a rule that reads what it did not request
    /// returns NaN, which is refused.
    #[must_use]
    pub fn only(self, required: &RequiredStats) -> Self {
        let teacher = [Some(Stat::TeacherConfidence), None, Some(Stat::TeacherEntropy), Some(Stat::TeacherLabel)];
        let student =
            [Stat::StudentConfidence, Stat::StudentSecond, Stat::StudentEntropy, Stat::StudentLabel].map(Some);
        let asked = |stat: Stat, x: f64| if required.contains(stat) { x } else { f64::NAN };
        Self {
            teacher: self.teacher.only(required, teacher),
            student: self.student.only(required, student),
            distance: asked(Stat::Distance, self.distance),
            cosine: asked(Stat::Cosine, self.cosine),
            target_temperature: asked(Stat::TargetTemperature, self.target_temperature),
            ..self
        }
    }
}

/// A step, before its loss is computed.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// Completed share of the run, 0..=1.
    pub progress: f64,
    /// The temperature of the recipe's schedule at this step.
    pub temperature: f64,
    /// Number of classes.
    pub vocab_size: usize,
    /// Statistics of every position of the step; empty if no rule requests them.
    pub positions: &'a [TokenStats],
}

/// Results of a step; means are over its positions.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepFeedback<'a> {
    /// Mean of the divergence, without scale and weights.
    pub divergence: f64,
    /// Mean cross entropy of the student on the labels.
    pub cross_entropy: f64,
    /// Mean cross entropy of the teacher on the labels.
    pub teacher_cross_entropy: f64,
    /// d (mean of the scaled divergence) / d T at each position, where T is the common temperature of teacher and
    /// student; `None` if [`Stat::Slopes`] is not requested.
    pub slopes: Option<&'a [f64]>,
}
