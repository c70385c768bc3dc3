//! Where the directives of a text are, for those who have to look them up.

use std::collections::HashMap;

use super::{
    clatd,
    directives::{self, DirectiveLine},
    grammar,
};
use crate::addr::Eam;

/// The lines of the directives and keys of a text. Of several lines with the same one, the last
/// counts; a line with a mistake counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    names: HashMap<String, usize>,
    maps: HashMap<Eam, usize>,
}

impl Lines {
    /// The lines of a tayga.conf or a map-file.
    pub fn of_tayga(text: &[u8]) -> Self {
        let mut lines = Self::default();
        for line in grammar::lines(text).filter_map(DirectiveLine::new) {
            let number = line.name.line.number;
            match line.directive() {
                Ok(directive) if directive.name == "map" => {
                    let map = directives::map(&line);
                    lines.maps.extend(map.map(|map| (map.eam, number)));
                }
                Ok(directive) => lines.insert(directive.name, number),
                Err(_) => {}
            }
        }
        lines
    }

    /// The lines of a clatd.conf.
    pub fn of_clatd(text: &[u8]) -> Self {
        let mut lines = Self::default();
        for line in grammar::lines(text) {
            if let Ok(Some((key, _))) = clatd::key_and_value_of(line) {
                lines.insert(&String::from_utf8_lossy(key), line.number);
            }
        }
        lines
    }

    fn insert(&mut self, name: &str, line: usize) {
        self.names.insert(name.to_owned(), line);
    }

    /// The line of a directive or key, from 1.
    pub fn of(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The line of the `map` of these prefixes, from 1.
    pub fn of_map(&self, eam: Eam) -> Option<usize> {
        self.maps.get(&eam).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn directives_and_maps_of_a_tayga_conf_have_their_lines() {
        let text = "# no prefix\nTun-Device nat64\n\nmap 192.0.2.1 2001:db8::1\r\n\
                    map 192.0.2.0/24 2001:db8:5::/120 # more\nwkpf-strict no\nwkpf-strict yes\n\
                    map 192.0.2.2\nmpa 192.0.2.3 2001:db8::3";
        let lines = Lines::of_tayga(text.as_bytes());
        let eam = |v4: &str, v6: &str| Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap();
        assert_eq!(lines.of("tun-device"), Some(2));
        assert_eq!(lines.of("wkpf-strict"), Some(7), "the last one counts");
        assert_eq!(lines.of("prefix"), None);
        assert_eq!(lines.of_map(eam("192.0.2.1", "2001:db8::1")), Some(4));
        assert_eq!(
            lines.of_map(eam("192.0.2.0/24", "2001:db8:5::/120")),
            Some(5)
        );
        assert_eq!(lines.of_map(eam("192.0.2.3", "2001:db8::3")), None);
    }

    #[test]
    fn keys_of_a_clatd_conf_have_their_lines() {
        let lines =
            Lines::of_clatd(b"; plat-dev=x\n\n clat-dev = a\n// x\nplat-prefix=\nclat-dev=b");
        assert_eq!(lines.of("clat-dev"), Some(6));
        assert_eq!(lines.of("plat-prefix"), Some(5));
        assert_eq!(lines.of("plat-dev"), None);
    }
}
