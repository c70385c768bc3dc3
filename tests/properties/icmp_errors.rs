//! ICMP errors: what they quote is short, untrusted, and translated once (RFC 7915 sections 4.2,
//! 4.3, 5.2, 5.3).

use std::net::{IpAddr, Ipv6Addr};

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    cases,
    given::{
        Content, Pick, World, contents, explicit_picks, mapped_picks, noise, picks, sane_worlds,
        worlds,
    },
    judge::{self, max_error_len},
    plain::{self, Checked, ICMP, ICMPV6, Ip},
};

/// What an ICMP error has behind its header: the quoted datagram and the extension structure, by
/// the length attribute (RFC 4884 sections 4 and 5; E84-01, E84-04, E84-05).
struct Split<'a> {
    quoted: &'a [u8],
    extension: Option<&'a [u8]>,
    /// Of the length attribute, zero where there is none.
    attribute: u8,
}

fn split(v6: bool, message: &[u8]) -> Split<'_> {
    let (attribute, unit) = match (v6, message[0]) {
        (false, _) => (message[5], 4),
        (true, 1 | 3) => (message[4], 8),
        (true, _) => (0, 8),
    };
    let body = &message[8..];
    let len = usize::from(attribute) * unit;
    let proven = |at: usize| {
        at + 4 <= body.len()
            && body[at] >> 4 == 2
            && plain::u16_at(body, at + 2) != 0
            && plain::residue(&[&body[at..]]) == 0
    };
    let shortest = plain::read(body).map_or(0, |quoted| quoted.header_len) + 8;
    let (end, at) = match len {
        0 => (body.len(), None),
        128.. if len + 4 <= body.len() => (len, Some(len)),
        128.. if proven(128) => (128, None),
        128.. => (len, None),
        _ if proven(len) => (len, Some(len)),
        _ if proven(128) => {
            let is_padded = body[len.max(shortest).min(128)..128]
                .iter()
                .all(|&octet| octet == 0);
            let end = if is_padded { len.max(shortest) } else { 128 };
            (end, Some(128))
        }
        _ => (len.max(shortest), None),
    };
    Split {
        quoted: &body[..end.min(body.len())],
        extension: at.map(|at| &body[at..]),
        attribute,
    }
}

/// Checks the translation of an error.
pub(crate) fn check(world: &World, given: &Ip, made: &Ip, hairpinned: bool) -> Checked<()> {
    prop_assert!(made.is_icmp_error());
    prop_assert!(
        made.total_len() <= max_error_len(made.is_v6()),
        "E84-08: too long"
    );
    prop_assert_eq!(
        plain::transport_residue(given),
        Some(0),
        "an error with a wrong checksum was passed on"
    );
    prop_assert_eq!(
        plain::transport_residue(made),
        Some(0),
        "X46-17, X64-13: checksum"
    );

    let before = split(given.is_v6(), &given.payload);
    let after = split(made.is_v6(), &made.payload);
    prop_assert_eq!(
        after.attribute != 0,
        after.extension.is_some(),
        "X46-27, X64-20: a length attribute that is wrong"
    );
    let node = named_node(world, given).filter(|_| !hairpinned);
    let expected = node.and_then(|node| with_node(before.extension, node));
    if expected.is_some() {
        prop_assert_eq!(after.extension, expected.as_deref(), "I91-05, I91-06");
    } else if let Some(extension) = after.extension {
        let Some(before) = before.extension else {
            return Err(TestCaseError::fail("an extension made up"));
        };
        check_extension(before, extension)?;
    }

    let inner = plain::read(before.quoted);
    let inner = inner.ok_or_else(|| TestCaseError::fail("what cannot be read was translated"))?;
    let quoted = plain::read_quoted_made(after.quoted)?;
    prop_assert_eq!(
        (inner.is_v6(), quoted.is_v6()),
        (given.is_v6(), made.is_v6())
    );
    prop_assert_eq!(quoted.ttl, inner.ttl, "X46-30, X64-21: hop limit");
    prop_assert_eq!(quoted.stated_len, inner.stated_len, "length");
    prop_assert_eq!(
        (quoted.offset, quoted.more),
        (inner.offset, inner.more),
        "place"
    );
    // EAM-09: a hairpinned packet was seen by its destination as if it had come from the prefix.
    let mapped = |address| world.across(address);
    let (source, destination) = if hairpinned {
        let seen = |address| match address {
            IpAddr::V6(address) => {
                let (address, _) = world.to_v4(address)?;
                Some(address)
            }
            IpAddr::V4(_) => None,
        };
        let source = seen(inner.source).and_then(|address| world.to_v6(address));
        let destination = seen(inner.destination).and_then(|address| world.embed(address));
        (source.map(IpAddr::from), destination.map(IpAddr::from))
    } else {
        (mapped(inner.source), mapped(inner.destination))
    };
    prop_assert_eq!(Some(quoted.source), source, "quoted source");
    prop_assert_eq!(Some(quoted.destination), destination, "quoted destination");
    let is_icmp = inner.is_icmp();
    prop_assert_eq!(quoted.is_icmp(), is_icmp);
    prop_assert!(is_icmp || quoted.protocol == inner.protocol, "protocol");
    check_quoted_payload(&inner, &quoted, after.extension.is_some(), hairpinned)
}

