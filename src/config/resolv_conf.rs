//! The name servers of resolv.conf(5).

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::{
    LineError,
    grammar::{self, Expected, value, word},
};

/// Port of name servers (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// The name servers that can be asked, in the order of the file, and for each other one the reason.
///
/// A link-local address is that of a server at the link with the index that `index_of` gives for
/// the device in its zone (RFC 4007 section 11), or at `link` if it has no zone.
pub fn name_servers(
    text: &str,
    link: u32,
    index_of: impl Fn(&str) -> Option<u32>,
) -> (Vec<SocketAddr>, Vec<LineError>) {
    let (mut servers, mut errors) = (Vec::new(), Vec::new());
    let server = |word: &[u8]| name_server(word, link, &index_of);
    for line in grammar::lines(text.as_bytes()) {
        match word(line.text) {
            Ok((after, b"nameserver")) if !after.is_empty() => {
                match line.parse(after, value(server)) {
                    Ok(server) => servers.push(server),
                    Err(error) => errors.push(error),
                }
            }
            _ => {}
        }
    }
    (servers, errors)
}

/// The name server that a word is, as in [`name_servers`].
pub(super) fn name_server(
    word: &[u8],
    link: u32,
    index_of: impl Fn(&str) -> Option<u32>,
) -> Result<SocketAddr, Expected> {
    let text = str::from_utf8(word).unwrap_or_default();
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address = address.parse().map_err(|_| "an IP address")?;
    let scope = match zone {
        None => link,
        Some(zone) => zone
            .parse()
            .ok()
            .filter(|&index| index != 0)
            .or_else(|| index_of(zone))
            .ok_or("an address whose zone is a device")?,
    };
    Ok(server_at(address, scope))
}

/// The address and port of a server. `link` is the index of the link of a link-local address.
pub fn server_at(address: IpAddr, link: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, DNS_PORT, 0, link).into()
        }
        address => SocketAddr::new(address, DNS_PORT),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn read(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
        let (servers, errors) = name_servers(text, 2, |name| (name == "eth1").then_some(3));
        (servers, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn name_servers_are_read_in_order() {
        let text = "# nameserver 192.0.2.1\nsearch example.net\n nameserver 192.0.2.53\n\
                    nameserver\t2001:db8::53 trailing\nnameservers 192.0.2.2\nnameserver\n";
        let expected = ["192.0.2.53:53", "[2001:db8::53]:53"].map(|one| one.parse().unwrap());
        assert_eq!(read(text), (expected.to_vec(), Vec::new()));
    }

    /// RFC 4007 section 11: the zone of a link-local address is a device, by name or index.
    #[test]
    fn the_zone_is_the_link_of_the_server() {
        for (word, scope) in [
            ("fe80::1", 2),
            ("fe80::1%eth1", 3),
            ("fe80::1%4", 4),
            ("2001:db8::53%eth1", 0),
        ] {
            let (servers, others) = read(&format!("nameserver {word}\n"));
            let [SocketAddr::V6(server)] = servers[..] else {
                panic!("{word}: {servers:?}")
            };
            assert_eq!((server.scope_id(), server.port()), (scope, 53), "{word}");
            assert_eq!(others, [""; 0], "{word}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_an_error() {
        let text = "nameserver fe80::1%eth9\nnameserver fe80::1%0\nnameserver dns.example\n\
                    nameserver 192.0.2.53\n";
        let (servers, others) = read(text);
        assert_eq!(servers.len(), 1);
        let expected = [
            "1:12: expected an address whose zone is a device, found \"fe80::1%eth9\"",
            "2:12: expected an address whose zone is a device, found \"fe80::1%0\"",
            "3:12: expected an IP address, found \"dns.example\"",
        ];
        assert_eq!(others, expected);
    }
}
