//! Replacement for wgpu's devices in a program built without the feature `wgpu`.

use burn::tensor::Device;

fn not_built<T>() -> Result<T, String> {
    let how = "`make build GPU=1` or `cargo build --release --workspace --features wgpu`";
    Err(format!("this program was built without wgpu and runs on the CPU alone; build it with {how}"))
}

/// Always false.
pub(super) fn is_software(_: &Device) -> bool {
    false
}

/// Always `None`.
pub(super) fn first_real_gpu() -> Option<(Device, String)> {
    None
}

/// Always an error that explains how to build the program with wgpu.
pub(super) fn default_adapter() -> Result<(Device, String), String> {
    not_built()
}

/// The same error.
pub(super) fn real_gpu(_: usize) -> Result<(Device, String), String> {
    not_built()
}
