//! The devices that wgpu reaches.

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use std::sync::{Mutex, PoisonError};

/// The graphics APIs that are used, best first. Never OpenGL: burn's kernels are tuned by measuring them, and on Mesa's
/// OpenGL that waits for itself forever; where an OpenGL driver is all there is, the CPU backend is faster anyway.
/// wgpu left to itself takes OpenGL where nothing else has a GPU, so every device is pinned to one of these.
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

/// A device of this kind on this API. A device can be set up once in a process: who asks again gets the same one.
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

/// A device, and what to call it in a report.
type Named = (Device, String);

/// wgpu's own choice on the first API that has a GPU, or else on the first that has anything.
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

/// That one of [`real_gpus`], counted from 0.
pub(super) fn real_gpu(index: usize) -> Result<Named, String> {
    let counted = || format!("wgpu finds {} real GPUs through {}, counted from 0", real_gpus().count(), api_names());
    real_gpus().nth(index).map(named).ok_or_else(counted)
}

/// The adapters that are not software (which computes the same at a tenth of the CPU backend's speed), discrete GPUs
/// first, opened as they are asked for.
fn real_gpus() -> impl Iterator<Item = Device> {
    // One card is reached through several APIs: only the first that reaches any counts.
    let api = APIS.iter().copied().find(|&api| real_gpus_on(api).next().is_some());
    api.into_iter().flat_map(real_gpus_on)
}

fn real_gpus_on(api: WgpuBackend) -> impl Iterator<Item = Device> {
    let kinds: [fn(usize) -> DeviceKind; 3] =
        [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu];
    let of_kind = move |kind: fn(usize) -> DeviceKind| (0..).map_while(move |index| adapter(api, &kind(index)).ok());
    kinds.into_iter().flat_map(of_kind).filter(|device| !is_software(device))
}

/// Does it compute on the CPU?
pub(super) fn is_software(device: &Device) -> bool {
    let name = device.identity().map(|identity| identity.name.to_lowercase()).unwrap_or_default();
    ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"].iter().any(|software| name.contains(software))
}

fn named(device: Device) -> Named {
    let kind = if is_software(&device) { ", software" } else { "" };
    let name = device.identity().map_or_else(|| "wgpu".to_owned(), |it| format!("wgpu ({}{kind})", it.name));
    (device, name)
}
