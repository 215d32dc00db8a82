//! The devices that are available through wgpu.

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use std::sync::{Mutex, PoisonError};

/// The graphics APIs that are used, best first. OpenGL is excluded: burn tunes kernels by measuring them, which
/// deadlocks on Mesa's OpenGL; if OpenGL is the only driver, the CPU backend is faster anyway. By default wgpu uses
/// OpenGL if nothing else has a GPU, so every device is pinned to one of these APIs.
const APIS: &[WgpuBackend] = if cfg!(target_os = "macos") {
    &[WgpuBackend::Metal]
} else if cfg!(windows) {
    &[WgpuBackend::Vulkan, WgpuBackend::Dx12]
} else {
    &[WgpuBackend::Vulkan]
};

fn api_names() -> String {
    APIS.iter().map(|api| format!("{api:?}")).collect::<Vec<_>>().join(" or ")
}

/// Opens a device of this kind with this API. A device is set up once per process; later calls return the same one.
fn adapter(api: WgpuBackend, kind: &DeviceKind) -> Result<Device, String> {
    static OPENED: Mutex<Vec<(WgpuBackend, DeviceKind, Device)>> = Mutex::new(Vec::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, _, device)) = opened.iter().find(|(a, k, _)| *a == api && k == kind) {
        return Ok(device.clone());
    }
    let options = Device::wgpu_options().graphics_api(api).device_kind(kind.clone());
    let device = options.init().map_err(|e| e.to_string())?;
    opened.push((api, kind.clone(), device.clone()));
    Ok(device)
}

/// A device and its name for reports.
type Named = (Device, String);

/// wgpu's own choice on the first API that has a GPU, or otherwise on the first that has any device.
pub(super) fn default_adapter() -> Result<Named, String> {
    let mut software = None;
    let mut problems = Vec::new();
    for &api in APIS {
        match adapter(api, &DeviceKind::DefaultDevice) {
            Ok(device) if is_software(&device) => software = software.or(Some(device)),
            Ok(device) => return Ok(named(device)),
            Err(problem) => problems.push(problem),
        }
    }
    software.map(named).ok_or_else(|| {
        format!(
            "wgpu finds no adapter through {} (OpenGL is not used); install such a driver, or take --device cpu ({})",
            api_names(),
            problems.join("; ")
        )
    })
}

/// The first of [`real_gpus`].
pub(super) fn first_real_gpu() -> Option<Named> {
    real_gpus().next().map(named)
}

/// The device with this index among [`real_gpus`], counted from 0.
pub(super) fn real_gpu(index: usize) -> Result<Named, String> {
    let counted = || format!("wgpu finds {} real GPUs through {}, counted from 0", real_gpus().count(), api_names());
    real_gpus().nth(index).map(named).ok_or_else(counted)
}

/// The adapters that are not software (which has a tenth of the CPU backend's speed), discrete GPUs first, opened
/// lazily.
fn real_gpus() -> impl Iterator<Item = Device> {
    // A card may be available through several APIs; only the first API with any GPU is used.
    let api = APIS.iter().copied().find(|&api| real_gpus_on(api).next().is_some());
    api.into_iter().flat_map(real_gpus_on)
}

fn real_gpus_on(api: WgpuBackend) -> impl Iterator<Item = Device> {
    let kinds: [fn(usize) -> DeviceKind; 3] =
        [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu];
    let of_kind = move |kind: fn(usize) -> DeviceKind| (0..).map_while(move |index| adapter(api, &kind(index)).ok());
    kinds.into_iter().flat_map(of_kind).filter(|device| !is_software(device))
}

/// Whether the device computes on the CPU.
pub(super) fn is_software(device: &Device) -> bool {
    let name = device.identity().map(|identity| identity.name.to_lowercase()).unwrap_or_default();
    ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"].iter().any(|software| name.contains(software))
}

fn named(device: Device) -> Named {
    let kind = if is_software(&device) { ", software" } else { "" };
    let name = device.identity().map_or_else(|| "wgpu".to_owned(), |it| format!("wgpu ({}{kind})", it.name));
    (device, name)
}
