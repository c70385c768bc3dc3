//! A reference to a network device, as plans, the undo journal and a CLAT have it.

use std::fmt;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRef {
    /// Stays while the device exists. Zero is the TUN device, whose index is known once it is
    /// attached.
    pub index: u32,
    /// Its name when the plan was made.
    pub name: String,
}

impl LinkRef {
    /// The TUN device.
    pub fn tun(name: &str) -> Self {
        Self::new(0, name)
    }

    /// Another device.
    pub fn new(index: u32, name: &str) -> Self {
        let name = name.to_owned();
        Self { index, name }
    }

    /// Whether both are one device, which may have got another name.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.index, other.index) {
            (0, _) | (_, 0) => self.name == other.name,
            (index, other) => index == other,
        }
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
