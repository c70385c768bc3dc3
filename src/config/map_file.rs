//! A map-file: `map` lines beside those of tayga.conf, which can change while the translator runs.

use std::collections::HashMap;

use super::{
    Config, LineError, Notice,
    directives::{self, DirectiveLine},
    grammar::{self, Line},
    overlap,
};
use crate::addr::{AddressMap, Eam, Prefix4, Prefix6};

/// The lines of one map-file that count so far.
#[derive(Default)]
struct Lines {
    /// With the numbers of their lines; `None` where a later line took the place.
    maps: Vec<Option<(usize, Eam)>>,
    // Where in `maps` each prefix is.
    by_v4: HashMap<Prefix4, usize>,
    by_v6: HashMap<Prefix6, usize>,
    errors: Vec<LineError>,
    notices: Vec<Notice>,
}

impl Config {
    /// The address mapping by these settings and the text of the map-file, which has `map` lines
    /// and comments, and nothing else.
    ///
    /// Of several lines that map the same prefix of either family the last one counts, as with
    /// tayga. What tayga.conf says of a prefix stays in force, and so do the translator's own
    /// addresses. Each line that does not count for one of these reasons is a notice, and so is the
    /// first of those that overlap by mistake. One mistake is enough to refuse the text; all of
    /// them are returned.
    pub fn with_map_file(
        &self,
        text: impl AsRef<[u8]>,
    ) -> Result<(AddressMap, Vec<Notice>), Vec<LineError>> {
        let mut lines = Lines::default();
        for line in grammar::lines(text.as_ref()) {
            match read_line(line) {
                Ok(None) => {}
                Ok(Some(eam)) => lines.map(line.number, eam),
                Err(error) => lines.errors.push(error),
            }
        }
        if !lines.errors.is_empty() {
            return Err(lines.errors);
        }
        let mut map = self.fixed_address_map();
        let mut notices = std::mem::take(&mut lines.notices);
        for slot in &mut lines.maps {
            let Some((line, eam)) = *slot else {
                continue;
            };
            let own = eam.v4() == Prefix4::host(self.ipv4_addr)
                || eam.v6() == Prefix6::host(self.ipv6_addr);
            let stays = if own {
                format!("{}, {}", self.ipv4_addr, self.ipv6_addr)
            } else if self.dynamic_pool == Some(eam.v4()) {
                format!("dynamic-pool {}", eam.v4())
            } else {
                match map.insert(eam) {
                    Ok(()) => continue,
                    Err(there) => there.to_string(),
                }
            };
            let text = format!("map of {eam} is ignored: tayga.conf has {stays}");
            notices.push(Notice::warning(line, text));
            *slot = None;
        }
        let here = || lines.maps.iter().flatten().copied();
        if let Some(prefix) = &self.prefix {
            notices.extend(overlap::with_prefix(prefix, self.wkpf_strict, None, here()));
        }
        let line_of = |eam: &Eam| {
            let (line, in_line) = lines.maps[*lines.by_v4.get(&eam.v4())?]?;
            (in_line == *eam).then_some(line)
        };
        let maps = here().map(|(_, eam)| eam).chain(self.maps.iter().copied());
        notices.extend(overlap::with_each_other(&map, maps, line_of));
        if let Some(pool) = self.dynamic_pool {
            map.set_pool(pool);
        }
        notices.sort_by_key(|notice| notice.line);
        Ok((map, notices))
    }
}

impl Lines {
    fn map(&mut self, number: usize, eam: Eam) {
        let here = self.maps.len();
        let before = [
            self.by_v4.insert(eam.v4(), here),
            self.by_v6.insert(eam.v6(), here),
        ];
        for before in before.into_iter().flatten() {
            // Both prefixes may be of the same line, or of one that was replaced before.
            let Some((line, replaced)) = self.maps[before].take() else {
                continue;
            };
            let text = format!("map of {replaced} is ignored: line {number} takes its place");
            self.notices.push(Notice::warning(line, text));
        }
        self.maps.push(Some((number, eam)));
    }
}

