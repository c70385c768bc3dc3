//! The host as the CLAT knows it: the set-up that was asked for, and whether it is in force. The
//! daemon carries it out.

use super::HostSetup;

/// The set-up that was asked for last, and how much of it is in force.
#[derive(Debug, Default)]
pub(super) enum Host {
    /// Nothing of ours stands.
    #[default]
    Clear,
    /// It is in force.
    SetUp(HostSetup),
    /// It failed: parts of it, and of the one before, may stand.
    Partial(HostSetup),
}

impl Host {
    /// The set-up that was asked for last, also where it failed.
    pub(super) fn asked(&self) -> Option<&HostSetup> {
        match self {
            Self::Clear => None,
            Self::SetUp(setup) | Self::Partial(setup) => Some(setup),
        }
    }

    /// The set-up that is in force.
    pub(super) fn in_force(&self) -> Option<&HostSetup> {
        match self {
            Self::SetUp(setup) => Some(setup),
            Self::Clear | Self::Partial(_) => None,
        }
    }

    /// Takes notice that what was asked for could not be set up.
    pub(super) fn failed(&mut self) {
        *self = match std::mem::take(self) {
            Self::SetUp(setup) | Self::Partial(setup) => Self::Partial(setup),
            Self::Clear => Self::Clear, // the test of an address failed, which stands alone
        };
    }

    /// Whether a set-up, or none, is another one than stands.
    pub(super) fn differs(&self, wanted: Option<&HostSetup>) -> bool {
        match (self, wanted) {
            (Self::Clear, None) => false,
            (Self::SetUp(setup), Some(wanted)) => setup != wanted,
            _ => true,
        }
    }

    /// Has been asked for this.
    pub(super) fn ask(&mut self, wanted: Option<HostSetup>) {
        *self = wanted.map_or(Self::Clear, Self::SetUp);
    }
}
