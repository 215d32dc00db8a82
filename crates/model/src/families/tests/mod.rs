//! What every family must do. A family that forgets a parameter, a name or a key fails here by itself: these tests run over
//! the examples of all there are.

mod computing;
mod continuing;
mod reading;

use super::{Initial, ModelConfig, ModelType};
use crate::identity;
use crate::{CausalLm, Companions, KvCache, Model, Packing, Precision, PretrainedModel, Sequences, export, weights};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const VOCAB: usize = 23;
const WIDTH: usize = 7;

/// The examples of all families, on a shape that lets every part of a decoder show.
pub(crate) fn examples() -> Vec<ModelConfig> {
    let of_family = |model_type: ModelType| {
        model_type.family().examples().into_iter().map(move |changes| {
            let mut keys = json!({
                "model_type": model_type, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "rope_theta": 500.0,
            });
            keys.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            serde_json::from_value::<ModelConfig>(keys).unwrap().resolved(VOCAB, 2 * WIDTH).unwrap()
        })
    };
    ModelType::ALL.iter().copied().flat_map(of_family).collect()
}

/// Models as they are begun, their matrices ten times as large, and norms and biases away from one and zero: logits that
/// differ by more than rounding.
pub(crate) fn models(device: &Device) -> Vec<Model> {
    models_in(DType::F32, device)
}

fn models_in(dtype: DType, device: &Device) -> Vec<Model> {
    let begin = |config: &ModelConfig| {
        let begun = weights::init(config, 5, &Device::flex());
        let values: std::collections::HashMap<String, Vec<f32>> =
            begun.state_dict().map(|(name, _, values)| (name, values)).collect();
        let scaled = |name: &str, _: &[usize]| {
            let is_vector = name.ends_with(".bias")
                || name.ends_with("norm.weight")
                || name.ends_with(".sinks")
                || name.ends_with("layer_scalar");
            let (factor, away) = if is_vector { (1.0, 0.3) } else { (10.0, 0.0) };
            let value = |(i, value): (usize, &f32)| factor * value + away * (i as f32 + 1.0).sin();
            Ok::<_, std::convert::Infallible>(values[name].iter().enumerate().map(value).collect())
        };
        config.build(device, dtype, &mut { scaled }).unwrap()
    };
    examples().iter().map(begin).collect()
}

/// Two rows of tokens, \[2, WIDTH\].
fn tokens() -> Vec<i64> {
    (0..2 * WIDTH as i64).map(|i| (i * i + 3) % VOCAB as i64).collect()
}

fn int<const D: usize>(values: Vec<i64>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// \[2 · WIDTH, VOCAB\], row by row.
fn logits(model: &Model, tokens: Vec<i64>) -> Vec<f32> {
    let positions = int((0..2 * WIDTH as i64).collect(), [2 * WIDTH], &model.device());
    let hidden = model.hidden_at(int(tokens, [2, WIDTH], &model.device()), &Sequences::in_rows(2, WIDTH), positions);
    model.head().logits(hidden).try_into_vec_as().unwrap()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5 * scale, "{what}: {worst} of {scale}");
}

