//! The product of hidden states and a head, wherever the device has its memory.

use super::buffer_pool::BufferPool;
use super::{Logits, host};
use crate::Result;
use burn::tensor::{Device, Tensor};
use logitcask_model::Head;

/// Computes logits on a device.
pub(super) struct HeadProduct {
    device: Device,
    pool: BufferPool,
}

impl HeadProduct {
    /// Products on this device.
    pub(super) fn on(device: Device) -> Self {
        Self { device, pool: BufferPool::default() }
    }

    /// The device.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    fn is_cpu(&self) -> bool {
        self.device == Device::flex()
    }

    /// One batch for each core on a CPU, because most operations of a small model are too small to be parallelised. One
    /// batch on a GPU.
    pub(super) fn workers(&self) -> usize {
        if !self.is_cpu() {
            return 1;
        }
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// hidden: \[n, size of the head's input\]; output: \[n, classes\].
    pub(super) fn logits(&self, head: &Head, hidden: Tensor<2>) -> Result<Logits> {
        Ok(match head.logits_into(hidden, self.pool.take()) {
            Ok(numbers) => Logits::Host(self.pool.recycle_on_drop(numbers)),
            Err(logits) if self.is_cpu() => Logits::Host(host(*logits)?.into()),
            Err(logits) => Logits::Device(logits),
        })
    }
}
