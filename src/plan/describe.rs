//! The text of `xlatd check`: a configuration as it was understood.

use std::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use super::setup;
use crate::{
    addr::Via,
    config::{Config, Level, Notice, counted, map_words},
};

/// A configuration as it was understood, for people: the settings, the address mapping, and the
/// steps that would be taken. Ends with a newline.
pub fn describe(config: &Config, notices: &[Notice]) -> String {
    let mut text = String::new();
    let settings = config.settings();
    let settings: Vec<_> = settings
        .map(|(name, value)| [name.to_owned(), value])
        .collect();
    section(&mut text, "Settings", &settings);
    section(&mut text, "Addresses", &addresses(config));
    let steps: Vec<_> = setup(config)
        .iter()
        .enumerate()
        .map(|(index, step)| [format!("{}.", index + 1), step.to_string()])
        .collect();
    section(&mut text, "Steps at the start", &steps);
    let notices: Vec<_> = notices
        .iter()
        .map(|notice| {
            let level = match notice.level {
                Level::Warning => "warning",
                Level::Info => "info",
            };
            let line = format!("line {}", notice.line);
            [line, level.to_owned(), notice.text.to_string()]
        })
        .collect();
    if !notices.is_empty() {
        section(&mut text, "Notices", &notices);
    }
    text
}

/// The address mapping, in the order of precedence: IPv4, IPv6, and the rule.
fn addresses(config: &Config) -> Vec<[String; 3]> {
    /// More maps than this are only counted.
    const MAX_MAPS: usize = 20;
    let map = config.address_map();
    let row = |v4: &dyn fmt::Display, v6: &dyn fmt::Display, why: &str| {
        [v4.to_string(), v6.to_string(), why.to_owned()]
    };
    let mut rows = vec![row(&config.ipv4_addr, &config.ipv6_addr, "xlatd itself")];
    let shown = config.maps.iter().take(MAX_MAPS);
    rows.extend(shown.map(|eam| {
        let [v4, v6] = map_words(eam);
        [v4, v6, "map".to_owned()]
    }));
    if let Some(more @ 1..) = config.maps.len().checked_sub(MAX_MAPS) {
        rows.push(row(
            &"...",
            &"...",
            &format!("and {}", counted(more, "more map")),
        ));
    }
    if let Some(pool) = config.dynamic_pool {
        rows.push(row(&pool, &"any other host", "dynamic-pool"));
    }
    if let Some(prefix) = config.prefix {
        rows.push(row(&"all others", &prefix, "prefix"));
        // A documentation address, and one that wkpf-strict has nothing against:
        // a.root-servers.net.
        let examples = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 41, 0, 4)];
        for v4 in examples {
            if let Ok(mapped) = map.to_v6(v4)
                && mapped.via == Via::Prefix
            {
                rows.push(row(&v4, &mapped.address, "prefix, for example"));
                break;
            }
        }
        if prefix.is_well_known() && config.wkpf_strict {
            rows.push(row(&"private ones", &"none", "wkpf-strict"));
        }
    }
    rows
}