/// The IPv6 source of an error that the IPv4 world cannot see (I91-04, I91-05).
fn named_node(world: &World, given: &Ip) -> Option<Ipv6Addr> {
    match given.source {
        IpAddr::V6(source) => {
            let is_hidden = world.across(given.source).is_none();
            (world.settings.icmp_node_id && is_hidden).then_some(source)
        }
        IpAddr::V4(_) => None,
    }
}

/// The extension that names a node, beside what is there, in an ICMPv4 error of at most 576 octets
/// that quotes at least 128 (I91-05, I91-06, E84-08). `None` where that is full, is nothing that an
/// object can be appended to, or names a node already.
fn with_node(before: Option<&[u8]>, node: Ipv6Addr) -> Option<Vec<u8>> {
    let before = before.unwrap_or(&[0x20, 0, 0, 0]);
    let is_sound =
        before[0] >> 4 == 2 && (before[2..4] == [0, 0] || plain::residue(&[before]) == 0);
    let mut objects = &before[4..];
    while !objects.is_empty() {
        let &[high, low, class, _, ..] = objects else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < 4 || len > objects.len() || class == 5 {
            return None;
        }
        objects = &objects[len..];
    }
    if !is_sound || 20 + 8 + 128 + before.len() + 24 > max_error_len(false) {
        return None;
    }
    let object = [&[0, 24, 5, 4, 0, 2, 0, 0][..], &node.octets()].concat();
    let mut extension = [before, &object].concat();
    extension[2..4].fill(0);
    let sum = plain::residue(&[&extension]) as u16;
    extension[2..4].copy_from_slice(&(!sum).to_be_bytes());
    Some(extension)
}

