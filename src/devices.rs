//! Opening of the device that the user chose.

use crate::output::note;
use anyhow::Result;
use logitcask_model::{Device, DeviceChoice};

/// Refuses a choice that this build cannot open on any machine. Opens no device, so that it can run before everything
/// else, even for a command that turns out to have nothing to compute.
pub fn check(choice: DeviceChoice) -> Result<()> {
    let is_built = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => true,
        DeviceChoice::Wgpu | DeviceChoice::WgpuIndex(_) => cfg!(feature = "wgpu"),
        DeviceChoice::Cuda(_) => cfg!(feature = "cuda"),
    };
    if !is_built {
        // The error explains how to build the program with this backend.
        choice.open()?;
    }
    Ok(())
}

/// Opens the chosen device and returns it with its name for reports. Notes what makes it slow.
pub fn open(choice: DeviceChoice) -> Result<(Device, String)> {
    let (device, name) = choice.open()?;
    if DeviceChoice::is_software(&device) {
        note!("{name} is a software adapter: it computes what a GPU would, and takes longer than --device cpu");
    } else if device != Device::flex() {
        note!("{name} compiles its kernels as they are needed: the first results can take a minute or more");
    }
    Ok((device, name))
}
