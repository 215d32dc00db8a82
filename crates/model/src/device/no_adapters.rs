//! What stands for wgpu's devices in a program that was built without the feature `wgpu`.

use burn::tensor::Device;

fn not_built<T>() -> Result<T, String> {
    let how = "`make build GPU=1` or `cargo build --release --workspace --features wgpu`";
    Err(format!("this program was built without wgpu and runs on the CPU alone; build it with {how}"))
}

/// None is.
pub(super) fn is_software(_: &Device) -> bool {
    false
}

/// None.
pub(super) fn first_real_gpu() -> Option<(Device, String)> {
    None
}

/// An error that says how to build a program with wgpu.
pub(super) fn default_adapter() -> Result<(Device, String), String> {
    not_built()
}

/// The same error.
pub(super) fn real_gpu(_: usize) -> Result<(Device, String), String> {
    not_built()
}
