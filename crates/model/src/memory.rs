//! Tensors of a CPU as the numbers they are.

use burn::tensor::{DType, Device, Tensor};

/// Do its numbers lie in this process's memory as f32 and in no graph, so that [`numbers`] takes them without a copy?
pub fn is_in_memory<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_on_host(tensor) && !tensor.device().is_autodiff()
}

/// The same, in a graph or not.
pub(crate) fn is_on_host<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.device().without_autodiff() == Device::flex() && tensor.dtype() == DType::F32
}

/// The numbers of a tensor for which [`is_in_memory`]; taken over where nobody else has them.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap_or_else(|_| unreachable!("f32 of a CPU lie in memory"))
}
