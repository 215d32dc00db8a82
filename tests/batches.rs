//! What a teacher says of a sample does not depend on the samples that share its batch.

use logitcask_core::{Origin, Sample, SampleId};
use logitcask_data::batch_by_length;
use logitcask_model::{DeviceChoice, Precision, PretrainedModel};
use logitcask_teach::teacher::Logits;
use logitcask_teach::{LocalTeacher, Outputs, Teacher};
use std::path::Path;

/// The logits of every sample's positions, in batches of up to so many tokens.
fn logits(teacher: &LocalTeacher, samples: &[Sample], batch_tokens: usize) -> Vec<Vec<f32>> {
    let mut all = vec![Vec::new(); samples.len()];
    for batch in batch_by_length(samples, batch_tokens) {
        let add = &mut |outputs: Outputs| {
            let outputs = outputs.in_memory()?;
            let Logits::Host(logits) = &outputs.logits else { panic!("the logits are not in memory") };
            for (position, row) in outputs.positions.zip(logits.chunks_exact(teacher.vocab_size())) {
                all[batch.indices[batch.positions[position].0]].extend_from_slice(row);
            }
            Ok(())
        };
        teacher.outputs(&batch, add).unwrap();
    }
    all
}

#[test]
fn a_row_is_the_same_to_the_last_bit_in_every_batch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/teacher");
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = PretrainedModel::open(&folder).unwrap().load(&device, Precision::F32).unwrap();
    let teacher = LocalTeacher::new(model);
    // Less and more than a block of queries in attention, alone and by several.
    let sample = |(id, length): (u64, u32)| {
        let tokens = (0..length).map(|token| (token * token * 7 + token * 31 + id as u32 * 101 + 3) % 2048).collect();
        Sample::new(SampleId(id), Origin { document: id, offset: 0 }, tokens)
    };
    let lengths = [9, 5, 40, 17, 64, 65, 9, 130, 71, 200, 6, 33];
    let samples: Vec<Sample> = (0..).zip(lengths).map(sample).collect();
    let alone = logits(&teacher, &samples, 1);
    assert!(alone.iter().zip(&samples).all(|(rows, sample)| rows.len() == 2048 * sample.position_count()));
    for batch_tokens in [40, 300, 10_000] {
        let together = logits(&teacher, &samples, batch_tokens);
        for (sample, (together, alone)) in together.iter().zip(&alone).enumerate() {
            let differ = together.iter().zip(alone).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(differ, 0, "of {} logits of sample {sample}, batches of {batch_tokens}", alone.len());
        }
    }
}
