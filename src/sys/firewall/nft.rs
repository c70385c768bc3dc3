//! Tables of nftables: changed by nft(8), looked for by netlink.

use std::{io, sync::OnceLock};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;

use super::run;

/// What is run.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// An answer about a table is far smaller, in octets.
const RECEIVE_BUFFER: usize = 8192;

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
    let output = run(program(), &["list", "chains"], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program() -> &'static str {
    PROGRAM.get().map_or("nft", String::as_str)
}

/// Whether there is a table of family inet of this name.
pub(crate) fn has(name: &str) -> io::Result<bool> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let request = AskForTable(name.to_owned());
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut buffer = vec![0; RECEIVE_BUFFER];
    let len = socket.recv(&mut &mut *buffer, 0)?;
    let answer = NetlinkMessage::<AskForTable>::deserialize(&buffer[..len.min(RECEIVE_BUFFER)])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.raw_code() == -libc::ENOENT => Ok(false),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Ok(true),
    }
}

/// A request for a table by its name; what is answered is not read.
struct AskForTable(String);

impl AskForTable {
    /// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE.
    const TYPE: u16 = 10 << 8 | 1;
    /// Family (NFPROTO_INET), version, resource (linux/netfilter/nfnetlink.h).
    const HEADER: [u8; 4] = [1, 0, 0, 0];
    /// NFTA_TABLE_NAME
    const NAME: u16 = 1;
}

impl NetlinkSerializable for AskForTable {
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

impl NetlinkDeserializable for AskForTable {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(String::new()))
    }
}

impl From<AskForTable> for NetlinkPayload<AskForTable> {
    fn from(request: AskForTable) -> Self {
        Self::InnerMessage(request)
    }
}