fn check_quoted_payload(inner: &Ip, quoted: &Ip, padded: bool, hairpinned: bool) -> Checked<()> {
    let mut common = inner.payload.len().min(quoted.payload.len());
    let checksum_at = plain::checksum_at(inner.protocol);
    // Padding of the first translation is part of the datagram for the second, as anybody's is.
    let may_differ =
        |at| hairpinned && checksum_at.is_some_and(|field| (field..field + 2).contains(&at));
    prop_assert!(
        (common..quoted.payload.len()).all(|at| quoted.payload[at] == 0 || may_differ(at)),
        "E84-02: padding"
    );
    prop_assert!(padded || quoted.payload.len() == common, "octets made up");
    if padded && hairpinned {
        // Cut to a multiple of 4 octets in between, and padded to one of 8 in the end.
        common = common.saturating_sub(7);
    }
    let at = plain::checksum_at(inner.protocol).filter(|_| inner.offset == 0);
    let mask = |payload: &[u8]| {
        let mut payload = payload.to_vec();
        if inner.is_icmp() {
            payload[0] = 0;
        }
        if let Some(field) = at.and_then(|at| payload.get_mut(at..at + 2)) {
            field.fill(0);
        }
        payload.truncate(common);
        payload
    };
    prop_assert!(
        mask(&inner.payload) == mask(&quoted.payload),
        "quoted payload"
    );
    // X46-33: the checksum is updated where it is there.
    let Some(at) = at.filter(|at| at + 2 <= common) else {
        return Ok(());
    };
    let field = |ip: &Ip| plain::u16_at(&ip.payload, at);
    if inner.protocol == plain::UDP && field(inner) == 0 {
        prop_assert_eq!(field(quoted), 0);
        return Ok(());
    }
    let sum = |ip: &Ip| {
        let covered = if inner.is_icmp() {
            let pseudo = if ip.is_v6() {
                plain::addresses(ip.source, ip.destination)
                    + u32::from(ICMPV6)
                    + ip.stated_len as u32
            } else {
                0
            };
            pseudo + (u32::from(ip.payload[0]) << 8)
        } else {
            plain::addresses(ip.source, ip.destination)
        };
        (covered + u32::from(field(ip))) % 0xffff
    };
    prop_assert_eq!(sum(inner), sum(quoted), "checksum of the quoted packet");
    Ok(())
}

/// E84-07, X46-29: objects are opaque, whole, and in order; the checksum is over what is left of
/// them.
fn check_extension(before: &[u8], after: &[u8]) -> Checked<()> {
    if before == after {
        return Ok(());
    }
    prop_assert!(after.len() < before.len(), "an extension that was not cut");
    prop_assert_eq!(
        before[0] >> 4,
        2,
        "an extension of an unknown version was cut"
    );
    prop_assert_eq!(&before[..2], &after[..2]);
    prop_assert!(before[4..after.len()] == after[4..], "objects");
    prop_assert_eq!(plain::residue(&[after]), 0, "checksum of a cut extension");
    let mut at = 4;
    while at < after.len() {
        at += usize::from(plain::u16_at(after, at));
    }
    prop_assert_eq!(at, after.len(), "an object cut in two");
    Ok(())
}

/// An ICMP error about a packet.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    v4: (u8, u8),
    v6: (u8, u8),
    /// Octets 4 to 7 of the header where they are no length attribute.
    word: u32,
    about: Content,
    /// How much is quoted at most, in octets.
    quoted_len: usize,
    extension: Option<Vec<Vec<u8>>>,
    /// Of the extension structure.
    version: u8,
    /// Whether the quoted datagram is padded to the unit of the length attribute alone, not to 128
    /// octets.
    is_short: bool,
    /// Whether the length attribute is not what it should be.
    lie: Option<u8>,
}

fn any_error() -> impl Strategy<Value = Error> {
    errors(
        (0..=14_u8, 0..=17_u8),
        (0..=6_u8, 0..=7_u8),
        prop_oneof![any::<u32>(), 0..80_u32, Just(1480)],
        prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        0..=1500_usize,
    )
}

/// Of types and with pointers that have a counterpart, about packets quoted at least to their
/// header.
fn translatable_error() -> impl Strategy<Value = Error> {
    let code = select(vec![0_u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15]);
    let v4 = prop_oneof![
        code.prop_map(|code| (3, code)),
        (0..2_u8).prop_map(|code| (11, code)),
        select(vec![(12_u8, 0_u8), (12, 2)]),
    ];
    let v6 = prop_oneof![
        (0..5_u8).prop_map(|code| (1, code)),
        Just((2, 0)),
        (0..2_u8).prop_map(|code| (3, code)),
        (0..2_u8).prop_map(|code| (4, code)),
    ];
    (v4, v6, 0..=1500_usize).prop_flat_map(|(v4, v6, len)| {
        let (v4, v6) = ((Just(v4.0), Just(v4.1)), (Just(v6.0), Just(v6.1)));
        errors(v4, v6, Just(0), Just(None), Just(len))
    })
}

