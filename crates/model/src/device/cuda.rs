//! The devices that are available through CUDA. This module compiles, but has not been run on a machine with CUDA yet.

use burn::tensor::{Device, DeviceType};

/// Opens the device with CUDA's index `index`; also returns its name for reports.
pub(super) fn device(index: usize) -> Result<(Device, String), String> {
    // The list is empty without a driver, whereas opening a device would panic.
    let devices = Device::enumerate(DeviceType::Cuda);
    match devices.get(index) {
        Some(device) => {
            let name =
                device.identity().map_or_else(|| "cuda".to_owned(), |identity| format!("cuda ({})", identity.name));
            Ok((device.clone(), name))
        }
        None if devices.is_empty() => {
            Err("CUDA finds no device; is NVIDIA's driver (libcuda) installed? --device wgpu \
             reaches such a card through Vulkan"
                .to_owned())
        }
        None => Err(format!("CUDA finds {} devices, counted from 0", devices.len())),
    }
}
