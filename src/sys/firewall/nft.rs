//! Tables of nftables: changed by nft(8), looked at by netlink.

use std::{io, sync::OnceLock};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::run;

/// What is run.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// The kernel puts no more than this into one datagram of a dump, in octets.
const RECEIVE_BUFFER: usize = 32768;

/// Has another program run than the nft of PATH. Only the first call counts.
pub(crate) fn use_program(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
}

/// Puts a table of family inet in the place of one of the same name.
pub(crate) fn load(name: &str, text: &str) -> io::Result<()> {
    run(program(), &["-f", "-"], &in_place(name, text)).map(drop)
}

/// Whether it could be put there: by this kernel, and with our privileges.
pub(crate) fn check(name: &str, text: &str) -> io::Result<()> {
    run(program(), &["--check", "-f", "-"], &in_place(name, text)).map(drop)
}

/// One transaction: there is no moment without the table.
fn in_place(name: &str, text: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{text}}}\n")
}

/// Takes a table away, if it is there.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    let script = format!("table inet {name}\ndelete table inet {name}\n");
    run(program(), &["-f", "-"], &script).map(drop)
}

/// Every chain, with what it is for.
pub(crate) fn chains() -> io::Result<String> {
    run(program(), &["list", "chains"], "")
}

fn program() -> &'static str {
    PROGRAM.get().map_or("nft", String::as_str)
}

/// How many rules there are in the table of family inet of this name; none, if there is no such table.
pub(crate) fn count_rules(name: &str) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let request = NetlinkPayload::InnerMessage(AskForRules(name.to_owned()));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut buffer = vec![0; RECEIVE_BUFFER];
    let mut count = 0;
    loop {
        let len = socket.recv(&mut &mut *buffer, 0)?;
        let mut octets = &buffer[..len.min(RECEIVE_BUFFER)];
        while !octets.is_empty() {
            let answer = NetlinkMessage::<AskForRules>::deserialize(octets)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(count),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => count += 1,
            }
            let len = (answer.header.length as usize).next_multiple_of(4);
            octets = octets.get(len..).unwrap_or_default();
        }
    }
}

/// A request for the rules of a table by its name; what is answered is not read.
struct AskForRules(String);

impl AskForRules {
    /// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETRULE.
    const TYPE: u16 = 10 << 8 | 7;
    /// Family (NFPROTO_INET), version, resource (linux/netfilter/nfnetlink.h).
    const HEADER: [u8; 4] = [1, 0, 0, 0];
    /// NFTA_RULE_TABLE
    const NAME: u16 = 1;
}

impl NetlinkSerializable for AskForRules {
    fn message_type(&self) -> u16 {
        Self::TYPE
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER.len() + (4 + self.0.len() + 1).next_multiple_of(4)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let name = self.0.as_bytes();
        let len = 4 + name.len() + 1; // with its end
        buffer.fill(0);
        buffer[..4].copy_from_slice(&Self::HEADER);
        buffer[4..6].copy_from_slice(&(len as u16).to_ne_bytes());
        buffer[6..8].copy_from_slice(&Self::NAME.to_ne_bytes());
        buffer[8..8 + name.len()].copy_from_slice(name);
    }
}

impl NetlinkDeserializable for AskForRules {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(String::new()))
    }
}
