//! Opening a device: a software one is said to be one.

use crate::output::note;
use anyhow::Result;
use logitcask_model::{Device, DeviceChoice};

/// The device that was chosen, and what to call it in a report.
pub fn open(choice: DeviceChoice) -> Result<(Device, String)> {
    let (device, name) = choice.open()?;
    if DeviceChoice::is_software(&device) {
        note!("{name} is a software adapter: it computes what a GPU would, and takes longer than --device cpu");
    }
    Ok((device, name))
}
