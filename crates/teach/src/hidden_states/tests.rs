//! States of models of every family, as transformers computed them, become its rows; files that cannot be are refused.

use super::*;
use crate::calibration::calibrate;
use crate::{StatesTeacher, Teacher};
use half::{bf16, f16};
use logitcask_core::{LogProbPrecision, RowSource, Selection, TailRule, Truncation};
use logitcask_data::batch_by_length;
use logitcask_model::{Device, FinalLayers, Precision, PretrainedModel};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(name)
}

fn reading(states: &str, side: NormSide, width: usize) -> Reading {
    Reading { states: Some(states.to_owned()), tokens: None, side, width, vocab_size: 128 }
}

fn open_one(path: &Path, reading: &Reading) -> Result<HiddenStates> {
    HiddenStates::open(&[SplitFiles { name: "train".to_owned(), files: files_of(path)? }], reading)
}

/// The final layers of one of the families' models, and the file of its states on a side.
fn opened(name: &str, side: NormSide) -> (FinalLayers, HiddenStates) {
    let model = PretrainedModel::open(&golden("families").join(name)).unwrap();
    let states = reading(side.name(), side, model.config().states_width(side));
    let states = open_one(&golden("hidden").join(name).with_extension("safetensors"), &states).unwrap();
    (model.load_final_layers(&Device::flex(), Precision::F32).unwrap(), states)
}

fn expected() -> serde_json::Map<String, Value> {
    serde_json::from_slice(&fs::read(golden("hidden/expected.json")).unwrap()).unwrap()
}

const KEEP: Truncation = Truncation {
    selection: Selection::TopK { k: 8 },
    always_keep: Vec::new(),
    values: LogProbPrecision::F16 {},
    tail: Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 8 }),
    padding: 0,
    source: RowSource::FULL,
};

#[test]
fn golden_states_of_every_family_give_its_rows_from_both_sides_of_the_norm() {
    let expected = expected();
    assert_eq!(expected.len(), fs::read_dir(golden("families")).unwrap().count());
    for (name, wanted) in &expected {
        for side in [NormSide::Before, NormSide::After] {
            let (layers, states) = opened(name, side);
            let teacher = StatesTeacher::new(&states, &layers, side, Device::flex());
            let samples = states.spread(1, 100);
            let got = label_log_probs(&teacher, &samples, 64).unwrap();
            let labels: Vec<f64> =
                wanted.as_array().unwrap().iter().map(|row| row["label"].as_f64().unwrap()).collect();
            let agreement = Agreement::of(&got, &[labels]);
            assert!(agreement.tokens == 6 && agreement.worst < 2e-5, "{name}, {side:?}: {agreement:?}");
            // What the file tells is rounded to f32.
            let told = [states.stored_log_probs(&samples[0]).unwrap().unwrap()];
            assert!(Agreement::of(&told, &got).worst < 2e-5, "{name}");
            let trials = calibrate(&teacher, "train", &samples, &[KEEP], 64).unwrap().trials;
            for (row, wanted) in trials[0].rows[0].1.iter().zip(wanted.as_array().unwrap()) {
                let number = |key: &str| wanted[key].as_f64().unwrap();
                // Classes whose rounded values are equal are ordered by their ids.
                let ids: Vec<u32> = serde_json::from_value(wanted["ids"].clone()).unwrap();
                let values: Vec<f64> = serde_json::from_value(wanted["log_probs"].clone()).unwrap();
                assert_eq!(row.class_ids.len(), ids.len());
                for (class, got) in row.class_ids.iter().zip(row.log_probs) {
                    let wanted = values[ids.iter().position(|id| id == class).unwrap()];
                    assert!((f64::from(*got) - wanted).abs() < 2e-5 + wanted.abs() / 2048.0, "{name}: {got}, {wanted}");
                }
                assert!((f64::from(row.log_z) - number("log_z")).abs() < 2e-5, "{name}, {side:?}");
                // Rounded classes and eight atoms.
                let at_2 = row.log_z_at(2.0) - number("log_z_at_2");
                assert!(at_2.abs() < 1e-3, "{name}, {side:?}: log Z at T = 2 is off by {at_2}");
            }
        }
    }
}

#[test]
fn golden_states_read_as_from_the_wrong_side_do_not_agree() {
    for name in expected().keys().filter(|name| *name != "opt_postnorm") {
        for side in [NormSide::Before, NormSide::After] {
            let (layers, states) = opened(name, side);
            let samples = states.spread(1, 100);
            let told = [states.stored_log_probs(&samples[0]).unwrap().unwrap()];
            let wrong = StatesTeacher::new(&states, &layers, side.other(), Device::flex());
            let agreement = Agreement::of(&label_log_probs(&wrong, &samples, 64).unwrap(), &told);
            assert!(agreement.mean > 0.02, "{name}, {side:?}: {agreement:?}");
        }
    }
}

