//! The devices that CUDA reaches. It compiles, and no machine with CUDA has run it yet.

use burn::tensor::{Device, DeviceType};

/// The device that CUDA counts as `index`, and what to call it in a report.
pub(super) fn device(index: usize) -> Result<(Device, String), String> {
    // Lists nothing where there is no driver, where opening a device would panic.
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
