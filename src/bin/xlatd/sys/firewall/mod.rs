//! The programs that change what the kernel filters.

pub(crate) mod legacy;
mod nft;
mod program;
pub(crate) mod ufw;

use nft::Nft;
use ufw::Ufw;

/// The programs, by the names that the configuration gives them.
#[derive(Debug)]
pub(crate) struct Firewall {
    pub(crate) nft: Nft,
    pub(crate) ufw: Ufw,
}

impl Firewall {
    /// `None`: the ufw of PATH.
    pub(crate) fn new(nft: &str, ufw: Option<&str>) -> Self {
        let (nft, ufw) = (nft.to_owned(), ufw.unwrap_or("ufw").to_owned());
        Self {
            nft: Nft { program: nft },
            ufw: Ufw { program: ufw },
        }
    }
}

impl Default for Firewall {
    /// The programs of PATH.
    fn default() -> Self {
        Self::new("nft", None)
    }
}
