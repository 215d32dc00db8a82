//! The same numbers on a wgpu device: a GPU, or a software device such as lavapipe. Skipped if there is neither.

use crate::families::check_on;
use crate::fixture::{Fixture, config, keep};
use crate::golden;
use crate::losses::{batch_of, cached, term};
use crate::parity::logits;
use crate::skips::skip;
use burn::optim::AdamWConfig;
use burn::tensor::{Tensor, TensorData};
use logitcask_cache::CacheReader;
use logitcask_core::divergence::{Decoupled, ForwardKl, JensenShannon, MeanSquares, Pearson, ReverseKl, Spearman};
use logitcask_core::math::log_sum_exp;
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_core::{Origin, Sample, SampleId, Selection, SoftRow, SoftRows, TailPolicy};
use logitcask_data::batches::batch_by_length;
use logitcask_model::{Device, DeviceChoice, Precision, PretrainedModel, weights};
use logitcask_teach::select::select_logits;
use logitcask_teach::{LocalTeacher, Teacher};
use logitcask_train::batch::Batch;
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{LossTotals, logits_loss};
use logitcask_train::loss::{LossAtStep, TermAtStep};
use logitcask_train::target_spec::TargetSpec;
use logitcask_train::update::{gradients, loss_totals};
use std::panic::resume_unwind;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of a test. On a software device with two cores, all tests together take about four minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs a test on the wgpu device, if there is one. Tests run one at a time, since some drivers hang with two threads.
/// A test that hangs fails by name, and so do all later ones.
fn on_device(test: &'static str, body: impl FnOnce(Device) + Send + 'static) {
    static HANGING: Mutex<Option<&'static str>> = Mutex::new(None);
    let mut hanging = HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = *hanging {
        panic!("{test} was not begun: {other} has not given the device back");
    }
    let on_it = || {
        let (device, name) = DeviceChoice::Wgpu.open().map_err(|e| e.to_string())?;
        eprintln!("on {name}");
        body(device);
        Ok::<(), String>(())
    };
    match within(LIMIT, on_it) {
        Some(Ok(())) => {}
        Some(Err(why)) => skip(test, &why),
        None => {
            *hanging = Some(test);
            panic!("{test} has not ended after {} minutes: the device hangs", LIMIT.as_secs() / 60);
        }
    }
}

/// The result of `body`, or `None` after `limit`. A thread that hangs cannot be ended and is abandoned.
fn within<T: Send + 'static>(limit: Duration, body: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(body()));
    match receiver.recv_timeout(limit) {
        Ok(value) => Some(value),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => resume_unwind(thread.join().unwrap_err()),
    }
}

#[test]
fn a_test_that_hangs_is_left_behind() {
    let (_never, waits) = mpsc::channel::<()>();
    assert_eq!(within(Duration::from_millis(20), move || waits.recv().is_ok()), None);
    assert_eq!(within(LIMIT, || 7), Some(7));
}

/// OpenGL is never used: without another kind of driver there is no wgpu device, and `auto` is the CPU. On most
/// machines Mesa's OpenGL would be found here.
#[test]
#[cfg(target_os = "linux")]
fn opengl_is_no_device() {
    let fixture = Fixture::new(20);
    let without_vulkan = |device| {
        let mut command = fixture.command(&["cache", "recipe.toml", "--device", device]);
        ended(command.env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere"))
    };
    for device in ["wgpu", "wgpu:0"] {
        let output = without_vulkan(device);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("through Vulkan"), "{device}: {error}");
    }
    assert!(without_vulkan("auto").status.success());
}

/// A run of the program, which is killed after [`LIMIT`].
fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{command:?} has not ended after {} minutes", LIMIT.as_secs() / 60);
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

fn samples() -> Vec<Sample> {
    let ids = |id: u64, input_ids| Sample::new(SampleId(id), Origin { document: id, offset: 0 }, input_ids);
    vec![ids(0, (0..20).map(|i| (i * 37 + 5) % 300).collect()), ids(1, vec![7, 9, 250, 3, 3])]
}

