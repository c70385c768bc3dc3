//! Command lines: a file each.

pub(crate) mod clatd;
pub(crate) mod tayga;
