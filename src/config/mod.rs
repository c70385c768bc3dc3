//! Every text that is read: tayga.conf, its map-file and its file of leases, clatd.conf,
//! resolv.conf, and what systemd writes of the name servers of a link; and the environment of a
//! container.
//!
//! [`Config::read`] goes through a tayga.conf line by line. `grammar` takes a line apart into
//! words, `word` has a value for each word or says what is expected in its place, `directives` has
//! a row for each directive, and `draft` compares the lines with each other. What follows a mistake
//! in its line is not read, but all other lines are: one run shows the mistakes of all of them.

pub mod clatd;
pub mod container;
mod directives;
mod draft;
pub mod dynamic_map;
pub(crate) mod grammar;
mod lines;
mod map_file;
pub mod name_servers;
mod notice;
mod overlap;
pub mod resolv_conf;
mod similar;
mod tayga;
mod values;
mod word;

use std::path::PathBuf;

use draft::Draft;

pub use directives::directives;
pub use lines::Lines;
pub use notice::{Level, LineError, Notice, Problem};
pub use tayga::Config;
pub use values::{ControlSocket, LogClasses, is_name_format};
pub(crate) use values::{counted, map_words};

impl Config {
    /// Reads the text of a tayga.conf.
    ///
    /// Octets that are not UTF-8 are as good as any other in comments and paths. All mistakes of
    /// the text are returned, in the order of the lines; those without a line come last.
    pub fn read(text: impl AsRef<[u8]>) -> Result<(Self, Vec<Notice>), Vec<LineError>> {
        Self::read_in(text, None)
    }

