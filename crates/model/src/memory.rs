//! Direct access to the values of a CPU's tensors.

use burn::tensor::{DType, Device, Tensor};

/// Whether its values are in this process's memory as f32 and outside any graph, so that [`numbers`] can take them
/// without a copy.
pub fn is_in_memory<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_on_host(tensor) && !tensor.device().is_autodiff()
}

/// The same, inside or outside a graph.
pub(crate) fn is_on_host<const D: usize>(tensor: &Tensor<D>) -> bool {
    are_on_host(&tensor.device(), tensor.dtype())
}

/// Whether tensors on this device in this number format are f32 in this process's memory.
pub(crate) fn are_on_host(device: &Device, dtype: DType) -> bool {
    device.clone().without_autodiff() == Device::flex() && dtype == DType::F32
}

/// The values of a tensor for which [`is_in_memory`] holds; its buffer is reused if nothing else holds it.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap_or_else(|_| unreachable!("f32 of a CPU lie in memory"))
}
