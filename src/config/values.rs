//! Values that directives and keys have, and the words for them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    addr::{Eam, Prefix4, Prefix6},
    translate::{TrafficClass, UdpChecksum},
};

/// Whether the name of a device is a format, as `nat%d`: the device is a new one each time, for
/// which the kernel puts the first number that is free in the place of `%d`. No device has a % in
/// its name.
pub fn is_name_format(device: &str) -> bool {
    device.contains('%')
}

/// The socket by which a daemon says how it is (`control-socket`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocket {
    /// DEVICE.sock in the runtime directory.
    #[default]
    OfDevice,
    /// None.
    No,
    /// This path; it is absolute.
    At(PathBuf),
}

impl ControlSocket {
    /// The path of the socket of this device, if there is to be one. `directory` is the runtime
    /// directory.
    pub fn path(&self, directory: &Path, device: &str) -> Option<PathBuf> {
        match self {
            Self::OfDevice => Some(directory.join(format!("{device}.sock"))),
            Self::No => None,
            Self::At(path) => Some(path.clone()),
        }
    }

    /// The word for it; `None` for the default.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::OfDevice => None,
            Self::No => Some("no".to_owned()),
            Self::At(path) => Some(path.display().to_string()),
        }
    }
}

/// The packet classes of the `log` directive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogClasses {
    /// Packets that are dropped without an answer.
    pub drop: bool,
    /// Packets that are answered with an ICMP error.
    pub reject: bool,
    /// ICMP errors that are translated.
    pub icmp: bool,
    /// Packets to the translator's own addresses.
    pub own: bool,
    /// Changes of leases of the dynamic pool.
    pub dynamic: bool,
}

impl LogClasses {
    /// Every class of any of these.
    pub(super) fn union(all: &[Self]) -> Self {
        Self {
            drop: all.iter().any(|one| one.drop),
            reject: all.iter().any(|one| one.reject),
            icmp: all.iter().any(|one| one.icmp),
            own: all.iter().any(|one| one.own),
            dynamic: all.iter().any(|one| one.dynamic),
        }
    }
}

impl fmt::Display for LogClasses {
    /// The words of the directive, as `drop self`; nothing if no class is on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.drop, "drop"),
            (self.reject, "reject"),
            (self.icmp, "icmp"),
            (self.own, "self"),
            (self.dynamic, "dyn"),
        ];
        let mut space = "";
        for (_, word) in words.into_iter().filter(|(on, _)| *on) {
            write!(f, "{space}{word}")?;
            space = " ";
        }
        Ok(())
    }
}

/// The arguments of `map`. A host is written without its length, which tayga 0.9.2 does not take.
pub(crate) fn map_words(eam: &Eam) -> [String; 2] {
    let (v4, v6) = (eam.v4(), eam.v6());
    [
        if v4 == Prefix4::host(v4.address()) {
            v4.address().to_string()
        } else {
            v4.to_string()
        },
        if v6 == Prefix6::host(v6.address()) {
            v6.address().to_string()
        } else {
            v6.to_string()
        },
    ]
}

/// The argument of `udp-cksum-mode`.
pub(super) fn udp_checksum_word(mode: UdpChecksum) -> &'static str {
    match mode {
        UdpChecksum::Drop => "drop",
        UdpChecksum::Forward => "fwd",
        UdpChecksum::Calculate => "calc",
    }
}

/// The value of a directive.
pub(super) struct Value {
    /// The arguments of each line that a tayga.conf has with it.
    pub(super) lines: Vec<String>,
    /// For people.
    pub(super) shown: String,
}

impl Value {
    /// The unit of a number, where there is one.
    pub(super) fn unit(mut self, unit: &str) -> Self {
        if !self.lines.is_empty() {
            self.shown = format!("{} {unit}", self.shown);
        }
        self
    }

    pub(super) fn shown_as(self, shown: &str) -> Self {
        let shown = shown.to_owned();
        Self { shown, ..self }
    }
}

pub(super) fn one(value: impl fmt::Display) -> Value {
    let shown = value.to_string();
    Value {
        lines: vec![shown.clone()],
        shown,
    }
}

pub(super) fn switch(on: bool) -> Value {
    one(if on { "yes" } else { "no" })
}

pub(super) fn class(class: TrafficClass) -> Value {
    match class {
        TrafficClass::Copy => one("copy"),
        TrafficClass::Fixed(octet) => one(format_args!("{octet:#04x}")),
    }
}

/// `otherwise` is shown for a value that is not given.
pub(super) fn optional(value: Option<impl fmt::Display>, otherwise: impl fmt::Display) -> Value {
    match value {
        Some(value) => one(value),
        None => Value {
            lines: Vec::new(),
            shown: otherwise.to_string(),
        },
    }
}

pub(super) fn several(values: impl Iterator<Item = impl fmt::Display>, what: &str) -> Value {
    let lines: Vec<_> = values.map(|value| value.to_string()).collect();
    let shown = match &*lines {
        [] => "none".to_owned(),
        [one] => one.clone(),
        many => counted(many.len(), what),
    };
    Value { lines, shown }
}

/// `1 map`, `2 maps`, `2 addresses`
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = match count {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}