#[test]
fn keys_of_a_recipe_are_read_as_they_are_written_and_no_others() {
    for config in examples() {
        let mut keys = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<ModelConfig>(keys.clone()).unwrap(), config);
        assert_eq!(keys.get("model_type").is_none(), config.model_type() == ModelType::default());
        keys["model_type"] = json!(config.model_type());
        assert_eq!(serde_json::from_value::<ModelConfig>(keys.clone()).unwrap(), config);
        keys["no_such_key"] = json!(1);
        let error = serde_json::from_value::<ModelConfig>(keys).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `no_such_key`, expected one of `"), "{error}");
    }
}

#[test]
fn an_unknown_family_is_refused_by_the_names_of_those_that_are_known() {
    let in_recipe = serde_json::from_value::<ModelConfig>(json!({"model_type": "perceptron"})).unwrap_err().to_string();
    let in_file = ModelConfig::of_hf(json!({"model_type": "perceptron"}).as_object().unwrap()).unwrap_err();
    for error in [in_recipe, in_file] {
        assert!(error.contains("`perceptron`"), "{error}");
        assert!(ModelType::ALL.iter().all(|known| error.contains(&format!("`{}`", known.name()))), "{error}");
    }
    let missing = ModelConfig::of_hf(&serde_json::Map::new()).unwrap_err();
    assert!(missing.starts_with("model_type is `missing`, this build opens `llama`"), "{missing}");
    for &known in ModelType::ALL {
        assert_eq!(json!(known), known.name(), "one name everywhere");
    }
}

#[test]
fn config_json_reads_back_and_quantized_weights_are_refused() {
    for config in examples() {
        let mut all = config.to_hf("float32");
        assert_eq!(all["model_type"], config.model_type().name());
        assert_eq!(all["architectures"].as_array().map(Vec::len), Some(1));
        assert_eq!(ModelConfig::of_hf(&all).unwrap(), config);
        // What each version of transformers reads is enough. Version 4 lacks families that do not write its own table.
        let is_in_4 = all.contains_key("rope_scaling") || !all.contains_key("rope_parameters");
        let theta = if all.contains_key("rotary_emb_base") { "rotary_emb_base" } else { "rope_theta" };
        let others = [&["rope_scaling", theta, "torch_dtype"][..], &["rope_parameters", "dtype"]];
        for other in others.into_iter().take(if is_in_4 { 2 } else { 1 }) {
            let mut one = all.clone();
            let has_rope = |key: &str| !key.starts_with("rope_") || all.contains_key("rope_parameters");
            let is_written = |key: &str| has_rope(key) && (is_in_4 || key != "rope_scaling");
            other.iter().filter(|key| is_written(key)).for_each(|key| drop(one.remove(*key).unwrap()));
            assert_eq!(ModelConfig::of_hf(&one).unwrap(), config);
        }
        all.insert("quantization_config".to_owned(), json!({"quant_method": "gptq"}));
        assert!(ModelConfig::of_hf(&all).unwrap_err().contains("gptq"));
    }
}

#[test]
fn parameters_are_those_that_the_config_names() {
    for (config, model) in examples().iter().zip(models(&Device::flex())) {
        let named = config.shape().parameters();
        let of_model: Vec<(String, Vec<usize>)> =
            model.named_parameters().iter().map(|(name, stored)| (name.clone(), stored.shape())).collect();
        assert_eq!(of_model, named);
        let numbers: usize = named.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!((config.parameters(), model.num_params()), (numbers, numbers));
        assert_eq!(named.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), named.len(), "each name once");
        let in_files = config.file_tensors();
        assert_eq!(in_files.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), in_files.len());
        let in_files: usize = in_files.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(in_files, numbers, "{config:?}");
        for (name, _) in named {
            let begins = config.initial(&name);
            assert!(!matches!(begins, Initial::Normal { deviation } if deviation <= 0.0), "{name}");
        }
        assert_eq!((model.vocab_size(), config.vocab_size()), (VOCAB, VOCAB));
        assert_eq!(model.config(), config);
    }
}

#[test]
fn an_export_opens_as_the_same_model() {
    for model in models(&Device::flex()) {
        let folder = tempfile::tempdir().unwrap();
        export::export(&model, Precision::F32, None, &Companions::default(), folder.path()).unwrap();
        let opened = PretrainedModel::open(folder.path()).unwrap();
        assert_eq!(opened.config(), model.config());
        let again = opened.load(&Device::flex(), Precision::F32).unwrap();
        assert!(model.state_dict().eq(again.state_dict()));
        assert_eq!(logits(&again, tokens()), logits(&model, tokens()));
        opened.fingerprint().unwrap();
    }
}

#[test]
fn a_fingerprint_tells_families_and_shapes_apart() {
    let identities: Vec<Value> = examples().iter().map(identity::fields).collect();
    for (i, (identity, config)) in identities.iter().zip(examples()).enumerate() {
        assert_eq!(identity["model_type"], config.model_type().name());
        assert!(identities[..i].iter().all(|other| other != identity), "{identity}");
        let renamed = config.clone().with_special_tokens(Some(3), vec![4, 5]);
        assert_eq!(identity::fields(&renamed), *identity, "which tokens delimit texts changes no logit");
        assert_eq!((renamed.bos_token_id(), renamed.eos_token_ids()), (Some(3), &[4, 5][..]));
    }
}

#[test]
fn one_token_at_a_time_gives_the_logits_of_the_whole_sequence() {
    for model in models(&Device::flex()) {
        let (tokens, whole) = (tokens(), logits(&model, tokens()));
        let mut cache = KvCache::default();
        for position in 0..WIDTH {
            let next = int(vec![tokens[position], tokens[WIDTH + position]], [2], &model.device());
            let step: Vec<f32> = model.step(next, &mut cache).try_into_vec_as().unwrap();
            let wanted = [position, WIDTH + position].map(|row| &whole[row * VOCAB..(row + 1) * VOCAB]).concat();
            assert_close(&step, &wanted, &format!("{:?} at {position}", model.config()));
        }
    }
}

#[test]
fn later_tokens_change_nothing_before_them() {
    for model in models(&Device::flex()) {
        let whole = logits(&model, tokens());
        let changed =
            logits(&model, tokens().into_iter().enumerate().map(|(i, t)| if i % WIDTH < 4 { t } else { 0 }).collect());
        for row in [0, WIDTH] {
            let before = row * VOCAB..(row + 4) * VOCAB;
            assert_close(&changed[before.clone()], &whole[before], "before the change");
            let behind = (row + 4) * VOCAB..(row + WIDTH) * VOCAB;
            assert_ne!(changed[behind.clone()], whole[behind], "the change itself is seen");
        }
    }
}

/// Every parameter's gradient, one after the other. An expert that no token uses has none.
struct Flat<'a>(&'a GradientsParams, Vec<f32>, Vec<String>);

impl ModuleVisitor for Flat<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.2.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.2.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match self.0.get::<D>(param.id) {
            Some(grad) => self.1.extend(grad.try_into_vec_as::<f32>().unwrap()),
            None if self.2.contains(&"experts".to_owned()) => {}
            None => panic!("{} has no gradient", self.2.join(".")),
        }
    }
}

#[test]
fn packed_sequences_have_the_hidden_states_of_padded_ones() {
    let device = Device::flex();
    let lengths = [3, WIDTH, 2, 1];
    let tokens: Vec<u32> = tokens().iter().map(|&token| token as u32).collect();
    let texts = || lengths.iter().scan(&tokens[..], |rest, &length| rest.split_off(..length));
    for model in models(&device) {
        let hidden = |sequences: Sequences| -> Vec<f32> {
            let tokens = sequences.tokens(texts()).into_iter().map(i64::from).collect();
            let places = sequences.starts().into_iter().zip(lengths);
            let places: Vec<i64> = places.flat_map(|(start, length)| start as i64..(start + length) as i64).collect();
            let (shape, count) = (sequences.shape(), places.len());
            model
                .hidden_at(int(tokens, shape, &device), &sequences, int(places, [count], &device))
                .into_data()
                .iter()
                .collect()
        };
        let padded = hidden(Sequences::in_rows(lengths.len(), WIDTH));
        for packing in [Packing::OneRow, Packing::FilledRows] {
            let packed = hidden(Sequences::packed(lengths, packing));
            assert_close(&packed, &padded, &format!("{packing:?}, {:?}", model.config()));
        }
    }
}

/// On a CPU in f32 the operations of `host` serve, and in f64 those of tensors.
#[test]
fn both_ways_of_attention_give_the_same_logits() {
    let device = Device::flex();
    for (model, exact) in models(&device).iter().zip(models_in(DType::F64, &device)) {
        for sequences in [
            Sequences::in_rows(2, WIDTH),
            Sequences::packed([WIDTH + 2, WIDTH - 2], Packing::OneRow),
            Sequences::packed([WIDTH, 3, 2, 2], Packing::FilledRows),
        ] {
            let logits = |model: &Model| -> Vec<f32> {
                let [rows, width] = sequences.shape();
                let mut tokens = tokens();
                // What is said of padding does not matter.
                tokens.resize(rows * width, 0);
                let hidden = model.hidden(int(tokens, [rows, width], &device), &sequences);
                let d = hidden.dims()[2];
                let hidden = hidden.reshape([rows * width, d]).narrow(0, 0, 2 * WIDTH);
                model.head().logits(hidden).into_data().iter().collect()
            };
            assert_close(&logits(model), &logits(&exact), &format!("{sequences:?}, {:?}", model.config()));
        }
    }
}

#[test]
fn the_detached_head_has_the_logits_and_the_gradient_of_the_graph() {
    let device = Device::flex().autodiff();
    for model in models(&device) {
        let positions = || int((0..2 * WIDTH as i64).collect(), [2 * WIDTH], &device);
        let hidden = || model.hidden_at(int(tokens(), [2, WIDTH], &device), &Sequences::in_rows(2, WIDTH), positions());
        let slopes: Vec<f32> = (0..2 * WIDTH * VOCAB).map(|i| (i as f32 * 0.37).sin()).collect();
        let slopes =
            |device: &Device| Tensor::<2>::from_data(TensorData::new(slopes.clone(), [2 * WIDTH, VOCAB]), device);
        let flat = |grads: &GradientsParams| {
            let mut flat = Flat(grads, Vec::new(), Vec::new());
            model.visit(&mut flat);
            flat.1
        };
        let whole = (model.head().logits(hidden()) * slopes(&device)).sum().backward();
        let whole = flat(&GradientsParams::from_grads(whole, &model));

        let (hidden, head, mut of_head) = (hidden(), model.head().detached(), None);
        let plain = hidden.clone().detach().without_autodiff();
        let of_graph: Vec<f32> = model.head().logits(hidden.clone()).try_into_vec_as().unwrap();
        assert_close(&head.logits(plain.clone()).try_into_vec_as::<f32>().unwrap(), &of_graph, "logits");
        let before_cap = match head.cap_slopes(&head.logits(plain.clone())) {
            Some(of_cap) => slopes(&Device::flex()) * of_cap,
            None => slopes(&Device::flex()),
        };
        let of_hidden = head.backward(plain, before_cap, &mut of_head);
        let of_hidden = Tensor::<2>::from_data(of_hidden.into_data(), &device);
        let mut grads = GradientsParams::from_grads((hidden * of_hidden).sum().backward(), &model);
        model.head().add_gradient(&mut grads, of_head.unwrap());
        assert_close(&flat(&grads), &whole, "gradients");
    }
}

/// Paths and numbers of dimensions of all parameters.
#[derive(Default)]
struct Paths(Vec<String>, Vec<(String, usize)>);

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.1.push((self.0.join("."), D));
    }
}

#[test]
fn matrices_decay_and_vectors_do_not() {
    let mut found = false;
    for model in models(&Device::flex()) {
        let (mut paths, group) = (Paths::default(), model.no_decay());
        model.visit(&mut paths);
        found |= paths.1.iter().any(|(_, dimensions)| *dimensions == 1);
        for (path, dimensions) in paths.1 {
            let is_exempt = group.matches(&burn::module::ParamId::new(), Some(&path));
            assert_eq!(is_exempt, dimensions == 1, "{path}");
            let is_vector = path.contains("norm")
                || path.ends_with("bias")
                || path.ends_with("sinks")
                || path.ends_with("scalar")
                || path.ends_with("a_log");
            assert_eq!(is_exempt, is_vector, "{path}");
        }
    }
    assert!(found);
}
