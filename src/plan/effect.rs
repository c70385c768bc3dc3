//! What is seen of the system when a step is carried out.

/// What was there before a resource is applied, as far as its undo depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing that the undo depends on, or nothing that can be read.
    Unknown,
    /// The length of a queue, in packets.
    QueueLength(u32),
    /// The value of a sysctl.
    Value(String),
    /// No IPv6 forwarding between all devices; these devices are routers.
    NotForwarding(Vec<String>),
}

/// What a step did to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// The system was changed.
    Changed,
    /// The system was that way already.
    Unchanged,
    /// Another program has changed it since, and now decides.
    LeftAlone,
}