    /// Reads the text of a tayga.conf, as [`read`](Self::read) does. `state_directory`, that of a
    /// service manager, is used for `data-dir` if the text has none.
    pub fn read_in(
        text: impl AsRef<[u8]>,
        state_directory: Option<PathBuf>,
    ) -> Result<(Self, Vec<Notice>), Vec<LineError>> {
        let mut draft = Draft::new(state_directory);
        for line in grammar::lines(text.as_ref()) {
            directives::take(&mut draft, line);
        }
        draft.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use std::{
        collections::HashSet,
        net::{Ipv4Addr, Ipv6Addr},
        path::Path,
    };

    use super::*;
    use crate::translate::UdpChecksum;

    const SHORTEST: &str = "tun-device nat64\n\
                            ipv4-addr 192.168.255.1\n\
                            prefix 2001:db8:1:ffff::/96\n";

    /// Every directive, each at another value than its default.
    const EVERYTHING: &str = "tun-device nat64\n\
                              tun-up yes\n\
                              tun-ip 192.168.255.2/24\n\
                              tun-ip 2001:db8:1::3/128\n\
                              tun-route 192.0.2.1/24\n\
                              tun-route ::/0\n\
                              tun-queue-length 2000\n\
                              keep-net-admin yes\n\
                              offload no\n\
                              sandbox no\n\
                              control-socket /run/xlatd.sock\n\
                              ipv4-addr 192.168.255.1\n\
                              ipv6-addr 2001:db8:1::2\n\
                              prefix 64:ff9b::/96\n\
                              wkpf-strict no\n\
                              map 192.0.2.1 2001:db8::1\n\
                              map 192.0.2.0/24 2001:db8:5::/64\n\
                              map-file maps.conf\n\
                              dynamic-pool 192.168.255.0/24\n\
                              data-dir /var/spool/tayga\n\
                              offlink-mtu 1480\n\
                              udp-cksum-mode calc\n\
                              traffic-class 0x00\n\
                              tos 0xb8\n\
                              hairpin no\n\
                              icmp-errors 200\n\
                              icmp-source 192.0.0.8\n\
                              icmp-node-id no\n\
                              log drop reject icmp self dyn\n\
                              workers 4\n";

    fn read(text: &str) -> (Config, Vec<Notice>) {
        Config::read(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [SHORTEST, EVERYTHING] {
            let (config, _) = read(text);
            assert_eq!(config.to_string(), text);
            assert_eq!(read(&config.to_string()).0, config);
        }
        for change in [
            "udp-cksum-mode fwd",
            "icmp-errors no",
            "icmp-errors 1",
            "tos 255",
            "log self",
            "control-socket no",
        ] {
            let (config, _) = read(&format!("{SHORTEST}{change}\n"));
            assert_ne!(config, read(SHORTEST).0, "{change}");
            assert_eq!(read(&config.to_string()).0, config, "{change}");
        }
    }

    /// None is forgotten above, nor left out of what is written or shown.
    #[test]
    fn every_directive_has_a_value() {
        let ignored = ["strict-frag-hdr"];
        let is_used = |name: &&str| !ignored.contains(name);
        let names: Vec<_> = directives().filter(is_used).collect();
        let written: HashSet<_> = EVERYTHING
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(names.iter().copied().collect::<HashSet<_>>(), written);
        let (config, _) = read(SHORTEST);
        let shown: Vec<_> = config.settings().map(|(name, _)| name).collect();
        assert_eq!(shown, names);
    }

    #[test]
    fn defaults_are_those_of_tayga() {
        let (config, notices) = read(SHORTEST);
        assert_eq!(notices, []);
        let Config {
            wkpf_strict,
            tun_up,
            tun_queue_length,
            keep_net_admin,
            offload,
            sandbox,
            log,
            translation,
            ..
        } = config;
        assert!(wkpf_strict && !tun_up && !keep_net_admin && offload && sandbox);
        assert_eq!(tun_queue_length, None);
        assert_eq!(log, LogClasses::default());
        assert_eq!(translation.offlink_mtu, 1280);
        assert_eq!(translation.udp_checksum, UdpChecksum::Drop);
    }

    #[test]
    fn without_ipv6_addr_it_is_ipv4_addr_in_the_prefix() {
        let own = |text| read(text).0.ipv6_addr.to_string();
        assert_eq!(own(SHORTEST), "2001:db8:1:ffff::c0a8:ff01");
        assert_eq!(
            own("tun-device n\nipv4-addr 192.0.2.33\nprefix 2001:db8:122::/48"),
            "2001:db8:122:c000:2:2100::"
        );
    }

    /// The file that clatd writes for tayga: no `ipv6-addr`, also with the well-known prefix.
    #[test]
    fn clatd_is_understood() {
        let (config, notices) = read(
            "tun-device clat\nprefix 64:ff9b::/96\nipv4-addr 192.0.0.2\n\
             map 192.0.0.1 2001:db8::c1a7\n",
        );
        assert_eq!(notices, []);
        assert_eq!(
            config.ipv6_addr,
            "64:ff9b::192.0.0.2".parse::<Ipv6Addr>().unwrap()
        );
        let map = config.address_map();
        let v6 = map.to_v6(Ipv4Addr::new(192, 0, 0, 1)).unwrap();
        assert_eq!(v6.address, "2001:db8::c1a7".parse::<Ipv6Addr>().unwrap());
        assert_eq!(map.own_v6(), config.ipv6_addr);
    }

    /// Files that tayga 0.9.2 starts with, by trial.
    #[test]
    fn files_that_start_tayga_are_accepted() {
        for text in [
            "tun-device 0123456789abcde\nipv4-addr 192.168.255.1\nprefix 2001:db8::/96",
            "tun-device a%d\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ff00:ff00::/96",
            "tun-device n\nipv4-addr 100.64.0.1\nprefix 64:ff9b::/96",
            "tun-device n\nipv4-addr 192.88.99.1\nprefix 64:ff9b::/96",
            "tun-device n\nipv4-addr 192.0.2.1\nprefix 64:ff9b::/96\nipv6-addr 2001:db8::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix fd00::/96 # c",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8::/32\nipv6-addr 2001:db9::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n\
             dynamic-pool 192.168.255.0/24\nmap 192.168.255.7 2001:db8::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n\
             map 192.168.255.0 2001:db8::1",
        ] {
            read(text);
        }
    }

    /// RFC 7757 section 5: prefixes within each other on both sides; tayga refuses these, and
    /// longer IPv6 suffixes.
    /// tayga.conf(5): a relative path starts at `data-dir`, and without it at the root.
    #[test]
    fn relative_paths_start_at_data_dir() {
        let path = |more: &str| {
            let (config, _) = read(&format!("{SHORTEST}\nmap-file {more}"));
            config.map_file_path()
        };
        assert_eq!(path("maps"), Some("/maps".into()));
        assert_eq!(path("maps\ndata-dir /var/db"), Some("/var/db/maps".into()));
        assert_eq!(
            path("/etc/maps\ndata-dir /var/db"),
            Some("/etc/maps".into())
        );
        assert_eq!(read(SHORTEST).0.map_file_path(), None);
    }

    /// A socket has the name of its device, unless it has a path of its own or there is none.
    #[test]
    fn a_control_socket_is_named_after_its_device() {
        let path = |socket: ControlSocket| socket.path(Path::new("/run/xlatd"), "nat64");
        assert_eq!(
            path(ControlSocket::OfDevice),
            Some("/run/xlatd/nat64.sock".into())
        );
        assert_eq!(path(ControlSocket::At("/x".into())), Some("/x".into()));
        assert_eq!(path(ControlSocket::No), None);
    }

    /// A long word is shown as far as a line of the log has room for it.
    #[test]
    fn long_words_are_cut() {
        let shown = |len| grammar::quoted("x".repeat(len).as_bytes());
        assert_eq!(shown(60), format!("\"{}\"", "x".repeat(60)));
        assert_eq!(shown(61), format!("\"{}...\"", "x".repeat(60)));
    }

    #[test]
    fn nouns_have_their_plural() {
        let both = |count| [counted(count, "map"), counted(count, "address")];
        assert_eq!(both(1), ["1 map", "1 address"]);
        assert_eq!(both(2), ["2 maps", "2 addresses"]);
    }

    #[test]
    fn a_notice_is_shown_behind_the_name_of_its_file() {
        let shown = |line| {
            Notice::info(line, "text")
                .in_file(Path::new("a.conf"))
                .to_string()
        };
        assert_eq!(shown(7), "a.conf:7: text");
        assert_eq!(shown(0), "a.conf: text");
    }

    #[test]
    fn maps_may_overlap() {
        let (config, notices) = read(&format!(
            "{SHORTEST}map 192.0.2.0/24 2001:db8:5::/64\n\
             map 192.0.2.1 2001:db8:5::1\n\
             map 0.0.0.0/0 2001:db8:6::/96\n\
             map 192.168.0.0/16 2001:db8:1:ffff::/112\n"
        ));
        let lines: Vec<_> = notices.iter().map(|notice| notice.line).collect();
        assert_eq!(
            lines,
            [5, 7],
            "two are in the prefix or disagree: warned of, and taken"
        );
        let map = config.address_map();
        let to_v6 = |octets: [u8; 4]| map.to_v6(octets.into()).unwrap().address.to_string();
        assert_eq!(to_v6([192, 0, 2, 1]), "2001:db8:5::1");
        assert_eq!(to_v6([192, 0, 2, 2]), "2001:db8:5:0:200::");
        assert_eq!(to_v6([9, 9, 9, 9]), "2001:db8:6::909:909");
        // An own address stays its own in a map that encloses it.
        assert_eq!(to_v6([192, 168, 255, 1]), "2001:db8:1:ffff::c0a8:ff01");
    }

    fn notices(more: &str) -> Vec<String> {
        let (_, notices) = read(&format!("{SHORTEST}{more}"));
        notices
            .iter()
            .map(|notice| format!("{:?} {notice}", notice.level))
            .collect()
    }

    #[test]
    fn notices_name_their_lines() {
        for (line, notice) in [
            (
                "dynamic-pool 192.168.255.0/24",
                "Warning 4: dynamic-pool without data-dir: leases are not kept over a restart",
            ),
            (
                "strict-frag-hdr on",
                "Warning 4: strict-frag-hdr is ignored",
            ),
            (
                "hairpin yes\ntun-up yes\ntun-up no",
                "Warning 6: tun-up is also in line 5: the last one counts",
            ),
            (
                "tun-up yes\ntun-route 192.0.2.1/24\ntun-route 192.0.2.2/24",
                "Warning 6: tun-route 192.0.2.2/24 is also in line 5",
            ),
            (
                "tun-ip 192.168.255.1/24",
                "Warning 4: tun-ip 192.168.255.1/24 is the translator's own address: the \
                 kernel will take its packets",
            ),
            (
                "tun-route 192.0.2.0/24",
                "Info 4: tun-route needs the device to be up: say tun-up yes, or set it up \
                 before the start",
            ),
        ] {
            assert_eq!(notices(line), [notice], "{line}");
        }
        for line in [
            "tun-ip 192.168.255.2/24",
            "tun-up yes\ntun-route 192.168.255.1/32",
        ] {
            assert_eq!(notices(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn doubtful_addresses_are_taken_with_a_warning() {
        let (config, notices) =
            read("tun-device n\nipv4-addr 169.254.0.1\nprefix 2001:db8:0:0:100::/96");
        assert_eq!(config.ipv4_addr, Ipv4Addr::new(169, 254, 0, 1));
        let lines: Vec<_> = notices
            .iter()
            .map(|notice| (notice.line, notice.level))
            .collect();
        // Bits 64 to 71 of a /96 (RFC 6052 section 2.2).
        assert_eq!(lines, [(2, Level::Warning), (3, Level::Warning)]);

        let (config, notices) = read("tun-device n\nipv4-addr 100.64.0.1\nprefix 64:ff9b::/96");
        assert_eq!(config.ipv6_addr.to_string(), "64:ff9b::6440:1");
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn the_last_one_counts_of_what_may_be_repeated() {
        let (config, _) = read(&format!("{SHORTEST}wkpf-strict yes\nwkpf-strict no\n"));
        assert!(!config.wkpf_strict);
    }

    /// wkpf-strict counts wherever in the file it is.
    #[test]
    fn order_does_not_matter() {
        read(
            "wkpf-strict yes\nprefix 64:ff9b::/96\nwkpf-strict no\nipv4-addr 10.0.0.1\n\
             tun-device n\n",
        );
        read(
            "ipv6-addr 64:ff9b::1\nmap 192.0.2.1 2001:db8::1\nwkpf-strict no\nipv4-addr 10.0.0.1\n\
             tun-device n\n",
        );
    }

    /// RFC 7757 lets maps overlap the prefix and each other; both are usually mistakes.
    #[test]
    fn maps_that_overlap_are_one_notice() {
        let start = "tun-device n\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:1:ffff::1\n\
                     prefix 2001:db8:64::/96\n";
        for (maps, expected) in [
            (
                "map 192.168.2.0/30 2001:db8:1::/126\nmap 192.168.2.1 2001:db8:1::1\n",
                &[][..],
            ),
            (
                "map 192.168.2.1 2001:db8:1::3\nmap 192.168.2.0/30 2001:db8:1::/126\n",
                &[
                    "5: map 192.168.2.1 2001:db8:1::3 overlaps map 192.168.2.0/30 \
                   2001:db8:1::/126 of line 6, and the two directions disagree: 2001:db8:1::1 is \
                   translated to 192.168.2.1, but 192.168.2.1 to 2001:db8:1::3",
                ],
            ),
            (
                "map 192.0.2.4/30 2001:db8:64::c000:208/126\nmap 192.0.2.1 2001:db8:64::1\n\
                 map 192.0.2.2 2001:db8:64::2\n",
                &[
                    "5: map 192.0.2.4/30 2001:db8:64::c000:208/126 is in prefix 2001:db8:64::/96 \
                   of line 4: the map wins, and IPv6 packets to what the prefix embeds there, \
                   192.0.2.8 to 192.0.2.11, go to 192.0.2.4/30 instead (and 2 more maps like it)",
                ],
            ),
            (
                "map 192.0.2.4/30 2001:db8:64::c000:204/126\n",
                &[
                    "5: map 192.0.2.4/30 2001:db8:64::c000:204/126 is in prefix 2001:db8:64::/96 \
                   of line 4, and says what the prefix says",
                ],
            ),
            (
                "map 10.0.0.0/8 2001:db8:64::/48\n",
                &[
                    "5: map 10.0.0.0/8 2001:db8:64::/48 encloses prefix 2001:db8:64::/96 of line \
                   4: the map wins, and no IPv6 packet reaches an IPv4 address through the prefix",
                ],
            ),
        ] {
            let (_, notices) = read(&format!("{start}{maps}"));
            assert!(notices.iter().all(|notice| notice.level == Level::Warning));
            let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
            assert_eq!(notices, expected, "{maps}");
        }
    }

    /// A map in the prefix that says the same lets addresses pass that the prefix refuses:
    /// link-local ones (RFC 3927 section 7), and with `wkpf-strict` private ones (RFC 6052 section
    /// 3.1).
    #[test]
    fn a_map_that_lets_refused_addresses_pass_is_a_notice() {
        let (well_known, other) = ("64:ff9b::/96", "2001:db8:64::/96");
        for (prefix, strict, map, refused) in [
            (
                well_known,
                "yes",
                "192.168.1.5 64:ff9b::c0a8:105",
                "192.168.1.5",
            ),
            (
                well_known,
                "yes",
                "192.168.1.0/24 64:ff9b::c0a8:100/120",
                "192.168.1.0/24",
            ),
            (
                well_known,
                "yes",
                "192.168.0.0/15 64:ff9b::c0a8:0/111",
                "192.168.0.0/16",
            ),
            (
                well_known,
                "yes",
                "198.0.0.0/8 64:ff9b::c600:0/104",
                "198.18.0.0/15, 198.51.100.0/24",
            ),
            (
                well_known,
                "yes",
                "169.254.0.1 64:ff9b::a9fe:1",
                "169.254.0.1",
            ),
            (
                well_known,
                "no",
                "169.254.0.1 64:ff9b::a9fe:1",
                "169.254.0.1",
            ),
            (
                other,
                "yes",
                "168.0.0.0/6 2001:db8:64::a800:0/102",
                "169.254.0.0/16",
            ),
            (well_known, "yes", "9.9.9.9 64:ff9b::909:909", ""),
            (well_known, "no", "192.168.1.5 64:ff9b::c0a8:105", ""),
            (other, "yes", "192.168.1.5 2001:db8:64::c0a8:105", ""),
        ] {
            let (_, notices) = read(&format!(
                "tun-device n\nipv4-addr 203.0.114.1\nipv6-addr 2001:db8:1::1\nprefix {prefix}\n\
                 wkpf-strict {strict}\nmap {map}\n"
            ));
            let says = match refused {
                "" => "says what the prefix says".to_owned(),
                refused => format!("lets {refused} pass, which the prefix refuses"),
            };
            let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
            let expected = format!("6: map {map} is in prefix {prefix} of line 4, and {says}");
            assert_eq!(notices, [expected]);
        }
    }

    /// A map of all IPv4 addresses is another spelling of `prefix`: the same maps are warned of.
    #[test]
    fn a_map_of_all_addresses_is_like_the_prefix() {
        for (map, is_warned_of) in [
            ("192.0.2.1 2001:db8:1::1", false),
            ("192.0.2.0/24 2001:db8:1::/120", false),
            ("192.0.2.1 2001:db8:64::7", true),
            ("192.0.2.4/30 2001:db8:64::c000:208/126", true),
        ] {
            for all in ["prefix 2001:db8:64::/96", "map 0.0.0.0/0 2001:db8:64::/96"] {
                let (_, notices) = read(&format!(
                    "tun-device n\nipv4-addr 203.0.114.1\nipv6-addr 2001:db8:5::1\n{all}\n\
                     map {map}\n"
                ));
                let lines: Vec<_> = notices.iter().map(|notice| notice.line).collect();
                let expected: &[usize] = if is_warned_of { &[5] } else { &[] };
                assert_eq!(lines, expected, "{all}, {map}");
            }
        }
    }

    /// tayga takes 26 s for these. The bound is wide for a slow machine, and would not hold for
    /// anything quadratic.
    #[test]
    fn a_hundred_thousand_maps_load() {
        use std::fmt::Write;
        let mut text = SHORTEST.to_owned();
        for host in 0..100_000_u32 {
            let v4 = Ipv4Addr::from_bits(0x0a00_0000 + host);
            writeln!(
                text,
                "map {v4} 2001:db8::{:x}:{:x}",
                host >> 16,
                host & 0xffff
            )
            .unwrap();
        }
        let start = std::time::Instant::now();
        let (config, _) = read(&text);
        let map = config.address_map();
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        assert_eq!(config.maps.len(), 100_000);
        let last = map
            .to_v6(Ipv4Addr::from_bits(0x0a00_0000 + 99_999))
            .unwrap();
        assert_eq!(last.address.to_string(), "2001:db8::1:869f");
    }

    /// A directive that was misspelt is not also reported as missing.
    #[test]
    fn a_misspelt_directive_is_one_mistake() {
        let errors = |text| {
            let errors = Config::read(text).unwrap_err();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            errors("tun-devcie n\nipv4-addr 192.0.2.1\nprefix 2001:db8::/96"),
            ["1:1: expected a directive, found \"tun-devcie\" (did you mean tun-device?)"]
        );
        assert_eq!(
            errors("ipv5-addr ::1\ntun-device n\nipv4-addr 192.0.2.1\nprefix 2001:db8::/96"),
            ["1:1: expected a directive, found \"ipv5-addr\" (did you mean ipv4-addr?)"]
        );
    }

    /// One run shows all mistakes; what is missing comes last.
    #[test]
    fn mistakes_are_in_the_order_of_the_lines() {
        let errors = Config::read(
            "tun-up maybe\nipv4-addr 1\nmap 1.1.1.1 2001:db8::1\nmap 1.1.1.1 x\n\
             map 1.1.1.1 2001:db8::2\n\u{7f}",
        )
        .unwrap_err();
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 4, 5, 6, 0, 0]);
    }
}