#[test]
fn forward_and_selection_agree_with_the_cpu() {
    on_device("wgpu::forward_and_selection_agree_with_the_cpu", |gpu| {
        let files = PretrainedModel::open(&golden::folder().join("llama-gqa")).unwrap();
        let (cpu, _) = DeviceChoice::Cpu.open().unwrap();
        let rows = vec![vec![3u32, 77, 200, 14, 3, 9, 250, 1], vec![5, 4, 3]];
        let [on_cpu, on_gpu] = [cpu, gpu].map(|device| logits(&files.load(&device, Precision::F32).unwrap(), &rows));
        for (a, b) in on_cpu.iter().flatten().zip(on_gpu.iter().flatten()) {
            golden::assert_close(log_sum_exp(b), log_sum_exp(a), 1e-4, 1e-4, "log Z");
            for (x, y) in a.iter().zip(b) {
                golden::assert_close(*y, *x, 1e-3, 1e-3, "logit");
            }
        }
    });
}

#[test]
fn families_agree_with_transformers() {
    on_device("families_agree_with_transformers", |device| {
        ["llama_yarn", "qwen2_window", "qwen3", "gemma3_nested", "gpt_oss_hub", "phi"]
            .into_iter()
            .for_each(|name| check_on(&device, name));
    });
}

#[test]
fn a_teacher_and_one_training_step_agree_with_the_cpu() {
    on_device("wgpu::a_teacher_and_one_training_step_agree_with_the_cpu", |gpu| {
        let (cpu, _) = DeviceChoice::Cpu.open().unwrap();
        let samples = samples();
        let keep = keep(Selection::TopK { k: 8 });
        let mut taught: Vec<Vec<SoftRows>> = Vec::new();
        for device in [&cpu, &gpu] {
            let teacher = LocalTeacher::new(weights::init(&config(), 3, device));
            let mut rows = Vec::new();
            for batch in batch_by_length(&samples, 64) {
                teacher
                    .outputs(&batch, &mut |outputs| {
                        let labels = &batch.labels[outputs.positions];
                        let offsets = vec![0.0; labels.len()];
                        let (selected, _) = select_logits(&outputs.logits, labels, &offsets, &keep).unwrap();
                        for row in selected.iter().flat_map(SoftRows::iter) {
                            let mut alone = SoftRows::new(&keep);
                            alone.push(row);
                            rows.push(alone);
                        }
                        Ok(())
                    })
                    .unwrap();
            }
            taught.push(rows);
        }
        for (a, b) in taught[0].iter().zip(&taught[1]) {
            golden::assert_close(f64::from(b.log_z[0]), f64::from(a.log_z[0]), 1e-4, 1e-4, "log Z");
            golden::assert_close(f64::from(b.log_probs[0]), f64::from(a.log_probs[0]), 1e-4, 1e-3, "largest log p");
        }

        let losses = [&cpu, &gpu].map(|device| two_losses(&samples, &taught[0], device));

        for (a, b) in losses[0].iter().zip(&losses[1]) {
            golden::assert_close(*b, *a, 1e-3, 1e-4, "loss");
        }
        assert!(losses[0][1] < losses[0][0], "a step lowers the loss: {:?}", losses[0]);
    });
}

