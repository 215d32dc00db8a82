//! Replacement for CUDA's devices in a program built without the feature `cuda`.

use burn::tensor::Device;

/// Always an error that explains how to build the program with CUDA.
pub(super) fn device(_: usize) -> Result<(Device, String), String> {
    let how = "`cargo build --release --workspace --features cuda` (see README.md: it is untested)";
    Err(format!("this program was built without the feature cuda; build it with {how}, or take --device wgpu"))
}
