//! Statistics for temperature and weight rules, from the teacher and the student before the loss. Each statistic of
//! [`logitcask_core::temperature::Stat`] is a column here.

use crate::batch::Batch;
use crate::decisions::TokenDecisions;
use crate::loss::compared::squared_hellinger;
use crate::loss::head::student;
use crate::loss::student::NOWHERE;
use crate::loss::{ChunkLoss, DeviceTargets, LossAtStep, Student};
use crate::target_batch::TeacherStats;
use crate::tensors::int_tensor;
use crate::{Error, Result};
use burn::tensor::{DType, IndexingUpdateOp, Tensor};
use logitcask_core::temperature::{LogitStats, RequiredStats, Stat, StatSource, TokenStats};
use logitcask_model::Head;

/// Number of values read back for each position.
const COLUMNS: usize = 8;

/// Statistics of every position of `batch`, whose targets must have statistics. hidden: \[positions, hidden size\];
/// `piece` is the maximum number of positions whose logits exist at once. No graph is built.
///
/// # Errors
/// [`Error::NoTeacher`] if the targets have no statistics; [`Error::Device`].
pub fn collect_stats(
    hidden: &Tensor<2>,
    head: &Head,
    batch: &Batch,
    needs: &RequiredStats,
    piece: usize,
) -> Result<Vec<TokenStats>> {
    if !needs.needs(StatSource::Student) {
        // The teacher's rows are sufficient, so the head's product is not computed.
        let stats = batch.targets.as_ref().and_then(|targets| targets.stats.as_ref()).ok_or(Error::NoTeacher)?;
        return Ok(stats.iter().map(|stats| token_stats(stats, LogitStats::default())).collect());
    }
    let hidden = hidden.clone().detach().without_autodiff();
    let mut positions = Vec::with_capacity(batch.positions.len());
    let mut start = 0;
    for hidden in hidden.split(piece, 0) {
        let end = start + hidden.dims()[0];
        let seen = look(head.logits(hidden).cast(DType::F32), &batch.part(start..end), needs)?;
        positions.extend(seen);
        start = end;
    }
    Ok(positions)
}

fn look(logits: Tensor<2>, part: &Batch, needs: &RequiredStats) -> Result<Vec<TokenStats>> {
    let Some((targets, stats)) = part.targets.as_ref().and_then(|t| Some((t, t.stats.as_ref()?))) else {
        return Err(Error::NoTeacher);
    };
    let device = logits.device();
    let n = part.gold_ids.len();
    let gold_ids = int_tensor(&part.gold_ids, [n, 1], &device);
    let teacher = DeviceTargets::new(targets, &device);
    let piece = ChunkLoss::new(&LossAtStep::LABELS, &TokenDecisions::default(), None, &logits);
    let student = student(logits.clone(), gold_ids.clone(), Some(&teacher), &piece);
    let largest = logits.clone().max_dim(1);
    let choice = logits.clone().argmax(1);
    let log_z = student.log_z(0);
    let unknown = || largest.zeros_like();
    let asked = |stat: Stat, compute: &dyn Fn() -> Tensor<2>| if needs.contains(stat) { compute() } else { unknown() };
    let second = asked(Stat::StudentSecond, &|| {
        let away = largest.zeros_like() + NOWHERE;
        logits.clone().scatter(1, choice.clone(), away, IndexingUpdateOp::Add).max_dim(1)
    });
    let entropy = asked(Stat::StudentEntropy, &|| {
        log_z.clone() - ((logits.clone() - log_z.clone()).exp() * logits.clone()).sum_dim(1)
    });
    let distance = asked(Stat::Distance, &|| squared_hellinger(&student, &teacher, 0));
    let cosine = asked(Stat::Cosine, &|| cosine(&student, &teacher).unwrap_or_else(unknown));
    // A single transfer from the device for all columns. The first choice is transferred as whether it is the label.
    let is_right = choice.equal(gold_ids).float();
    let label = student.gold.clone() - log_z.clone();
    let all = Tensor::cat(vec![log_z, largest, second, entropy, label, distance, cosine, is_right], 1);
    let all = all.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    let rows = all.chunks_exact(COLUMNS).zip(stats);
    Ok(rows
        .map(|(numbers, stats)| {
            let [log_z, largest, second, entropy, label, distance, cosine, is_right] =
                std::array::from_fn(|i| f64::from(numbers[i]));
            TokenStats {
                is_right: is_right > 0.5,
                distance: distance.max(0.0).sqrt().min(1.0),
                cosine,
                ..token_stats(stats, LogitStats { log_z, largest, second, entropy, label })
            }
        })
        .collect())
}

/// Combines the statistics of the teacher's row with these of the student's.
fn token_stats(stats: &TeacherStats, student: LogitStats) -> TokenStats {
    TokenStats {
        teacher: stats.teacher,
        student,
        gold_rank: stats.gold_rank,
        target_temperature: stats.target_temperature,
        ..TokenStats::default()
    }
}

/// Cosine of the raw logits of the kept classes, \[n, 1\]; dense rows keep all classes.
fn cosine(student: &Student, teacher: &DeviceTargets) -> Option<Tensor<2>> {
    let log_z = teacher.raw.as_ref()?.log_z.clone();
    let present = teacher.presence();
    let theirs = (teacher.stored() + log_z) * present.clone();
    let ours = student.kept.clone()? * present;
    let dot = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum_dim(1);
    Some(dot(&theirs, &ours) / (dot(&theirs, &theirs) * dot(&ours, &ours)).clamp_min(1e-12).sqrt())
}
