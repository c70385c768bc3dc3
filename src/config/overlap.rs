//! Maps that are legal (RFC 7757), but usually mistakes: those that overlap the prefix, and those
//! that overlap each other so that the two directions disagree.

use super::{Notice, values::map_words};
use crate::addr::{
    AddressMap, Disagreement, Eam, Nat64Prefix,
    special::{self, Treatment},
};

/// A warning about the first of the maps, with their lines, that overlap `nat64`. `line` is that of
/// `prefix`, if it is in the same file; otherwise it is in tayga.conf. `strict` is `wkpf-strict`.
pub(super) fn with_prefix(
    nat64: &Nat64Prefix,
    strict: bool,
    line: Option<usize>,
    maps: impl Iterator<Item = (usize, Eam)>,
) -> Option<Notice> {
    let mut first = First::default();
    for (at, eam) in maps.filter(|(_, eam)| overlaps(nat64, eam)) {
        first.add(at, || about_prefix(nat64, strict, &eam, line));
    }
    first.notice()
}

/// A warning about the first of the maps, which are all in `map`, of which the two directions
/// disagree. `line_of` says where one is; those without a line are in tayga.conf, and nothing is
/// said about two of them.
pub(super) fn with_each_other(
    map: &AddressMap,
    maps: impl Iterator<Item = Eam>,
    line_of: impl Fn(&Eam) -> Option<usize>,
) -> Option<Notice> {
    let mut first = First::default();
    for eam in maps {
        let Some(found) = map.disagreement(eam) else {
            continue;
        };
        let outer = &found.outer;
        match (line_of(&eam), line_of(outer)) {
            (Some(line), other) => first.add(line, || about_maps(&eam, outer, other, &found)),
            (None, Some(line)) => first.add(line, || about_maps(outer, &eam, None, &found)),
            (None, None) => {}
        }
    }
    first.notice()
}

/// Whether one of the maps can lie within another: not if all prefixes are of the same length.
pub(super) fn may_nest(maps: &[Eam]) -> bool {
    let lengths = |eam: &Eam| (eam.v4().length(), eam.v6().length());
    maps.windows(2)
        .any(|pair| lengths(&pair[0]) != lengths(&pair[1]))
}

/// The first line with a text, and the number of lines.
#[derive(Default)]
struct First {
    first: Option<(usize, String)>,
    count: usize,
}

impl First {
    fn add(&mut self, line: usize, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.as_ref().is_none_or(|(first, _)| line < *first) {
            self.first = Some((line, text()));
        }
    }

    fn notice(self) -> Option<Notice> {
        let (line, mut text) = self.first?;
        match self.count {
            1 => {}
            2 => text.push_str(" (and 1 more map like it)"),
            count => text.push_str(&format!(" (and {} more maps like it)", count - 1)),
        }
        Some(Notice::warning(line, text))
    }
}

fn overlaps(nat64: &Nat64Prefix, eam: &Eam) -> bool {
    nat64.prefix().contains(eam.v6().address()) || eam.v6().contains(nat64.prefix().address())
}

/// Explicit mappings are before the prefix (RFC 7757 section 3.3).
fn about_prefix(nat64: &Nat64Prefix, strict: bool, eam: &Eam, line: Option<usize>) -> String {
    let [v4, v6] = map_words(eam);
    let place = place(line);
    let embedded = (
        nat64.extract(eam.v6().address()),
        nat64.extract(eam.v6().last()),
    );
    let (Some(first), Some(last)) = embedded else {
        return format!(
            "map {v4} {v6} encloses prefix {nat64} of {place}: the map wins, and no IPv6 packet \
             reaches an IPv4 address through the prefix"
        );
    };
    let (mapped_first, mapped_last) = (eam.v4().address(), eam.v4().last());
    let is_same = nat64.embed(mapped_first) == eam.v6_of(mapped_first)
        && nat64.embed(mapped_last) == eam.v6_of(mapped_last)
        && last == mapped_last;
    if is_same {
        let says = match refused(nat64, strict, eam).as_slice() {
            [] => "says what the prefix says".to_owned(),
            refused => format!("lets {} pass, which the prefix refuses", refused.join(", ")),
        };
        return format!("map {v4} {v6} is in prefix {nat64} of {place}, and {says}");
    }
    let embedded = if first == last {
        first.to_string()
    } else {
        format!("{first} to {last}")
    };
    format!(
        "map {v4} {v6} is in prefix {nat64} of {place}: the map wins, and IPv6 packets to what the \
         prefix embeds there, {embedded}, go to {v4} instead"
    )
}

