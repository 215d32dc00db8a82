//! Parsing of `--device auto|cpu|wgpu[:n]|cuda[:n]`, and the number formats that a device supports.

#[cfg_attr(not(feature = "wgpu"), path = "device/no_adapters.rs")]
mod adapters;
#[cfg_attr(not(feature = "cuda"), path = "device/no_cuda.rs")]
mod cuda;

use crate::{Error, Result};
use burn::tensor::{DType, Device};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Instant;
use tracing::info;

/// The device of tensors, as a user writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if wgpu finds one, otherwise the CPU; always the CPU without the feature `wgpu`.
    #[default]
    Auto,
    /// burn's portable CPU backend.
    Cpu,
    /// wgpu's own choice of adapter through Vulkan, DX12 or Metal; a software adapter if there is no other.
    Wgpu,
    /// The n-th real GPU, counted from 0, discrete ones first.
    WgpuIndex(usize),
    /// The n-th device that CUDA lists, counted from 0; never selected by `Auto`.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::Device { asked: text.to_owned(), problem: "write auto, cpu, wgpu, wgpu:0 or cuda:0".to_owned() };
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(Self::Auto),
                "cpu" => Ok(Self::Cpu),
                "wgpu" => Ok(Self::Wgpu),
                "cuda" => Ok(Self::Cuda(0)),
                _ => Err(refuse()),
            },
            Some(("wgpu", index)) => index.parse().map(Self::WgpuIndex).map_err(|_| refuse()),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| refuse()),
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
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device; also returns its name for reports.
    ///
    /// # Errors
    /// [`Error::Device`] if this machine has no such device, or this build does not support it. `Auto` and `Cpu` always
    /// open.
    pub fn open(self) -> Result<(Device, String)> {
        let start = Instant::now();
        let (device, name) = self.find()?;
        info!(asked = %self, name, seconds = start.elapsed().as_secs_f64(), "device opened");
        Ok((device, name))
    }

    /// Whether `device` is a software emulation of a GPU on the CPU, which is slower than [`Self::Cpu`].
    pub fn is_software(device: &Device) -> bool {
        adapters::is_software(device)
    }

    fn find(self) -> Result<(Device, String)> {
        let missing = |problem: String| Error::Device { asked: self.to_string(), problem };
        match self {
            Self::Cpu => Ok((Device::flex(), "cpu".to_owned())),
            Self::Auto => match adapters::first_real_gpu() {
                Some(opened) => Ok(opened),
                None => Self::Cpu.find(),
            },
            Self::Wgpu => adapters::default_adapter().map_err(missing),
            Self::WgpuIndex(index) => adapters::real_gpu(index).map_err(missing),
            Self::Cuda(index) => cuda::device(index).map_err(missing),
        }
    }
}

/// Number format of a teacher's weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: the default, and the format that tests compare.
    #[default]
    F32,
    /// bfloat16, if the device supports arithmetic in it.
    Bf16,
    /// IEEE half precision, if the device supports arithmetic in it.
    F16,
}

impl Precision {
    /// The corresponding type in burn.
    ///
    /// # Errors
    /// [`Error::Device`] if `device` does not support arithmetic in it.
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

    /// The name in safetensors files.
    pub(crate) fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// Size of a number in bytes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The largest finite number of the format.
    pub(crate) fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::Bf16 => bf16::MAX.to_f32(),
            Self::F16 => f16::MAX.to_f32(),
        }
    }

    /// Rounds to the nearest number of the format; infinity beyond the largest one.
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