fn errors(
    v4: impl Strategy<Value = (u8, u8)>,
    v6: impl Strategy<Value = (u8, u8)>,
    word: impl Strategy<Value = u32>,
    lie: impl Strategy<Value = Option<u8>>,
    quoted_len: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Error> {
    let object = prop_oneof![3 => 0..40_usize, 1 => 0..600_usize].prop_map(|len| {
        let len = len * 4 % 600;
        let mut object = noise(4 + len, 7);
        object[..2].copy_from_slice(&(4 + len as u16).to_be_bytes());
        object
    });
    let node = Just(vec![0, 4, 5, 0]); // a Node Identification object
    let object = prop_oneof![7 => object, 1 => node];
    let version = prop_oneof![3 => Just(2), 1 => 0..16_u8];
    let extension = (option::of(vec(object, 1..4)), version, any::<bool>());
    (v4, v6, word, contents(1500), quoted_len, extension, lie).prop_map(
        |(v4, v6, word, about, quoted_len, extension, lie)| Error {
            v4,
            v6,
            word,
            about,
            quoted_len,
            extension: extension.0,
            version: extension.1,
            is_short: extension.2,
            lie,
        },
    )
}

impl Error {
    /// From `router` to the source of the packet that it is about, which is given by its addresses.
    fn packet(&self, router: IpAddr, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let v6 = source.is_ipv6();
        let about = self.about.packet(source, destination);
        let mut quoted = about[..about.len().min(self.quoted_len)].to_vec();
        let (kind, code) = if v6 { self.v6 } else { self.v4 };
        let mut message = vec![kind, code, 0, 0];
        message.extend_from_slice(&self.word.to_be_bytes());
        let is_extensible = !v6 || matches!(kind, 1 | 3);
        if is_extensible {
            let (at, unit) = if v6 { (4, 8) } else { (5, 4) };
            message[at] = 0;
            if let Some(objects) = &self.extension {
                quoted.truncate(if v6 { 255 * 8 } else { 255 * 4 });
                let shortest = if self.is_short { 0 } else { 128 };
                quoted.resize(quoted.len().max(shortest).next_multiple_of(unit), 0);
                message[at] = (quoted.len() / unit) as u8;
                let mut extension = [&[self.version << 4, 0, 0, 0][..], &objects.concat()].concat();
                let sum = plain::residue(&[&extension]) as u16;
                extension[2..4].copy_from_slice(&(!sum).to_be_bytes());
                quoted.extend_from_slice(&extension);
            }
            message[at] = self.lie.unwrap_or(message[at]);
        }
        message.extend_from_slice(&quoted);
        let content = Content {
            protocol: ICMP,
            ..self.about.clone()
        };
        let protocol = content.protocol_in(v6);
        plain::seal(router, source, protocol, &mut message);
        content.around(router, source, None, &message)
    }

    /// The same, quoting all headers of the packet at least, and of ICMP what says that it is echo.
    fn quoting_enough(self, v6: bool) -> Self {
        let headers = if v6 {
            40 + 8 * self.about.extension_headers.len()
        } else {
            20 + usize::from(self.about.options / 4) * 4
        };
        let needed = headers + usize::from(self.about.protocol == ICMP);
        Self {
            quoted_len: self.quoted_len.max(needed),
            ..self
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// EAM-09: an error about a hairpinned packet comes back to its sender, about what that sent.
    #[test]
    fn about_hairpinned_packets(
        world in sane_worlds(),
        error in translatable_error(),
        (router, source, destination) in (mapped_picks(), explicit_picks(), explicit_picks()),
    ) {
        let mut world = world;
        world.settings.hairpin = true;
        let by_prefix = |pick: Pick| IpAddr::from(world.embed(pick.v4(&world)).unwrap());
        let word = if error.v6.0 == 2 { 1480 } else { 0 };
        let error = Error { word, ..error }.quoting_enough(true);
        let (seen_source, hidden) = (by_prefix(source), destination.v6(&world).into());
        let packet = error.packet(router.v6(&world).into(), seen_source, hidden);
        let made = judge::send(&world, &mut world.node(1), &packet)?.put_together()?;
        let quoted = plain::read(split(true, &made.payload).quoted).unwrap();
        prop_assert_eq!(made.destination, IpAddr::from(source.v6(&world)));
        prop_assert_eq!(quoted.source, IpAddr::from(source.v6(&world)));
        prop_assert_eq!(quoted.destination, by_prefix(destination));
    }

    /// Any error, with lies about its lengths, from and about anybody.
    #[test]
    fn whatever_an_error_quotes(
        world in worlds(),
        error in any_error(),
        v6: bool,
        (router, source, destination) in (picks(), picks(), picks()),
    ) {
        let [router, source, destination] =
            [router, source, destination].map(|pick| pick.of(&world, v6));
        let packet = error.packet(router, source, destination);
        judge::send(&world, &mut world.node(1), &packet)?;
    }

    /// X46-18, X64-13, X46-33, E84-03: those that have a counterpart are translated, however short;
    /// and the way back gives the addresses that the quoted packet had.
    #[test]
    fn there_and_back(
        world in sane_worlds(),
        error in translatable_error(),
        v6: bool,
        (router, source, destination) in (mapped_picks(), mapped_picks(), mapped_picks()),
    ) {
        let [router, source, destination] =
            [router, source, destination].map(|pick| pick.of(&world, v6));
        let word = if v6 && error.v6.0 == 2 { 1480 } else { 0 };
        let error = Error { word, ..error }.quoting_enough(v6);
        let packet = error.packet(router, source, destination);
        let sent = plain::read(&packet).unwrap();
        let there = judge::send(&world, &mut world.node(1), &packet)?.passed()?;
        let back = judge::send(&world, &mut world.node(2), &there[0].0)?.passed()?;
        let back = plain::read_made(&back[0].0)?;
        prop_assert_eq!((back.source, back.destination), (router, source));

        let before = split(v6, &sent.payload);
        let after = split(v6, &back.payload);
        let inner = plain::read(before.quoted).unwrap();
        let quoted = plain::read(after.quoted).unwrap();
        prop_assert_eq!((quoted.source, quoted.destination), (source, destination));
        prop_assert_eq!((quoted.protocol, quoted.ttl), (inner.protocol, inner.ttl));
        prop_assert_eq!(quoted.stated_len, inner.stated_len);
        let echo = if inner.is_icmp() { 1 } else { 0 };
        let common = inner.payload.len().min(quoted.payload.len());
        let at = plain::checksum_at(inner.protocol).unwrap_or(common);
        let (from, to) = (echo.min(common), at.min(common));
        let (sent_octets, octets) = (&inner.payload[from..to], &quoted.payload[from..to]);
        let same = sent_octets.iter().zip(octets).take_while(|(a, b)| a == b).count();
        // What was cut off on the way there is padding on the way back.
        prop_assert!(octets[same..].iter().all(|&octet| octet == 0), "quoted payload");
        prop_assert!(before.extension.is_some() || same == octets.len(), "quoted payload");

        // Of a message that is not too long already, nothing is lost on the way.
        if sent.total_len() <= 520 && before.extension.is_none() {
            prop_assert_eq!(quoted.payload.len(), inner.payload.len());
        }
        let is_cut = matches!((v6, error.v4), (false, (12, _) | (3, 2 | 4)));
        let stays_extensible = !is_cut;
        if sent.total_len() <= 400 && stays_extensible {
            prop_assert_eq!(after.extension, before.extension, "extension");
        }
    }
}