/// The addresses of a map in the prefix that the prefix itself refuses (RFC 3927 section 7, RFC
/// 6052 section 3.1).
fn refused(nat64: &Nat64Prefix, strict: bool, eam: &Eam) -> Vec<String> {
    let hosts = eam.v4();
    let private = (strict && nat64.is_well_known()).then_some(Treatment::Private);
    let treatments = [Some(Treatment::LinkLocal), private];
    let ranges = treatments
        .into_iter()
        .flatten()
        .flat_map(special::ranges_v4);
    ranges
        .filter_map(|range| {
            if range.length() <= hosts.length() && range.contains(hosts.address()) {
                let [v4, _] = map_words(eam);
                Some(v4)
            } else {
                hosts.contains(range.address()).then(|| range.to_string())
            }
        })
        .collect()
}

fn about_maps(eam: &Eam, other: &Eam, line: Option<usize>, found: &Disagreement) -> String {
    let [eam, other] = [eam, other].map(|eam| map_words(eam).join(" "));
    let Disagreement {
        host, there, back, ..
    } = found;
    format!(
        "map {eam} overlaps map {other} of {}, and the two directions disagree: {host} is \
         translated to {there}, but {there} to {back}",
        place(line)
    )
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(|| "tayga.conf".to_owned(), |line| format!("line {line}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// One notice for all: the first line has it, whatever the order in which they are found.
    #[test]
    fn the_first_line_is_named() {
        let mut first = First::default();
        for (line, text) in [(5, "a"), (3, "b"), (3, "c"), (7, "d")] {
            first.add(line, || text.to_owned());
        }
        let notice = first.notice().unwrap();
        assert_eq!(notice.to_string(), "3: b (and 3 more maps like it)");
    }

    /// A map of one address and several does what the prefix does only if it has the same first and
    /// last address.
    #[test]
    fn a_map_says_what_the_prefix_says_if_both_ends_are_the_same() {
        let nat64 = |text: &str| Nat64Prefix::new(text.parse().unwrap()).unwrap();
        let [at_96, at_56] = [nat64("2001:db8::/96"), nat64("2001:db8::/56")];
        for (prefix, v4, v6, is_same) in [
            (at_96, "198.51.100.0/24", "2001:db8::c633:6400/120", true),
            (at_96, "198.51.100.0/32", "2001:db8::c633:6400/120", false),
            (at_96, "198.51.100.255/32", "2001:db8::c633:6400/120", false),
            (at_96, "198.51.100.7/32", "2001:db8::c633:6407/128", true),
            (at_96, "198.51.100.7/32", "2001:db8::c633:6408/128", false),
            (at_56, "198.51.0.0/16", "2001:db8:0:c6:33::/80", true),
            // The second octet is where the prefix has a zero (RFC 6052 section 2.2).
            (at_56, "198.0.0.0/8", "2001:db8:0:c6::/64", false),
        ] {
            let eam = Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap();
            let text = about_prefix(&prefix, false, &eam, Some(1));
            assert_eq!(
                text.contains("says what the prefix says"),
                is_same,
                "{text}"
            );
            assert_eq!(text.contains("the map wins"), !is_same, "{text}");
        }
    }
}
