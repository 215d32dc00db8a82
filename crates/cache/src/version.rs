//! Which version of the format this is.

/// Version of everything FORMAT.md says.
pub const FORMAT_VERSION: u32 = 1;