#[test]
fn a_cache_made_on_a_device_holds_what_one_made_on_the_cpu_holds() {
    on_device("wgpu::a_cache_made_on_a_device_holds_what_one_made_on_the_cpu_holds", |on| {
        let fixture = Fixture::new(40);
        let mut made = Vec::new();
        for device in ["cpu", "wgpu"] {
            // The device is not part of a cache's plan, so the second run would find the first one's cache up to date.
            let _ = std::fs::remove_dir_all(fixture.path("cache"));
            let made_on = ended(&mut fixture.command(&["cache", "recipe.toml", "--device", device]));
            let told = String::from_utf8_lossy(&made_on.stderr);
            assert!(made_on.status.success(), "{told}");
            let is_software = device == "wgpu" && DeviceChoice::is_software(&on);
            assert_eq!(told.contains(", software) is a software adapter"), is_software, "{told}");
            fixture.ok(&["verify", "cache"]);
            let cache = CacheReader::open(&fixture.path("cache")).unwrap();
            made.push(cache.in_order("train").unwrap().map(|row| row.unwrap().rows).collect::<Vec<_>>());
        }
        let [cpu, gpu] = [&made[0], &made[1]].map(|rows| rows.iter().flat_map(SoftRows::iter).collect::<Vec<_>>());
        assert!(cpu.len() == gpu.len() && cpu.len() > 500);
        let mut same = 0;
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            golden::assert_close(f64::from(gpu.log_z), f64::from(cpu.log_z), 1e-4, 1e-4, "log Z");
            for b in [0.2, 0.5, 1.0, 1.3] {
                golden::assert_close(
                    gpu.log_partition(b),
                    cpu.log_partition(b),
                    1e-3,
                    5e-3,
                    "log Z of the written row",
                );
            }
            same += usize::from(gpu.class_ids == cpu.class_ids && gpu.gold.rank == cpu.gold.rank);
        }
        // The last bits of logits differ between devices, and so does the order of near ties.
        assert!(same * 10 > cpu.len() * 9, "{same} of {}", cpu.len());
    });
}

/// Devices differ in whether they have bf16; software devices have none.
#[test]
fn training_in_bf16_works_where_the_device_has_it_and_is_refused_elsewhere() {
    on_device("wgpu::training_in_bf16_works_where_the_device_has_it_and_is_refused_elsewhere", |on| {
        let fixture = Fixture::new(40);
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
        fixture.write_recipe("precision = \"bf16\"\n");
        let trained = ended(&mut fixture.command(&["train", "recipe.toml", "--device", "wgpu", "--out", "run"]));
        let told = String::from_utf8_lossy(&trained.stderr);
        let has_bf16 = Precision::Bf16.dtype(&on).is_ok();
        assert_eq!(trained.status.success(), has_bf16, "{told}");
        if !has_bf16 {
            assert!(
                told.contains("[train] precision") && told.contains("it has no bf16; use precision = \"f32\""),
                "{told}"
            );
            assert!(!fixture.path("run").exists(), "nothing is begun");
        }
    });
}

/// The loss before and after one step of AdamW.
fn two_losses(samples: &[Sample], rows: &[SoftRows], device: &Device) -> [f64; 2] {
    let loss = LossAtStep { alpha: 0.5, ..LossAtStep::teacher(TermAtStep::FORWARD_KL) };
    // The rows are in the order of the batches, the shorter sample first.
    let mut rows = rows.iter();
    let mut shortest_first: Vec<&Sample> = samples.iter().collect();
    shortest_first.sort_by_key(|sample| sample.input_ids.len());
    let taught: Vec<(Sample, Vec<SoftRows>)> = shortest_first
        .into_iter()
        .map(|sample| {
            let keep = keep(Selection::TopK { k: 8 });
            let mut all = SoftRows::new(&keep);
            rows.by_ref().take(sample.position_count()).for_each(|row| row.iter().for_each(|row| all.push(row)));
            all.check(&keep, &sample.labels(), 300).unwrap();
            (sample.clone(), vec![all])
        })
        .collect();
    let batch = Batch::new(&taught, Some(&TargetSpec::default())).unwrap();
    let mut model = weights::init(&config(), 4, &device.clone().autodiff());
    let mut optimizer = AdamWConfig::new().init();
    let mut measured = [0.0; 2];
    for value in &mut measured {
        let mut sums = loss_totals(&model, &batch, &loss);
        let grads = gradients(&model, &mut sums, batch.positions.len()).unwrap();
        *value = f64::from(sums.loss.unwrap().into_scalar::<f32>()) / batch.positions.len() as f64;
        model = optimizer.step(1e-3, model, grads);
    }
    measured
}

