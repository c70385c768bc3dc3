//! The name that a misspelt one was meant to be.

use std::cmp::Reverse;

/// Longer names may differ by 2, from this many octets on; shorter ones by 1.
const LONG: usize = 5;

/// The name among `known` that is spelt almost like `word`, in any case: the nearest one. Of
/// several that are as near it is the one that begins like `word` for longest, then the first.
///
/// The distance counts letters that are missing, added, replaced or exchanged with their
/// neighbours.
pub(super) fn similar(
    word: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let word_letters = letters(&word);
    let begins_alike = |known: &str| {
        let pairs = known.bytes().zip(word.bytes());
        pairs.take_while(|(known, word)| known == word).count()
    };
    known
        // The distance is at least the difference in length, and in letters: a long word, and a
        // file full of mistakes, are cheap.
        .filter(|known| known.len().abs_diff(word.len()) <= 2)
        .filter(|known| difference(letters(known), word_letters) <= 2)
        .map(|known| (strsim::osa_distance(known, &word), known))
        .filter(|(distance, known)| *distance <= if known.len() < LONG { 1 } else { 2 })
        .min_by_key(|(distance, known)| (*distance, Reverse(begins_alike(known))))
        .map(|(_, known)| known)
}

/// The letters of a word, as bits. Other characters share these 32 bits, so that two words may
/// differ by more letters than by bits, never by fewer.
fn letters(word: &str) -> u32 {
    let bits = word.chars().map(|letter| 1 << (u32::from(letter) & 31));
    bits.fold(0, |letters, bit| letters | bit)
}

/// The number of letters that one of two words has and the other has not, whichever has more.
fn difference(one: u32, other: u32) -> u32 {
    let (only_one, only_other) = (one & !other, other & !one);
    only_one.count_ones().max(only_other.count_ones())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{clatd, directives},
        *,
    };

    /// `name` with one letter left out, or exchanged with its neighbour.
    fn misspelt(name: &str) -> Vec<String> {
        let letters: Vec<char> = name.chars().collect();
        let left_out = (0..letters.len()).map(|at| {
            let mut letters = letters.clone();
            letters.remove(at);
            letters
        });
        let exchanged = (1..letters.len()).map(|at| {
            let mut letters = letters.clone();
            letters.swap(at - 1, at);
            letters
        });
        left_out
            .chain(exchanged)
            .map(String::from_iter)
            .filter(|word| word != name)
            .collect()
    }

    /// Every name is found by every word that is one slip away from it. A word that is one slip
    /// away from two names, such as ipv-addr, may be either.
    #[test]
    fn a_name_is_found_after_one_slip() {
        let keys: Vec<_> = clatd::keys().chain(clatd::ignored_keys()).collect();
        for names in [directives().collect(), keys] {
            for &name in &names {
                for word in misspelt(name) {
                    let found = similar(&word, names.iter().copied());
                    assert!(
                        found == Some(name) || found.is_some_and(|it| misspelt(it).contains(&word)),
                        "{word}: {found:?} instead of {name}"
                    );
                }
            }
        }
    }

    /// A name that is left out for its letters is not near.
    #[test]
    fn letters_differ_by_no_more_than_the_distance() {
        let names: Vec<_> = directives().chain(clatd::keys()).collect();
        for word in names
            .iter()
            .flat_map(|name| misspelt(name))
            .chain(["π-åddr".to_owned()])
        {
            for name in &names {
                let distance = strsim::osa_distance(name, &word);
                let bound = difference(letters(name), letters(&word));
                assert!(bound as usize <= distance, "{word} and {name}");
            }
        }
        assert_eq!(difference(letters("prefix"), letters("map")), 5);
    }

    /// A name of four letters is too short for two slips. Of names that are as near, the one that
    /// begins alike for longest is meant.
    #[test]
    fn short_names_are_near_and_beginnings_count() {
        for (word, names, name) in [
            ("abcx", &["abcd"][..], Some("abcd")),
            ("abxy", &["abcd"], None),
            ("abcxy", &["abcde"], Some("abcde")),
            ("abxyz", &["abcde"], None),
            ("mapr", &["napr", "mapq"], Some("mapq")),
            ("mapr", &["mopr", "mapq", "mapt"], Some("mapq")),
        ] {
            assert_eq!(similar(word, names.iter().copied()), name, "{word}");
        }
    }

    #[test]
    fn the_nearest_name_is_found() {
        let keys = || clatd::keys().chain(clatd::ignored_keys());
        for (word, name) in [
            ("cmd-nf", Some("cmd-nft")),
            ("cmd-uf", Some("cmd-ufw")),
            ("cmd-i", Some("cmd-ip")),
            ("CMD-NFT", Some("cmd-nft")),
            ("clat-dve", Some("clat-dev")),
            ("plat-v4-addr", Some("clat-v4-addr")),
            ("v4-defaultroute", None),
            ("whatever", None),
        ] {
            assert_eq!(similar(word, keys()), name, "{word}");
        }
        for (word, name) in [
            ("offlink-mut", Some("offlink-mtu")),
            ("Tun-Devcie", Some("tun-device")),
            ("maps", Some("map")),
            ("tun_up", Some("tun-up")),
            ("dynamic-pool4", Some("dynamic-pool")),
            ("ipv6addr", Some("ipv6-addr")),
            ("foo", None),
            ("m", None),
            ("mtu", None),
            ("ipv4", None),
        ] {
            assert_eq!(similar(word, directives()), name, "{word}");
        }
    }
}
