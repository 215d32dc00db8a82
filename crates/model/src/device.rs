//! `--device auto|cpu|wgpu[:n]` and the precision that goes with it.

use crate::{Error, Result};
use burn::tensor::{DType, Device, DeviceKind, DeviceType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where tensors live, as a user writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if wgpu finds one, else the CPU.
    #[default]
    Auto,
    /// burn's portable CPU backend.
    Cpu,
    /// wgpu's own choice of adapter; a software one if there is no other.
    Wgpu,
    /// The n-th discrete GPU.
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
            Self::Auto => match real_gpus().into_iter().next() {
                Some(device) => Ok(named(device)),
                None => Self::Cpu.open(),
            },
            Self::Wgpu => {
                if adapters().is_empty() {
                    return Err(missing("wgpu finds no adapter; is a Vulkan, Metal or DX12 driver installed?".into()));
                }
                Ok(named(Device::wgpu(DeviceKind::DefaultDevice)))
            }
            Self::WgpuIndex(index) => {
                let gpus = real_gpus();
                let count = gpus.len();
                let found = gpus.into_iter().nth(index);
                found.map(named).ok_or_else(|| missing(format!("wgpu finds {count} real GPUs, counted from 0")))
            }
        }
    }
}

/// Every adapter wgpu finds, software ones included.
fn adapters() -> Vec<Device> {
    Device::enumerate(DeviceType::Wgpu).into_vec()
}

/// The adapters that are not software: a CPU adapter computes the same at a tenth of the CPU backend's speed.
fn real_gpus() -> Vec<Device> {
    adapters().into_iter().filter(|device| !is_software(device)).collect()
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
