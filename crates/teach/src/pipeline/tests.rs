//! Workers that finish at any time and in any order produce the cache that a single worker produces.

use super::*;
use crate::teacher::Logits;
use logitcask_cache::{ArtifactRef, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Versions};
use logitcask_core::{
    Fingerprint, LogProbPrecision, Origin, PositionChoice, RowSource, Sample, SampleId, Selection, TailRule, Truncation,
};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const VOCAB: usize = 40;
const SAMPLES: u64 = 23;

/// Samples of 2 to 9 tokens.
struct Short;

impl Dataset for Short {
    fn splits(&self) -> Vec<(String, u64)> {
        vec![("train".to_owned(), SAMPLES)]
    }

    fn len(&self, _: &str) -> u64 {
        SAMPLES
    }

    fn length_of(&self, _: &str, id: SampleId) -> logitcask_data::Result<usize> {
        Ok(2 + (id.0 * 5 % 8) as usize)
    }

    fn sample(&self, _: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        let input_ids = (0..2 + id.0 * 5 % 8).map(|i| ((id.0 * 7 + i * 11) % VOCAB as u64) as u32).collect();
        Ok(Sample::new(id, Origin { document: id.0, offset: 0 }, input_ids))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(b"short")
    }

    fn name(&self) -> &str {
        "short"
    }

    fn max_length(&self) -> usize {
        9
    }
}

/// A teacher whose logits depend on the token alone. It returns them in two pieces, and takes longer the fewer tokens a
/// batch has.
struct Slow {
    workers: usize,
    /// Fails if a sample starts with this token.
    fails_at: Option<u32>,
}

impl Teacher for Slow {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()> {
        if batch.samples.iter().any(|sample| self.fails_at == Some(sample.input_ids[0])) {
            return Err(Error::Device("lost".into()));
        }
        std::thread::sleep(Duration::from_millis(40 / batch.positions.len().max(1) as u64));
        let count = batch.positions.len();
        for positions in [0..count / 2, count / 2..count] {
            let said = batch.positions[positions.clone()].iter().flat_map(|&(sample, position)| {
                let token = batch.samples[sample].input_ids[position];
                (0..VOCAB as u32).map(move |id| ((token * 31 + id * 17) % 23) as f32 / 4.0)
            });
            each(Outputs { positions, logits: Logits::Host(said.collect::<Vec<_>>().into()), extras: Vec::new() })?;
        }
        Ok(())
    }
}

fn plan() -> Plan {
    let pin = |name: &str| ArtifactRef { name: name.into(), fingerprint: Fingerprint::of(name.as_bytes()) };
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 };
    let selection = Selection::TopK { k: 5 };
    Plan {
        format_version: FORMAT_VERSION,
        code_version: "test".into(),
        versions: Versions::FIRST,
        added_tokens: Vec::new(),
        special_tokens: REFUSE_SPECIAL_TOKENS.into(),
        conversations: Default::default(),
        layout: Layout::Plain,
        vocab_size: VOCAB as u32,
        max_length: 9,
        precision: "f32".into(),
        batch_tokens: 10,
        positions: PositionChoice::All {},
        extras: Vec::new(),
        keep: Truncation {
            selection,
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            tail: Some(tail),
            padding: 0,
            source: RowSource::FULL,
        },
        teacher: pin("teacher"),
        tokenizer: ArtifactRef { name: "tokenizer".into(), fingerprint: Fingerprint::of(b"{}") },
        bos: None,
        end: None,
        dataset: ArtifactRef { name: "short".into(), fingerprint: Short.fingerprint() },
        companions: Vec::new(),
        splits: Plan::splits_of(&Short.splits()),
        samples_per_unit: 5,
    }
}

/// Runs the pipeline to the end, or, with `stops`, until the first batch went through the teacher: a commit may be so slow
/// that all units have begun before it.
fn run(folder: &Path, teacher: &Slow, stops: bool) -> Result<u64> {
    let positions = AtomicU64::new(0);
    let writer = CacheWriter::open(folder, plan(), b"{}").unwrap();
    let stop = AtomicBool::new(false);
    let on_progress = |progress| match progress {
        Progress::Committed { .. } => {}
        Progress::Positions(count) => {
            positions.fetch_add(count, Ordering::Relaxed);
            stop.store(stops, Ordering::Relaxed);
        }
        Progress::Elsewhere(_) => {}
    };
    let pipeline = Pipeline { dataset: &Short, teacher, writer: &writer, batch_tokens: 10 };
    pipeline.run(&stop, &mut StageSeconds::default(), &on_progress)?;
    writer.finish().unwrap();
    Ok(positions.into_inner())
}