#[test]
fn losses_and_their_gradients_agree_with_the_cpu() {
    on_device("wgpu::losses_and_their_gradients_agree_with_the_cpu", |gpu| {
        let (rows, students) = cached(Selection::TopP { p: 0.8, k: 12 }, 30);
        let rows: Vec<SoftRow> = rows.iter().collect();
        let devices = [DeviceChoice::Cpu.open().unwrap().0, gpu];
        let part = |alpha, term| LossAtStep { alpha, ..LossAtStep::teacher(term) };
        let cases = [
            part(0.5, term(ForwardKl {}, TailPolicy::Bucket, 2.0)),
            part(0.7, term(JensenShannon { beta: 0.3 }, TailPolicy::Bucket, 1.0)),
            part(1.0, term(ReverseKl {}, TailPolicy::Uniform, 1.0)),
            part(1.0, TermAtStep { needs_slopes: true, ..term(ForwardKl {}, TailPolicy::Bucket, 2.0) }),
            part(1.0, term(MeanSquares { centred: true }, TailPolicy::Bucket, 2.0)),
            part(0.5, term(Decoupled { label: 1.0, others: 8.0 }, TailPolicy::Bucket, 4.0)),
            part(1.0, term(Pearson { columns: 0.0 }, TailPolicy::Bucket, 2.0)),
            part(1.0, term(Spearman {}, TailPolicy::Bucket, 1.0)),
            LossAtStep::LABELS,
        ];
        let times_std = Temperatures::TimesLogitStd { pair: TemperaturePair::same(2.0), range: (0.75, 10.0) };
        let followed = TokenDecisions { temperatures: vec![Some(times_std)], ..TokenDecisions::default() };
        let plain = cases.into_iter().map(|loss| (loss, TokenDecisions::default()));
        let forward_kl = part(1.0, term(ForwardKl {}, TailPolicy::Bucket, 1.0));
        let pairs = (0..6).map(|i| TemperaturePair::same(0.8 + 0.4 * f64::from(i))).collect();
        let per_token =
            TokenDecisions { temperatures: vec![Some(Temperatures::PerToken(pairs))], ..TokenDecisions::default() };
        let slopes = part(1.0, TermAtStep { needs_slopes: true, ..term(ForwardKl {}, TailPolicy::Bucket, 2.0) });
        // Temperatures that differ between positions, since a single one would hide reads from a wrong row.
        for (loss, decisions) in plain.chain([(slopes, per_token), (forward_kl, followed)]) {
            let mut batch = batch_of(
                &rows,
                &[3, 1, 4, 29, 5, 9],
                &TargetSpec { label: true, stats: true, ..TargetSpec::default() },
            );
            batch.targets = batch.targets.filter(|_| loss.alpha > 0.0);
            let [cpu, gpu] = devices.each_ref().map(|device| {
                let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
                let logits = Tensor::from_data(TensorData::new(values, [rows.len(), 30]), device);
                let mut sums = LossTotals::default();
                let gradient = logits_loss(logits, &batch, &decisions, &loss, &mut sums);
                let figures = sums.divergences.into_iter().chain(sums.cross_entropy).chain(sums.loss);
                let mut all = gradient.try_into_vec_as::<f32>().unwrap();
                all.extend(figures.map(|sum| sum.into_scalar::<f32>()));
                let slopes = sums.slopes.into_iter().flatten();
                all.extend(slopes.flat_map(|slope| slope.try_into_vec_as::<f32>().unwrap()));
                all
            });
            assert_eq!(cpu.len(), gpu.len());
            for (cpu, gpu) in cpu.iter().zip(&gpu) {
                golden::assert_close(f64::from(*gpu), f64::from(*cpu), 1e-4, 1e-5, &format!("{loss:?}"));
            }
        }
    });
}
