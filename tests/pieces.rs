//! A loss that is computed in pieces, and one over fewer classes than were kept.

use crate::golden::assert_close;
use crate::losses::{LABEL, batch_of, cached, judge, term};
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::divergence::{ForwardKl, Hellinger, compare};
use logitcask_core::rng::CounterRng;
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_core::{Origin, Sample, SampleId, Selection, SoftRow, TailPolicy, TemperedRow};
use logitcask_model::{DeviceChoice, Head};
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{head_loss, student};
use logitcask_train::loss::positions::total;
use logitcask_train::loss::{ChunkLoss, DeviceTargets, LossAtStep, Scale, TermAtStep, token_losses};
use logitcask_train::target_batch::TargetBatch;
use logitcask_train::target_spec::TargetSpec;

#[test]
fn pieces_of_any_size_have_the_gradient_of_the_whole() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = device.autodiff();
    let (rows, _) = cached(Selection::TopK { k: 5 }, 30);
    let rows: Vec<SoftRow> = rows.iter().collect();
    let numbers = |stream, count: usize| {
        let mut rng = CounterRng::new("pieces", &[stream]);
        (0..count).map(|_| rng.normal() as f32).collect::<Vec<_>>()
    };
    // Two terms with temperatures and weights per position, and the labels: everything that is computed in pieces.
    let terms = vec![
        term(ForwardKl {}, TailPolicy::Bucket, 2.0),
        TermAtStep { factor: 0.3, scale: Scale::Product, ..term(Hellinger {}, TailPolicy::Renormalize, 1.0) },
    ];
    let loss = LossAtStep { alpha: 0.7, terms, needs_cross_entropy: false };
    let batch = batch_of(&rows, &[3, 1, 4, 1, 5, 9], &TargetSpec::default());
    let temperatures = (0..6)
        .map(|i| TemperaturePair { teacher: 1.0 + 0.3 * f64::from(i), student: 2.0 - 0.2 * f64::from(i) })
        .collect();
    let decisions = TokenDecisions {
        temperatures: vec![None, Some(Temperatures::PerToken(temperatures))],
        weights: Some(vec![0.5, 1.0, 0.0, 2.0, 1.5, 0.7]),
        second: None,
    };
    let leaf = |stream, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(numbers(stream, shape[0] * shape[1]), shape), &device).require_grad()
    };
    let of = |piece| {
        let (hidden, head) = (leaf(0, [6, 8]), leaf(1, [8, 30]));
        let sums = head_loss(hidden.clone(), &Head::new(head.clone(), false), &batch, &decisions, &loss, piece);
        let grads = sums.surrogate.unwrap().backward();
        let of_hidden = hidden.grad(&grads).unwrap();
        let of_head = sums.of_head.unwrap().transpose();
        let sum = |x: &Tensor<1>| x.clone().into_scalar::<f32>();
        let mut all = [of_hidden, of_head].map(|x| x.try_into_vec_as::<f32>().unwrap()).concat();
        all.extend(sums.divergences.iter().chain(&sums.cross_entropy).chain(&sums.loss).map(sum));
        all
    };
    // The naive computation: all logits at once, with autodiff.
    let (hidden, head) = (leaf(0, [6, 8]), leaf(1, [8, 30]));
    let teacher = DeviceTargets::new(batch.targets.as_ref().unwrap(), &device);
    let gold = Tensor::<1, Int>::from_data([3, 1, 4, 1, 5, 9], &device).reshape([6, 1]);
    let logits = hidden.clone().matmul(head.clone());
    let piece = ChunkLoss::new(&loss, &decisions, Some(&teacher), &logits);
    let student = student(logits, gold, Some(&teacher), &piece);
    let all = token_losses(&student, Some(&teacher), &piece);
    let total = total(&all, &piece, &student);
    let grads = total.clone().backward();
    let mut naive = hidden.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
    naive.extend(head.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap());
    let figures = all.divergences.into_iter().chain(all.cross_entropy).map(Tensor::sum);
    naive.extend(figures.chain([total]).map(|sum| sum.into_scalar::<f32>()));
    for piece in [1, 4, 6, 100] {
        let got = of(piece);
        assert_eq!(got.len(), naive.len());
        for (got, wanted) in got.iter().zip(&naive) {
            assert_close(f64::from(*got), f64::from(*wanted), 1e-5, 1e-5, &format!("pieces of {piece}"));
        }
    }
}

#[test]
fn fewer_classes_join_the_tail() {
    let (rows, students) = cached(Selection::TopK { k: 9 }, 30);
    let sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, vec![3; 7]);
    let spec = TargetSpec { classes: Some(4), ..TargetSpec::default() };
    let targets = TargetBatch::new(&[(sample, vec![rows.clone()])], 0, &spec).unwrap();
    assert_eq!(targets.width, 4);
    let short: Vec<SoftRow> = rows.iter().map(|row| row.prefix(4)).collect();
    assert_eq!(targets, TargetBatch::of_rows(&short, &[LABEL; 6], &TargetSpec::default()));
    let term = term(ForwardKl {}, TailPolicy::Bucket, 2.0);
    let exact = |(row, s): (&SoftRow, &Vec<f64>)| {
        compare(term.divergence, s, 2.0, &TemperedRow::of(row, 2.0, TailPolicy::Bucket))
    };
    let exact: Vec<_> = short.iter().zip(&students).map(exact).collect();
    let loss: Vec<f64> = exact.iter().map(|e| e.loss).collect();
    let gradient: Vec<f64> = exact.into_iter().flat_map(|e| e.gradient).collect();
    judge(&short, &[LABEL; 6], &students, &term, (&loss, &gradient), "four of nine classes");
}
