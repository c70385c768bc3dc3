//! Hints about drops that surprise administrators, with the remedy. Each is given once.

use super::packet_log::Summary;
use crate::translate::DropReason;

/// The place where an administrator can change the treatment of such packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// tayga.conf.
    TaygaConf,
    /// None: the settings of a CLAT are fixed.
    Clat {
        /// The TUN device.
        device: String,
    },
}

/// The hints that have been given.
#[derive(Debug)]
pub struct Hints {
    settings: Settings,
    wkpf_strict: bool,
    udp_checksum: bool,
    udp_fragment_checksum: bool,
    no_source: bool,
}

impl Hints {
    /// No hint has been given yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            wkpf_strict: false,
            udp_checksum: false,
            udp_fragment_checksum: false,
            no_source: false,
        }
    }

    /// The hint about a packet that was refused for `reason`, if there is one and the first of its
    /// kind. `packet` is the packet as it was received, if it was dropped without an answer: its
    /// beginning, and its length in octets.
    pub fn about(&mut self, reason: DropReason, (packet, len): (&[u8], usize)) -> Option<String> {
        let given = match reason {
            DropReason::WkpfStrict => &mut self.wkpf_strict,
            DropReason::UdpChecksum => &mut self.udp_checksum,
            DropReason::UdpFragmentChecksum => &mut self.udp_fragment_checksum,
            DropReason::NoSource if matches!(self.settings, Settings::Clat { .. }) => {
                &mut self.no_source
            }
            _ => return None,
        };
        if std::mem::replace(given, true) {
            return None;
        }
        let packet = Summary::of_beginning(packet, len);
        Some(match (reason, &self.settings) {
            (DropReason::WkpfStrict, _) => {
                "Dropped a packet: 64:ff9b::/96 is not for private IPv4 addresses (RFC 6052 \
                 section 3.1); \"wkpf-strict no\" in the configuration allows them"
                    .to_owned()
            }
            // RFC 7915 section 4.5 asks for addresses and ports.
            (DropReason::UdpChecksum, _) => format!(
                "Dropped UDP without a checksum (RFC 7915 section 4.5): {packet}; \
                 \"udp-cksum-mode calc\" in the configuration calculates one"
            ),
            (DropReason::NoSource, Settings::Clat { device }) => format!(
                "Dropped a packet of a network behind this host, whose addresses are to be \
                 translated to that of {device}: {}",
                masquerade(device).join("; ")
            ),
            (_, settings) => {
                let help = match settings {
                    Settings::TaygaConf => {
                        "; \"udp-cksum-mode fwd\" in the configuration forwards it without one, \
                         as it does whole packets, which IPv6 hosts drop unless configured to \
                         accept them (RFC 6935)"
                    }
                    Settings::Clat { .. } => "",
                };
                format!(
                    "Dropped a fragment of UDP without a checksum (RFC 7915 section 4.5): \
                     {packet}; none can be calculated without the other fragments{help}"
                )
            }
        })
    }
}

/// The commands for a network behind the host of a CLAT with this device: nothing else than its own
/// address is translated.
pub fn masquerade(device: &str) -> [String; 3] {
    [
        "nft add table ip lan".to_owned(),
        "nft add chain ip lan out '{ type nat hook postrouting priority srcnat; }'".to_owned(),
        format!("nft add rule ip lan out oifname {device} masquerade"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 192.0.2.1 port 1024 to 198.51.100.7 port 53.
    const PACKET: [u8; 29] = [
        0x45, 0, 0, 29, 0, 0, 0x20, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7, //
        4, 0, 0, 53, 0, 9, 0, 0, b'x',
    ];
    const WHOLE: (&[u8], usize) = (&PACKET, PACKET.len());
    const ENDPOINTS: &str = "[192.0.2.1]->[198.51.100.7] (29 bytes) (proto 17) (ports 1024->53)";

    fn clat() -> Settings {
        Settings::Clat {
            device: "clat".to_owned(),
        }
    }

    /// A CLAT is for one address: the command for a network behind its host, once.
    #[test]
    fn a_network_behind_a_clat_has_the_command() {
        let mut hints = Hints::new(clat());
        let hint = hints.about(DropReason::NoSource, WHOLE).unwrap_or_default();
        assert!(hint.contains("oifname clat masquerade"), "{hint}");
        assert_eq!(hints.about(DropReason::NoSource, WHOLE), None);
    }

    /// RFC 7915 section 4.5: addresses and ports, with the remedy, once.
    #[test]
    fn udp_without_checksum_has_one_hint() {
        let mut hints = Hints::new(Settings::TaygaConf);
        let hint = hints
            .about(DropReason::UdpChecksum, WHOLE)
            .unwrap_or_default();
        assert!(hint.contains(ENDPOINTS), "{hint}");
        assert!(hint.contains("\"udp-cksum-mode calc\""), "{hint}");
        for _ in 0..100 {
            assert_eq!(hints.about(DropReason::UdpChecksum, WHOLE), None);
        }
        assert!(hints.about(DropReason::WkpfStrict, WHOLE).is_some());
        assert_eq!(hints.about(DropReason::WkpfStrict, WHOLE), None);
    }

    /// `udp-cksum-mode calc` does not help a fragment, and a CLAT has no such directive.
    #[test]
    fn a_fragment_without_checksum_has_its_own_hint() {
        for (settings, names_fwd) in [(Settings::TaygaConf, true), (clat(), false)] {
            let mut hints = Hints::new(settings);
            let reason = DropReason::UdpFragmentChecksum;
            let hint = hints.about(reason, WHOLE).unwrap_or_default();
            assert!(hint.contains(ENDPOINTS), "{hint}");
            assert!(!hint.contains("calc\""), "{hint}");
            assert_eq!(hint.contains("\"udp-cksum-mode fwd\""), names_fwd, "{hint}");
            assert_eq!(hint.contains("configuration"), names_fwd, "{hint}");
            assert_eq!(hints.about(reason, WHOLE), None);
        }
    }

    #[test]
    fn no_other_drop_has_a_hint() {
        let mut hints = Hints::new(Settings::TaygaConf);
        let hinted = |reason: &&DropReason| hints.about(**reason, WHOLE).is_some();
        let hinted: Vec<_> = DropReason::ALL.iter().filter(hinted).collect();
        let expected = [
            &DropReason::WkpfStrict,
            &DropReason::UdpChecksum,
            &DropReason::UdpFragmentChecksum,
        ];
        assert_eq!(hinted, expected);
    }
}
