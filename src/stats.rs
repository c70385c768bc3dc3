//! One counter a drop reason.
