//! Conversion of host vectors to tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Converts a host vector to an integer tensor.
pub(crate) fn int_tensor<const D: usize>(values: &[u32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Converts a host vector to a float tensor.
pub(crate) fn float_tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Adds `one` to `sum`, where either may be missing.
pub(crate) fn add<const D: usize>(sum: &mut Option<Tensor<D>>, one: Option<Tensor<D>>) {
    *sum = match (sum.take(), one) {
        (Some(sum), Some(one)) => Some(sum + one),
        (sum, one) => sum.or(one),
    };
}
