//! Words of commands for people to type.

use std::borrow::Cow;

/// A word as sh(1) takes it: in quotes, unless it has only letters that mean nothing there. Devices
/// and files may have names with any.
pub fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// The name of a sysctl of a device as sysctl(8) takes it: a dot of the device's name, as that of a
/// VLAN may have, is written as a slash.
pub fn conf(version: &str, device: &str, setting: &str) -> String {
    let device = device.replace('.', "/");
    word(&format!("net.{version}.conf.{device}.{setting}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quoting of the Shell Command Language (POSIX.1-2017 section 2.2.2).
    #[test]
    fn words_mean_nothing_else() {
        assert_eq!(word("eth0.4"), "eth0.4");
        assert_eq!(word("$(reboot)"), "'$(reboot)'");
        assert_eq!(word("a'b;c"), r"'a'\''b;c'");
        assert_eq!(word(""), "''");
    }

    /// sysctl(8), "Variable names".
    #[test]
    fn dots_of_devices_are_slashes() {
        let forwarding = |device| conf("ipv4", device, "forwarding");
        assert_eq!(forwarding("eth0"), "net.ipv4.conf.eth0.forwarding");
        assert_eq!(forwarding("eth0.4"), "net.ipv4.conf.eth0/4.forwarding");
        assert_eq!(forwarding("$x"), "'net.ipv4.conf.$x.forwarding'");
    }
}