/// A tensor in a test's file.
struct Stored(&'static str, Dtype, Vec<usize>, Vec<u8>);

fn f32s(name: &'static str, shape: &[usize], values: &[f32]) -> Stored {
    Stored(name, Dtype::F32, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn i64s(name: &'static str, shape: &[usize], values: &[i64]) -> Stored {
    Stored(name, Dtype::I64, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn write(path: &Path, tensors: &[Stored]) {
    fn view(Stored(name, dtype, shape, bytes): &Stored) -> (&str, TensorView<'_>) {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    }
    safetensors::serialize_to_file(tensors.iter().map(view), None, path).unwrap();
}

fn counted(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 + 0.5).collect()
}

const TWO: &str = "hidden_states";

fn of_width_2() -> Reading {
    reading(TWO, NormSide::After, 2)
}

#[test]
fn every_form_holds_the_same_states() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let tokens = [5, 6, 7];
    write(&file("hs_1.safetensors"), &[i64s("token_ids", &[3], &tokens), f32s(TWO, &[3, 2], &counted(6))]);
    // Two layers, of which the last is taken.
    let layers = [9.0, 9.0, 0.5, 1.5, 9.0, 9.0, 2.5, 3.5, 9.0, 9.0, 4.5, 5.5];
    write(&file("hs_2.safetensors"), &[i64s("input_ids", &[3], &tokens), f32s(TWO, &[3, 2, 2], &layers)]);
    // A batch: padded on the left, on the right, and a single token; in two number formats.
    let padded = [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    let padded: Vec<f32> = padded.into_iter().chain([0.0; 4]).collect();
    let halves: Vec<u8> = padded.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let brains: Vec<u8> = padded.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    let ids: Vec<u8> = [0, 5, 6, 7, 5, 6, 7, 0, 0, 3, 0, 0].iter().flat_map(|id: &i32| id.to_le_bytes()).collect();
    let mask = vec![0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0];
    let log_probs: Vec<f32> = [f32::NAN, f32::NAN, -1.0, -2.0, f32::NAN, -1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0].to_vec();
    for (number, dtype, bytes) in [(10, Dtype::F16, halves), (11, Dtype::BF16, brains)] {
        write(
            &file(&format!("hs_{number}.safetensors")),
            &[
                Stored("input_ids", Dtype::I32, vec![3, 4], ids.clone()),
                Stored("attention_mask", Dtype::BOOL, vec![3, 4], mask.clone()),
                Stored(TWO, dtype, vec![3, 4, 2], bytes),
                f32s("token_logprobs", &[3, 4], &log_probs),
            ],
        );
    }
    let states = open_one(folder.path(), &of_width_2()).unwrap();
    assert_eq!((states.len("train"), states.left_out()), (6, 2));
    assert!(!states.have_log_probs());
    for id in 0..6 {
        let sample = states.sample("train", SampleId(id)).unwrap();
        assert_eq!(sample.input_ids, [5, 6, 7]);
        let document = sample.origin.document;
        assert_eq!(states.vectors(document, 0..3).unwrap(), counted(6));
        assert_eq!(states.vectors(document, 1..2).unwrap(), [2.5, 3.5]);
        let told = (id >= 2).then(|| vec![-1.0, -2.0]);
        assert_eq!(states.stored_log_probs(&sample).unwrap(), told);
    }
    // Without the first token.
    write(
        &file("hs_1.safetensors"),
        &[
            i64s("token_ids", &[3], &tokens),
            f32s(TWO, &[3, 2], &counted(6)),
            f32s("token_logprobs", &[2], &[-1.0, -2.0]),
        ],
    );
    let states = open_one(&file("hs_1.safetensors"), &of_width_2()).unwrap();
    assert_eq!(states.stored_log_probs(&states.spread(1, 2)[0]).unwrap(), Some(vec![-1.0]));
}

#[test]
fn the_fingerprint_sees_the_states_the_side_and_the_splits_and_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = i64s("token_ids", &[3], &[5, 6, 7]);
    let path = folder.path().join("a.safetensors");
    let print = |states: &[f32], side: NormSide, split: &str| {
        write(&path, &[i64s("token_ids", &[3], &[5, 6, 7]), f32s(TWO, &[3, 2], states)]);
        let split = SplitFiles { name: split.to_owned(), files: vec![path.clone()] };
        HiddenStates::open(&[split], &Reading { side, ..of_width_2() }).unwrap().fingerprint()
    };
    let first = print(&counted(6), NormSide::After, "train");
    assert_ne!(first, print(&counted(6), NormSide::Before, "train"));
    assert_ne!(first, print(&counted(6), NormSide::After, "test"));
    assert_ne!(first, print(&[0.5, 1.5, 2.5, 3.5, 4.5, 5.25], NormSide::After, "train"));
    let other = folder.path().join("b.safetensors");
    write(&other, &[f32s("more", &[1], &[1.0]), tokens, f32s(TWO, &[3, 2], &counted(6))]);
    assert_eq!(first, open_one(&other, &of_width_2()).unwrap().fingerprint());
}

/// The error of a file of these tensors.
fn refusal(tensors: &[Stored]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hs_7.safetensors");
    write(&path, tensors);
    error_of(&path)
}

fn error_of(path: &Path) -> String {
    let error = open_one(path, &of_width_2()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let tokens = || i64s("token_ids", &[3], &[5, 6, 7]);
    let states = || f32s(TWO, &[3, 2], &counted(6));
    for (tensors, words) in [
        (
            vec![tokens()],
            "has no tensor `hidden_states` with the last hidden states, it has `token_ids`: name it with --states",
        ),
        (vec![states()], "has no tensor `token_ids` or `input_ids` with the token ids, it has : name it with --tokens"),
        (vec![tokens(), f32s(TWO, &[3, 4], &counted(12))], "vectors of 4 numbers, but those of the teacher have 2"),
        (
            vec![tokens(), f32s(TWO, &[4, 2], &counted(8))],
            "has the shape [4, 2], expected the shape [3] of `token_ids`, then",
        ),
        (vec![tokens(), f32s(TWO, &[6], &counted(6))], "has the shape [6], expected the shape [3]"),
        (vec![i64s("token_ids", &[1 << 40, 0], &[]), states()], "expected at least one token"),
        (vec![i64s("token_ids", &[1, 1, 3], &[5, 6, 7]), states()], "expected [tokens] or [sequences, tokens]"),
        (
            vec![i64s("token_ids", &[3], &[5, 128, 7]), states()],
            "sequence 0: token 1 has the id 128, but the tokenizer has 128",
        ),
        (vec![i64s("token_ids", &[3], &[5, 6, -1]), states()], "token 2 has the id -1"),
        (vec![f32s("token_ids", &[3], &[5.0, 6.0, 7.0]), states()], "is stored as F32; whole numbers are read as"),
        (vec![tokens(), i64s(TWO, &[3, 2], &[0; 6])], "is stored as I64; this build reads F32, F16 and BF16"),
        (
            vec![tokens(), states(), i64s("attention_mask", &[3], &[1, 0, 1])],
            "`attention_mask`: sequence 0: it must be 1",
        ),
        (vec![tokens(), states(), i64s("attention_mask", &[2], &[1, 1])], "`attention_mask` has the shape [2]"),
        (vec![tokens(), states(), f32s("token_logprobs", &[1], &[0.0])], "`token_logprobs` has the shape [1]"),
        (
            vec![i64s("token_ids", &[1], &[5]), f32s(TWO, &[1, 2], &counted(2))],
            "no sequence of this split has two tokens",
        ),
    ] {
        let error = refusal(&tensors);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_no_whole_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error_of(folder.path()).contains("no file in this folder has a name that ends in .safetensors"));
    let path = folder.path().join("hs_7.safetensors");
    assert!(error_of(&path).contains("there is no such file or folder"));
    write(&path, &[i64s("token_ids", &[3], &[5, 6, 7]), f32s(TWO, &[3, 2], &counted(6))]);
    let whole = fs::read(&path).unwrap();
    for (length, words) in
        [(5, "shorter than a safetensors header"), (40, "claims a header of"), (whole.len() - 1, "cut off")]
    {
        fs::write(&path, &whole[..length]).unwrap();
        let error = error_of(&path);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn states_that_are_no_numbers_are_refused_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = PretrainedModel::open(&golden("families/llama3")).unwrap();
    let layers = model.load_final_layers(&Device::flex(), Precision::F32).unwrap();
    let path = folder.path().join("hs_7.safetensors");
    let mut values = vec![1.0; 2 * 4 * 32];
    values[(4 + 2) * 32 + 3] = f32::NAN;
    write(&path, &[i64s("token_ids", &[2, 4], &[5, 6, 7, 8, 5, 6, 7, 8]), f32s(TWO, &[2, 4, 32], &values)]);
    let states = open_one(&path, &reading(TWO, NormSide::After, 32)).unwrap();
    let teacher = StatesTeacher::new(&states, &layers, NormSide::After, Device::flex());
    let samples = states.spread(2, 100);
    let results =
        batch_by_length(&samples, 4).iter().map(|batch| teacher.outputs(batch, &mut |_| Ok(()))).collect::<Vec<_>>();
    assert!(results[0].is_ok());
    let error = results[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("hs_7.safetensors: `hidden_states`: sequence 1, position 2: holds NaN"), "{error}");
}
