//! `--device auto|cpu|wgpu[:n]` and the precision that goes with it.

use crate::{Error, Result};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{DType, Device, DeviceKind};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Where tensors live, as a user writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if wgpu finds one, else the CPU.
    #[default]
    Auto,
    /// burn's portable CPU backend.
    Cpu,
    /// wgpu's own choice of adapter through Vulkan, DX12 or Metal; a software one if there is no other.
    Wgpu,
    /// The n-th real GPU, counted from 0, discrete ones first.
    WgpuIndex(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::Device { asked: text.to_owned(), problem: "write auto, cpu, wgpu or wgpu:0".to_owned() };
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(Self::Auto),
                "cpu" => Ok(Self::Cpu),
                "wgpu" => Ok(Self::Wgpu),
                _ => Err(refuse()),
            },
            Some(("wgpu", index)) => index.parse().map(Self::WgpuIndex).map_err(|_| refuse()),
            Some(_) => Err(refuse()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Wgpu => write!(f, "wgpu"),
            Self::WgpuIndex(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The device, opened; and what to call it in a report.
    pub fn open(self) -> Result<(Device, String)> {
        let missing = |problem: String| Error::Device { asked: self.to_string(), problem };
        match self {
            Self::Cpu => Ok((Device::flex(), "cpu".to_owned())),
            Self::Auto => match real_gpus().next() {
                Some(device) => Ok(named(device)),
                None => Self::Cpu.open(),
            },
            Self::Wgpu => default_adapter().map(named).map_err(missing),
            Self::WgpuIndex(index) => {
                let counted =
                    || format!("wgpu finds {} real GPUs through {}, counted from 0", real_gpus().count(), api_names());
                real_gpus().nth(index).map(named).ok_or_else(|| missing(counted()))
            }
        }
    }
}

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
fn adapter(api: WgpuBackend, kind: &DeviceKind) -> std::result::Result<Device, String> {
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

/// wgpu's own choice on the first API that has a GPU, or else on the first that has anything.
fn default_adapter() -> std::result::Result<Device, String> {
    let mut software = None;
    let mut problems = Vec::new();
    for &api in APIS {
        match adapter(api, &DeviceKind::DefaultDevice) {
            Ok(device) if is_software(&device) => software = software.or(Some(device)),
            Ok(device) => return Ok(device),
            Err(problem) => problems.push(problem),
        }
    }
    software.ok_or_else(|| {
        format!(
            "wgpu finds no adapter through {} (OpenGL is not used); install such a driver, or take --device cpu ({})",
            api_names(),
            problems.join("; ")
        )
    })
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

fn is_software(device: &Device) -> bool {
    let name = device.identity().map(|identity| identity.name.to_lowercase()).unwrap_or_default();
    ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"].iter().any(|software| name.contains(software))
}

fn named(device: Device) -> (Device, String) {
    let name = device.identity().map_or_else(|| "wgpu".to_owned(), |identity| format!("wgpu ({})", identity.name));
    (device, name)
}

/// Number format of a teacher's weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: the default, and what tests compare.
    #[default]
    F32,
    /// bfloat16, where the device computes with it.
    Bf16,
    /// IEEE half precision, where the device computes with it.
    F16,
}

impl Precision {
    /// burn's name for it, refused where `device` cannot compute with it.
    pub fn dtype(self, device: &Device) -> Result<DType> {
        let dtype = match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        };
        if device.supports_dtype(dtype) {
            return Ok(dtype);
        }
        let problem = format!("it has no {self}; use precision = \"f32\"");
        Err(Error::Device { asked: format!("{device:?}"), problem })
    }

    /// safetensors' name for it.
    pub(crate) fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// Bytes a number takes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The largest finite number it holds.
    pub(crate) fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::Bf16 => bf16::MAX.to_f32(),
            Self::F16 => f16::MAX.to_f32(),
        }
    }

    /// The nearest number it holds; infinity where that lies beyond the largest.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}
