//! Rotary position embedding in Hugging Face's half-rotation layout.

mod scaling;

pub(crate) use scaling::TextLengths;
pub use scaling::{RopeScaling, RopeType};

use burn::tensor::{Device, Int, Tensor, TensorData};

/// How fast each pair of a head's dimensions turns from one position to the next, and factors of what is turned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RotarySpeeds {
    /// Those of pairs that stand still are 0.
    speeds: Vec<f64>,
    /// Number of pairs that turn; they are the first.
    turning: usize,
    factor: f64,
    growth: Option<QueryGrowth>,
}

/// Queries that grow with their position p by 1 + beta · ln(1 + floor(p / length)), so that attention over long texts
/// stays as sharp as over short ones (Llama 4, Ministral 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct QueryGrowth {
    /// How much they grow.
    pub(crate) beta: f64,
    /// Number of tokens at the beginning of a text whose queries keep their size.
    pub(crate) length: usize,
}

impl QueryGrowth {
    fn at(self, position: usize) -> f64 {
        1.0 + self.beta * ((1 + position / self.length) as f64).ln()
    }
}

impl RotarySpeeds {
    /// theta^(-2 i / width) for the first `width` / 2 pairs of a head, adapted to long texts by `scaling`, which must
    /// be resolved. The other pairs stand still.
    pub(crate) fn new(head_dim: usize, width: usize, theta: f64, scaling: Option<(&RopeScaling, TextLengths)>) -> Self {
        let turning = width / 2;
        let speeds: Vec<f64> = (0..turning).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect();
        let (mut speeds, factor) = match scaling {
            None => (speeds, 1.0),
            Some((scaling, lengths)) => (scaling.scaled(speeds, theta, lengths), scaling.attention_factor()),
        };
        speeds.resize(head_dim / 2, 0.0);
        Self { speeds, turning, factor, growth: None }
    }

    /// The same for queries that grow.
    pub(crate) fn with_growth(self, growth: Option<QueryGrowth>) -> Self {
        Self { growth, ..self }
    }

    /// No pair turns.
    pub(crate) fn still(head_dim: usize) -> Self {
        Self { speeds: vec![0.0; head_dim / 2], turning: 0, factor: 1.0, growth: None }
    }

    /// Whether all of them are numbers, which extreme settings may prevent.
    pub(crate) fn are_finite(&self) -> bool {
        self.factor.is_finite() && self.speeds.iter().all(|speed| speed.is_finite())
    }
}

/// cos and sin of the angles of some positions, \[positions, head_dim / 2\].
#[derive(Debug)]
pub(crate) struct RotaryAngles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// The factor of each position's queries, if they grow.
    growth: Option<Vec<f32>>,
}

impl RotaryAngles {
    /// The angles of these positions, position · speed, with cos and sin times the factor.
    pub(crate) fn new(positions: impl Iterator<Item = usize> + Clone, of: &RotarySpeeds) -> Self {
        let factor = |pair: usize| if pair < of.turning { of.factor } else { 1.0 };
        let pairs = || of.speeds.iter().enumerate().map(|(pair, speed)| (factor(pair), speed));
        let table = |f: fn(f64) -> f64| {
            positions
                .clone()
                .flat_map(|p| pairs().map(move |(factor, speed)| (factor * f(p as f64 * speed)) as f32))
                .collect()
        };
        let growth = of.growth.map(|growth| positions.clone().map(|position| growth.at(position) as f32).collect());
        Self { half: of.speeds.len(), cos: table(f64::cos), sin: table(f64::sin), growth }
    }

    /// Rotates the pairs (i, i + head_dim / 2) of `heads` heads at each position of queries, \[positions, heads ·
    /// head_dim\], forward (`direction` 1) or backward (-1), and scales them.
    pub(crate) fn turn_queries(&self, q: &mut [f32], heads: usize, scale: f32, direction: f32) {
        match &self.growth {
            Some(growth) => self.turn(q, heads, growth.iter().map(|growth| growth * scale), direction),
            None => self.turn(q, heads, std::iter::repeat(scale), direction),
        }
    }

    /// The same of keys, which are not scaled.
    pub(crate) fn turn_keys(&self, k: &mut [f32], heads: usize, direction: f32) {
        self.turn(k, heads, std::iter::repeat(1.0), direction);
    }

    /// `scales` are those of the positions.
    fn turn(&self, x: &mut [f32], heads: usize, scales: impl Iterator<Item = f32>, direction: f32) {
        let half = self.half;
        let angles = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half)).zip(scales);
        for (x, ((cos, sin), scale)) in x.chunks_exact_mut(heads * 2 * half).zip(angles) {
            for head in x.chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let (cos, sin) = (scale * cos, scale * direction * sin);
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

/// [`RotaryAngles`] as tensors, \[rows, 1, positions, head_dim / 2\] each, or \[1, ...\] if they are the same in all rows.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// \[rows, 1, positions, 1\].
    growth: Option<Tensor<4>>,
}

impl Rope {
    /// The same angles on a device, divided among this many rows.
    pub(crate) fn new(angles: &RotaryAngles, rows: usize, device: &Device) -> Self {
        let table = |values: &[f32], width: usize| {
            let shape = [rows, 1, values.len() / width / rows.max(1), width];
            Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let growth = angles.growth.as_ref().map(|growth| table(growth, 1));
        Self { cos: table(&angles.cos, angles.half), sin: table(&angles.sin, angles.half), growth }
    }

    /// The angles at these positions, \[rows · positions\], which may differ from row to row.
    pub(crate) fn at(&self, positions: &Tensor<1, Int>, rows: usize) -> Self {
        let chosen = |table: &Tensor<4>| {
            let [_, _, count, width] = table.dims();
            let table = table.clone().reshape([count, width]).select(0, positions.clone());
            table.reshape([rows, 1, positions.dims()[0] / rows.max(1), width])
        };
        Self { cos: chosen(&self.cos), sin: chosen(&self.sin), growth: self.growth.as_ref().map(chosen) }
    }

    /// Rotates queries, \[rows, heads, positions, head_dim\], which may grow.
    pub(crate) fn apply_to_queries(&self, q: Tensor<4>) -> Tensor<4> {
        let q = self.apply(q);
        match &self.growth {
            Some(growth) => {
                let growth = growth.clone().cast(q.dtype());
                q * growth
            }
            None => q,
        }
    }

    /// Rotates the pairs (i, i + head_dim / 2) of x: \[rows, heads, positions, head_dim\].
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let dtype = x.dtype();
        let (cos, sin) = (self.cos.clone().cast(dtype), self.sin.clone().cast(dtype));
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 3)
    }
}
