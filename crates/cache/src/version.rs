//! The version of the format.

/// Version of everything that FORMAT.md specifies.
pub const FORMAT_VERSION: u32 = 2;