#[test]
fn two_runs_at_once_share_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let alone = tempfile::tempdir().unwrap();
    let all = run(alone.path(), &Slow { workers: 1, fails_at: None }, false).unwrap();
    let run_beside = || run(folder.path(), &Slow { workers: 2, fails_at: None }, false).unwrap();
    let read: u64 = std::thread::scope(|scope| {
        let both = [scope.spawn(run_beside), scope.spawn(run_beside)];
        both.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(read, all, "no position goes through a teacher twice");
    assert_eq!(cache_id(folder.path()), cache_id(alone.path()));
}

fn cache_id(folder: &Path) -> Fingerprint {
    logitcask_cache::CacheReader::open(folder).unwrap().cache_id()
}

#[test]
fn any_number_of_workers_gives_the_same_cache() {
    let folders = [1, 2, 5].map(|workers| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &Slow { workers, fails_at: None }, false).unwrap();
        folder
    });
    let [one, others @ ..] = folders.each_ref().map(|folder| cache_id(folder.path()));
    assert!(others.iter().all(|cache_id| *cache_id == one));
}

#[test]
fn a_stopped_run_commits_what_it_began_and_another_goes_on() {
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let teacher = Slow { workers: 2, fails_at: None };
    let stopped = run(folder.path(), &teacher, true);
    assert!(matches!(stopped, Err(Error::Interrupted { committed: 1..=4, units: 5 })), "{stopped:?}");
    run(folder.path(), &teacher, false).unwrap();
    run(whole.path(), &teacher, false).unwrap();
    assert_eq!(cache_id(folder.path()), cache_id(whole.path()));
}

#[test]
fn a_worker_that_fails_ends_the_run_with_its_reason() {
    for workers in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let first = Short.sample("train", SampleId(13)).unwrap().input_ids[0];
        let failed = run(folder.path(), &Slow { workers, fails_at: Some(first) }, false);
        assert!(matches!(&failed, Err(Error::Device(reason)) if reason == "lost"), "{failed:?}");
        run(folder.path(), &Slow { workers, fails_at: None }, false).unwrap();
    }
}

/// The same samples, except that number 13 cannot be read or has only one token.
struct Broken {
    is_short: bool,
}

impl Dataset for Broken {
    fn splits(&self) -> Vec<(String, u64)> {
        Short.splits()
    }

    fn len(&self, split: &str) -> u64 {
        Short.len(split)
    }

    fn length_of(&self, split: &str, id: SampleId) -> logitcask_data::Result<usize> {
        Short.length_of(split, id)
    }

    fn sample(&self, split: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        let mut sample = Short.sample(split, id)?;
        match (id.0, self.is_short) {
            (13, true) => sample.input_ids.truncate(1),
            (13, false) => {
                return Err(logitcask_data::Error::NoSample { split: split.to_owned(), sample: id, samples: SAMPLES });
            }
            _ => {}
        }
        Ok(sample)
    }

    fn fingerprint(&self) -> Fingerprint {
        Short.fingerprint()
    }

    fn name(&self) -> &str {
        Short.name()
    }

    fn max_length(&self) -> usize {
        Short.max_length()
    }
}

#[test]
fn a_sample_that_nothing_can_be_asked_about_ends_the_run_with_its_name() {
    for (is_short, message) in [(true, "fewer than two tokens"), (false, "does not have it")] {
        let folder = tempfile::tempdir().unwrap();
        let writer = CacheWriter::open(folder.path(), plan(), b"{}").unwrap();
        let teacher = Slow { workers: 2, fails_at: None };
        let pipeline = Pipeline { dataset: &Broken { is_short }, teacher: &teacher, writer: &writer, batch_tokens: 10 };
        let failed = pipeline.run(&AtomicBool::new(false), &mut StageSeconds::default(), &|_| {}).unwrap_err();
        assert!(matches!(failed, Error::Short { .. } | Error::Dataset(_)), "{failed:?}");
        let failed = failed.to_string();
        assert!(failed.starts_with("split `train`, sample 13: ") && failed.contains(message), "{failed}");
        run(folder.path(), &teacher, false).unwrap();
    }
}
