//! Time of a model of each family beside Llama's, at an equal number of parameters that a token uses; without the head,
//! which is the same for all.
//!
//! `make bench-families`, DEVICE=cpu or wgpu; prints a table of benches/README.md. The two models of a row are measured by
//! turns, so that what else the machine does falls on both. Names of families behind `--` select these.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_model::{
    CausalLm, Device, DeviceChoice, Model, ModelConfig, ModelType, Sequences, StoredParameter, weights,
};
use serde_json::{Value, json};
use std::time::Instant;

const ROWS: usize = 8;
const WIDTH: usize = 200;
const ROUNDS: usize = 7;

fn main() {
    let device = std::env::var("DEVICE").ok().filter(|name| name != "auto").unwrap_or("cpu".into());
    let (device, name) = device.parse::<DeviceChoice>().unwrap().open().unwrap();
    println!("{name}: {ROWS} windows of {WIDTH} tokens, hidden 288, 6 layers; median of {ROUNDS} rounds by turns");
    println!("\n| family | parameters | forward, ms | beside Llama | forward and backward, ms | beside Llama |");
    println!("|---|---|---|---|---|---|");
    let llama = [false, true].map(|autodiff| model("llama", &device, autodiff));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    for family in ModelType::ALL.iter().filter(|family| wanted.is_empty() || wanted.iter().any(|n| n == family.name()))
    {
        let own = [false, true].map(|autodiff| model(family.name(), &device, autodiff));
        let forward = by_turns(&own[0], &llama[0], |model| drop(numbers(pass(model))));
        let whole = by_turns(&own[1], &llama[1], |model| {
            // The square, so that slopes differ from position to position.
            let mut grads = pass(model).square().sum().backward();
            let first = model.named_parameters().into_iter().find_map(|(_, stored)| match stored {
                StoredParameter::Plain(embedding) => Some(embedding.val()),
                _ => None,
            });
            drop(first.and_then(|first| first.grad_remove(&mut grads)).map(Tensor::into_data));
        });
        let [ms, beside] = forward;
        let [ms_whole, beside_whole] = whole;
        let parameters = own[0].num_params() as f64 / 1e6;
        println!(
            "| {} | {parameters:.1} M | {ms:.1} | {beside:.2} | {ms_whole:.1} | {beside_whole:.2} |",
            family.name()
        );
    }
}

/// A model of a family with about 6 M parameters in its layers.
fn model(family: &str, device: &Device, autodiff: bool) -> Model {
    let mut keys = json!({
        "model_type": family, "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6,
        "num_attention_heads": 6, "num_key_value_heads": 6,
    });
    let mut set = |more: Value| keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match family {
        // Without a gate a network of the same size is wider.
        "gpt2" | "gpt_neox" | "opt" | "starcoder2" => set(json!({"intermediate_size": 1152})),
        "phi" => set(json!({"intermediate_size": 1152, "tie_word_embeddings": false})),
        "falcon" => set(json!({"intermediate_size": 1152, "new_decoder_architecture": true})),
        // A token uses two of four experts.
        "mixtral" | "granitemoe" => set(json!({"intermediate_size": 384, "num_local_experts": 4})),
        "gpt_oss" => set(json!({"intermediate_size": 384, "num_local_experts": 4, "num_experts_per_tok": 2})),
        "qwen3_moe" => set(json!({"moe_intermediate_size": 384, "num_experts": 4, "num_experts_per_tok": 2})),
        "gemma4_text" => set(json!({
            "global_head_dim": 48, "sliding_window": 128,
            "layer_types": [
                "sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
                "full_attention",
            ],
        })),
        "lfm2" => set(json!({"full_attn_idxs": [2, 5]})),
        "qwen3_5_text" => set(json!({
            "linear_num_key_heads": 6, "linear_num_value_heads": 6, "linear_key_head_dim": 48,
            "linear_value_head_dim": 48,
        })),
        _ => {}
    }
    match family {
        "olmo" | "opt" => set(json!({"rms_norm_eps": 1e-5})),
        "gemma2" | "gemma3_text" | "cohere2" | "olmo3" | "exaone4" => set(json!({"sliding_window": 128})),
        _ => {}
    }
    let config: ModelConfig = serde_json::from_value(keys).unwrap();
    let device = if autodiff { device.clone().autodiff() } else { device.clone() };
    weights::init(&config.resolved(1000, WIDTH).unwrap(), 1, &device)
}

/// The hidden states of all tokens.
fn pass(model: &Model) -> Tensor<3> {
    let tokens: Vec<i64> = (0..(ROWS * WIDTH) as i64).map(|i| i * i % 997).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [ROWS, WIDTH]), &model.device());
    model.hidden(tokens, &Sequences::in_rows(ROWS, WIDTH))
}

/// Waits for the device.
fn numbers(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Median time of `run` on a model in ms, and its ratio to that on another.
fn by_turns(one: &Model, other: &Model, run: impl Fn(&Model)) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (model, times) in [one, other].into_iter().zip(&mut times) {
            let start = Instant::now();
            run(model);
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let [one, other] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    [one, one / other]
}
