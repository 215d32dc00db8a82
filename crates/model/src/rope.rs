//! Rotary position embedding in Hugging Face's half-rotation layout.

use burn::tensor::{Device, Tensor, TensorData};

/// cos and sin of every angle, \[1, 1, positions, head_dim / 2\] each.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rope {
    /// Angles of positions `start..start + len`: position · theta^(-2 i / head_dim).
    pub fn new(start: usize, len: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let angles: Vec<f64> = (start..start + len)
            .flat_map(|p| (0..half).map(move |i| p as f64 * theta.powf(-2.0 * i as f64 / head_dim as f64)))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, len, half]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns the pairs (i, i + head_dim / 2) of x: \[rows, heads, positions, head_dim\].
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let dtype = x.dtype();
        let (cos, sin) = (self.cos.clone().cast(dtype), self.sin.clone().cast(dtype));
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 3)
    }
}
