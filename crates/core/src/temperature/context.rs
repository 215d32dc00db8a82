//! What rules about temperatures and weights are told of the positions of a step.

/// Everything that rules about temperatures and weights may ask to be told: one line each. What a rule asks for it gets, or
/// the recipe is refused; what it does not ask for is NaN.
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

/// Where a statistic comes from, which is what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatSource {
    /// The teacher's cached row alone.
    TeacherRow,
    /// A look at the student before the loss: the head's product is taken a second time.
    Student,
    /// The loss of the step.
    Loss,
}

impl Stat {
    /// All of them.
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

    /// Where it comes from.
    pub fn source(self) -> StatSource {
        match self {
            Self::TeacherConfidence
            | Self::TeacherLabel
            | Self::TeacherEntropy
            | Self::TeacherLogitStd
            | Self::TargetTemperature => StatSource::TeacherRow,
            Self::StudentConfidence
            | Self::StudentSecond
            | Self::StudentLabel
            | Self::StudentEntropy
            | Self::Distance
            | Self::Cosine => StatSource::Student,
            Self::CrossEntropy | Self::Slopes => StatSource::Loss,
        }
    }

    /// Does it look at the teacher's likeliest classes? Of a row of sampled ones these are not known.
    pub fn needs_likeliest_classes(self) -> bool {
        matches!(self, Self::TeacherConfidence | Self::Cosine)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What a rule must be told; what is not asked for is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequiredStats {
    bits: u16,
    target_entropy: Option<f64>,
}

impl RequiredStats {
    /// Nothing.
    pub const NONE: Self = Self { bits: 0, target_entropy: None };

    /// These.
    pub const fn of(stats: &[Stat]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < stats.len() {
            bits |= stats[i].bit();
            i += 1;
        }
        Self { bits, target_entropy: None }
    }

    /// [`Stat::TargetTemperature`] for this entropy in nats.
    pub const fn of_target_entropy(nats: f64) -> Self {
        Self { bits: Stat::TargetTemperature.bit(), target_entropy: Some(nats) }
    }

    /// What either asks.
    pub fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, target_entropy: self.target_entropy.or(other.target_entropy) }
    }

    /// Is this asked for?
    pub fn contains(&self, stat: Stat) -> bool {
        self.bits & stat.bit() != 0
    }

    /// All that is asked for.
    pub fn iter(&self) -> impl Iterator<Item = Stat> {
        let this = *self;
        Stat::ALL.into_iter().filter(move |stat| this.contains(*stat))
    }

    /// Is anything of this source asked for?
    pub fn needs(&self, source: StatSource) -> bool {
        self.iter().any(|stat| stat.source() == source)
    }

    /// Must [`StepContext::positions`] be there?
    pub fn needs_positions(&self) -> bool {
        self.needs(StatSource::TeacherRow) || self.needs(StatSource::Student)
    }

    /// The entropy in nats that [`TokenStats::target_temperature`] is for, where it is asked for.
    pub fn target_entropy(&self) -> Option<f64> {
        self.target_entropy
    }
}

/// What is known of a row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogitStats {
    /// log sum exp at T = 1.
    pub log_z: f64,
    /// The largest raw logit.
    pub largest: f64,
    /// The second largest raw logit; of a student alone.
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

    /// How much more probable than the second choice the first is, at T = 1.
    pub fn margin(&self) -> f64 {
        self.confidence() - (self.second - self.log_z).exp()
    }
}

/// What is known of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenStats {
    /// The teacher's row.
    pub teacher: LogitStats,
    /// The student's row.
    pub student: LogitStats,
    /// How many classes the teacher ranks before the label.
    pub gold_rank: u32,
    /// Is the student's first choice the label?
    pub is_right: bool,
    /// Hellinger distance of teacher and student at T = 1, within 0..=1, the classes that were not kept as one.
    pub distance: f64,
    /// Cosine of the two vectors of raw logits of the classes that were kept.
    pub cosine: f64,
    /// The temperature at which the teacher's entropy is [`RequiredStats::target_entropy`].
    pub target_temperature: f64,
}

impl LogitStats {
    /// What is asked for with these of [`Stat`], the rest NaN.
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
    /// What is asked for, the other numbers NaN: a rule that reads what it did not ask for answers with no number, which is
    /// refused.
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

/// A step, before its loss.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// Share of the run that is behind, 0..=1.
    pub progress: f64,
    /// The temperature that the recipe's curve gives.
    pub temperature: f64,
    /// Classes.
    pub vocab_size: usize,
    /// Every position of the step; empty where no rule asks for them.
    pub positions: &'a [TokenStats],
}

/// What came of a step; means are over its positions.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepFeedback<'a> {
    /// Mean of the divergence, without scale and weights.
    pub divergence: f64,
    /// Mean cross entropy of the student on the labels.
    pub cross_entropy: f64,
    /// The same of the teacher.
    pub teacher_cross_entropy: f64,
    /// d (mean of the scaled divergence) / d T at each position, teacher and student moved together; `None` where
    /// [`Stat::Slopes`] is not asked for.
    pub slopes: Option<&'a [f64]>,
}
