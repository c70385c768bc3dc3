//! The host: how it was asked to be, and whether it is so.

use super::HostSetup;

/// What was asked for last, and how much of it is in force.
#[derive(Debug, Default)]
pub(super) enum Host {
    /// Nothing of ours stands.
    #[default]
    Clear,
    /// Set up as asked for.
    SetUp(HostSetup),
    /// The set-up failed: parts of it, and of the one before, may stand.
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
            Self::Clear => Self::Clear, // nothing to set up, so nothing of it stands
        };
    }
}