/// A heading, and rows in aligned columns.
fn section<const N: usize>(text: &mut String, heading: &str, rows: &[[String; N]]) {
    /// As long as the longest prefix. The last column, which may be of any length, is not padded.
    const MAX_WIDTH: usize = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".len();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(|column| match column + 1 {
        last if last == N => 0,
        _ => width(column).min(MAX_WIDTH),
    });
    let blank_line = if text.is_empty() { "" } else { "\n" };
    // Writing to a String does not fail.
    let _ = writeln!(text, "{blank_line}{heading}:");
    for row in rows {
        for (word, width) in row.iter().zip(widths) {
            let _ = write!(text, "  {word:width$}");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;

    fn config(text: &str) -> (Config, Vec<Notice>) {
        let text = format!("tun-device nat64\nipv4-addr 192.0.2.254\n{text}");
        Config::read(text).unwrap()
    }

    #[test]
    fn a_description_shows_all_there_is() {
        let (config, notices) = config(
            "prefix 64:ff9b::/96\n\
             ipv6-addr 2001:db8:46::1\n\
             map 192.0.2.1 2001:db8:aaaa::80\n\
             map 192.0.2.16/28 2001:db8:cccc::/124\n\
             tun-up yes\n\
             tun-route 192.0.2.0/24\n\
             tun-route 64:ff9b::/96\n\
             strict-frag-hdr on\n",
        );
        assert_eq!(
            describe(&config, &notices),
            "\
Settings:
  tun-device        nat64
  tun-up            yes
  tun-ip            none
  tun-route         2 routes
  tun-queue-length  as it is
  keep-net-admin    no
  offload           yes
  sandbox           yes
  control-socket    /run/xlatd/nat64.sock
  ipv4-addr         192.0.2.254
  ipv6-addr         2001:db8:46::1
  prefix            64:ff9b::/96
  wkpf-strict       yes
  map               2 maps
  map-file          none
  dynamic-pool      none
  data-dir          none
  offlink-mtu       1280 octets
  udp-cksum-mode    drop
  traffic-class     copy
  tos               copy
  hairpin           yes
  icmp-errors       1000 a second
  icmp-source       192.0.2.254
  icmp-node-id      yes
  log               none
  workers           1

Addresses:
  192.0.2.254    2001:db8:46::1       xlatd itself
  192.0.2.1      2001:db8:aaaa::80    map
  192.0.2.16/28  2001:db8:cccc::/124  map
  all others     64:ff9b::/96         prefix
  198.41.0.4     64:ff9b::c629:4      prefix, for example
  private ones   none                 wkpf-strict

Steps at the start:
  1.  attach to nat64, or create it
  2.  set nat64 up
  3.  route 192.0.2.0/24 to nat64
  4.  route 64:ff9b::/96 to nat64

Notices:
  line 10  warning  strict-frag-hdr is ignored
"
        );
    }

    /// RFC 6052 section 3.1 is about the Well-Known Prefix only, and may be switched off.
    #[test]
    fn private_addresses_are_named_if_they_are_not_mapped() {
        for (text, is_named) in [
            ("prefix 64:ff9b::/96\n", true),
            ("prefix 64:ff9b::/96\nwkpf-strict no\n", false),
            ("prefix 2001:db8:64::/96\n", false),
            ("prefix 2001:db8:64::/96\nwkpf-strict no\n", false),
        ] {
            let (config, notices) = config(&format!("ipv6-addr 2001:db8:46::1\n{text}"));
            let described = describe(&config, &notices);
            assert_eq!(described.contains("private ones"), is_named, "{described}");
            let example = match text.contains("wkpf-strict no") || !is_named {
                true => "198.51.100.1",
                false => "198.41.0.4",
            };
            let of_example = format!("\n  {example} ");
            assert!(described.contains(&of_example), "{described}");
        }
    }

    #[test]
    fn a_description_of_many_maps_is_short() {
        let maps: String = (0..1000)
            .map(|host| {
                format!(
                    "map 10.0.{}.{} 2001:db8::{host:x}\n",
                    host / 256,
                    host % 256
                )
            })
            .collect();
        let (config, notices) = config(&format!("ipv6-addr 2001:db8:1::1\n{maps}"));
        let text = describe(&config, &notices);
        assert!(text.lines().count() < 60, "{text}");
        assert!(text.contains("and 980 more maps"), "{text}");
    }

    /// A width of over 65535 is not one that Rust can pad to.
    #[test]
    fn a_value_may_be_of_any_length() {
        let path = "x".repeat(100_000);
        let (config, notices) = config(&format!("prefix 2001:db8::/96\nmap-file {path}\n"));
        assert!(describe(&config, &notices).contains(&path));
    }
}