/// The mapping of a line; `None` if it is blank or a comment.
fn read_line(line: Line<'_>) -> Result<Option<Eam>, LineError> {
    let Some(line) = DirectiveLine::new(line) else {
        return Ok(None);
    };
    match line.directive()?.name {
        "map" => directives::map(&line).map(|map| Some(map.eam)),
        _ => Err(line.name.refuse("map")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;

    const CONFIG: &str = "tun-device nat64\n\
                          ipv4-addr 192.0.2.254\n\
                          ipv6-addr 2001:db8:ffff::1\n\
                          map 192.0.2.1 2001:db8::1\n\
                          map-file maps\n";

    fn read(text: &str) -> Result<(AddressMap, Vec<Notice>), Vec<LineError>> {
        Config::read(CONFIG).unwrap().0.with_map_file(text)
    }

    fn maps(text: &str) -> Vec<String> {
        let (map, _) = read(text).unwrap();
        let mut maps: Vec<_> = map.explicit().map(|eam| eam.to_string()).collect();
        maps.sort();
        maps
    }

    fn notices(text: &str) -> Vec<String> {
        let (_, notices) = read(text).unwrap();
        notices.iter().map(ToString::to_string).collect()
    }

    const OF_CONFIG: &str = "192.0.2.1/32 2001:db8::1/128";

    #[test]
    fn its_maps_are_beside_those_of_tayga_conf() {
        assert_eq!(maps(""), [OF_CONFIG]);
        let text =
            "# more\n\nmap 192.0.2.2 2001:db8::2 # a host\r\nMAP 198.51.100.0/24 2001:db8:5::/120";
        assert_eq!(
            maps(text),
            [
                OF_CONFIG,
                "192.0.2.2/32 2001:db8::2/128",
                "198.51.100.0/24 2001:db8:5::/120",
            ]
        );
        assert_eq!(notices(text), [""; 0]);
    }

    /// A prefix within another is another prefix: the longest match decides (RFC 7757 section 3.3).
    #[test]
    fn nested_prefixes_live_side_by_side() {
        let text = "map 198.51.100.0/24 2001:db8:5::/120\nmap 198.51.100.7 2001:db8:5::8\n";
        let (map, _) = read(text).unwrap();
        let to_v6 = |octets: [u8; 4]| map.to_v6(octets.into()).unwrap().address.to_string();
        assert_eq!(to_v6([198, 51, 100, 7]), "2001:db8:5::8");
        assert_eq!(to_v6([198, 51, 100, 6]), "2001:db8:5::6");
    }

    #[test]
    fn the_last_line_with_a_prefix_counts() {
        // Line 3 takes the places of 1 and 2, so that the prefixes it has not are free for 4 and 5.
        let text = "map 192.0.2.2 2001:db8::2\n\
                    map 192.0.2.3 2001:db8::3\n\
                    map 192.0.2.2 2001:db8::3\n\
                    map 192.0.2.3 2001:db8::30\n\
                    map 192.0.2.4 2001:db8::2\n";
        assert_eq!(
            maps(text),
            [
                OF_CONFIG,
                "192.0.2.2/32 2001:db8::3/128",
                "192.0.2.3/32 2001:db8::30/128",
                "192.0.2.4/32 2001:db8::2/128",
            ]
        );
        assert_eq!(
            notices(text),
            [
                "1: map of 192.0.2.2/32 2001:db8::2/128 is ignored: line 3 takes its place",
                "2: map of 192.0.2.3/32 2001:db8::3/128 is ignored: line 3 takes its place",
            ]
        );
        assert_eq!(
            notices("map 1.1.1.1 2001:db8::2\n".repeat(3).as_str()).len(),
            2
        );
        let text = "map 1.1.1.1 2001:db8::2\nmap 1.1.1.1 2001:db8::3\n\
                    map 1.1.1.2 2001:db8::2\nmap 1.1.1.1 2001:db8::4\n";
        assert_eq!(
            notices(text),
            [
                "1: map of 1.1.1.1/32 2001:db8::2/128 is ignored: line 2 takes its place",
                "2: map of 1.1.1.1/32 2001:db8::3/128 is ignored: line 4 takes its place",
            ]
        );
    }

    #[test]
    fn tayga_conf_and_own_addresses_stay_in_force() {
        let text = "map 192.0.2.1 2001:db8::9\n\
                    map 192.0.2.9 2001:db8::1\n\
                    map 192.0.2.254 2001:db8::8\n\
                    map 192.0.2.8 2001:db8:ffff::1\n";
        assert_eq!(maps(text), [OF_CONFIG]);
        let notices = notices(text);
        assert_eq!(notices.len(), 4);
        assert_eq!(
            notices[0],
            "1: map of 192.0.2.1/32 2001:db8::9/128 is ignored: tayga.conf has \
             192.0.2.1/32 2001:db8::1/128"
        );
        assert_eq!(
            notices[2],
            "3: map of 192.0.2.254/32 2001:db8::8/128 is ignored: tayga.conf has \
             192.0.2.254, 2001:db8:ffff::1"
        );
    }

    /// A map of the very pool would leave nothing to lend; one around it does.
    #[test]
    fn the_pool_stays() {
        let config = Config::read(
            "tun-device nat64\nipv4-addr 192.0.2.254\nipv6-addr 2001:db8:ffff::1\n\
             dynamic-pool 198.51.100.0/24\ndata-dir /x\n",
        );
        let (config, _) = config.unwrap();
        let text = "map 198.51.100.0/24 2001:db8::/120\nmap 198.51.0.0/16 2001:db8:1::/112\n";
        let (map, notices) = config.with_map_file(text).unwrap();
        assert_eq!(map.explicit_count(), 1);
        let expected = "1: map of 198.51.100.0/24 2001:db8::/120 is ignored: tayga.conf has \
                        dynamic-pool 198.51.100.0/24";
        assert_eq!(
            notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [expected]
        );
    }

    /// Maps that overlap by mistake are a warning for the first line of each kind, also where the
    /// other line is in tayga.conf (RFC 7757 section 5).
    #[test]
    fn overlaps_are_one_notice_of_each_kind() {
        let config = Config::read(
            "tun-device nat64\nipv4-addr 192.0.2.254\nipv6-addr 2001:db8:ffff::1\n\
             prefix 2001:db8:64::/96\n\
             map 192.0.2.1 2001:db8::1\nmap 198.51.100.0/24 2001:db8:5::/120\n",
        );
        let (config, notices) = config.unwrap();
        assert_eq!(notices, []);
        for (text, expected) in [
            // Says the same as the network around it.
            ("map 198.51.100.7 2001:db8:5::7\n", &[][..]),
            ("map 192.0.2.0/30 2001:db8::/126\n", &[]),
            (
                "map 198.51.100.7 2001:db8:5::8\nmap 198.51.100.9 2001:db8:5::9\n\
                 map 198.51.100.5 2001:db8:5::6\n",
                &[
                    "1: map 198.51.100.7 2001:db8:5::8 overlaps map 198.51.100.0/24 \
                   2001:db8:5::/120 of tayga.conf, and the two directions disagree: 2001:db8:5::7 \
                   is translated to 198.51.100.7, but 198.51.100.7 to 2001:db8:5::8 (and 1 more \
                   map like it)",
                ],
            ),
            (
                "\nmap 192.0.2.0/30 2001:db8:1::/126\n",
                &[
                    "2: map 192.0.2.0/30 2001:db8:1::/126 overlaps map 192.0.2.1 2001:db8::1 of \
                   tayga.conf, and the two directions disagree: 2001:db8:1::1 is translated to \
                   192.0.2.1, but 192.0.2.1 to 2001:db8::1",
                ],
            ),
            (
                "map 203.0.113.0/24 2001:db8:3::/120\nmap 203.0.113.7 2001:db8:4::7\n",
                &[
                    "2: map 203.0.113.7 2001:db8:4::7 overlaps map 203.0.113.0/24 \
                   2001:db8:3::/120 of line 1, and the two directions disagree: 2001:db8:3::7 is \
                   translated to 203.0.113.7, but 203.0.113.7 to 2001:db8:4::7",
                ],
            ),
            (
                "map 203.0.113.7 2001:db8:64::7\n",
                &[
                    "1: map 203.0.113.7 2001:db8:64::7 is in prefix 2001:db8:64::/96 of \
                   tayga.conf: the map wins, and IPv6 packets to what the prefix embeds there, \
                   0.0.0.7, go to 203.0.113.7 instead",
                ],
            ),
            // Is not in force, and says nothing.
            (
                "map 192.0.2.254 2001:db8:64::7\n",
                &[
                    "1: map of 192.0.2.254/32 2001:db8:64::7/128 is ignored: tayga.conf has \
                   192.0.2.254, 2001:db8:ffff::1",
                ],
            ),
        ] {
            let (_, notices) = config.with_map_file(text).unwrap();
            let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
            assert_eq!(notices, expected, "{text}");
        }
    }

    /// 100,000 maps are looked at in a fraction of the time that it takes to read them, and what
    /// there is to say about them is one line of each kind.
    #[test]
    fn a_hundred_thousand_overlaps_are_two_lines() {
        use std::fmt::Write;

        let mut text = "map 10.0.0.0/8 2001:db8:a::/96\n".to_owned();
        for host in 1..100_000 {
            let v4 = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host);
            let v6 = if host % 2 == 0 {
                "2001:db8:b::"
            } else {
                "2001:db8:64::"
            };
            writeln!(text, "map {v4} {v6}{v4}").unwrap();
        }
        let config = CONFIG.replace("map-file", "prefix 2001:db8:64::/96\nmap-file");
        let (config, _) = Config::read(config).unwrap();
        let start = std::time::Instant::now();
        let (_, notices) = config.with_map_file(&text).unwrap();
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        let ends: Vec<_> = notices
            .iter()
            .map(|notice| (notice.line, notice.text.rsplit_once('(').unwrap().1))
            .collect();
        let expected = [
            (2, "and 49999 more maps like it)"),
            (2, "and 99998 more maps like it)"),
        ];
        assert_eq!(ends, expected);
    }

    /// All mistakes, and none of the right lines.
    #[test]
    fn one_mistake_refuses_the_file() {
        let text = "map 192.0.2.2 2001:db8::2\n\
                    map 10.0.0.0/33 2001:db8::/97\n\
                    prefix 64:ff9b::/96\n\
                    mpa 192.0.2.4 2001:db8::4\n\
                    map 192.0.2.5\n";
        let errors = read(text).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "2:5: expected an IPv4 prefix length from 0 to 32, found \"10.0.0.0/33\"",
                "3:1: expected map, found \"prefix\"",
                "4:1: expected a directive, found \"mpa\" (did you mean map?)",
                "5:14: expected an IPv6 address or prefix, found end of line",
            ]
        );
    }
}
