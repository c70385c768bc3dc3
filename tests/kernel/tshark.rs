//! Packets as tshark(1) understands them: what others make of them.

use std::{fs, process::Command};

use crate::{harness::Directory, packet::Ipv4};

/// Raw IP, in the header of a file (draft-ietf-opsawg-pcap).
const LINKTYPE_RAW: u32 = 101;

/// The fields of an IPv4 packet that have these names, each as it occurs first; empty where it does
/// not.
pub(crate) fn fields(packet: &Ipv4, names: &[&str]) -> Vec<String> {
    let directory = Directory::new();
    let file = directory.file("packet.pcap");
    let octets = packet.octets();
    let len = octets.len() as u32;
    let (magic, version) = (0xa1b2_c3d4, 2 << 16 | 4);
    let header = [magic, version, 0, 0, 65535, LINKTYPE_RAW];
    let record = [0, 0, len, len];
    let words = header.into_iter().chain(record);
    let mut capture: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    capture.extend(octets);
    fs::write(&file, capture).unwrap();

    let mut command = Command::new("tshark");
    // It takes an extension for octets of the quoted datagram where that was cut off, unless it is
    // told not to, whatever the length attribute says.
    command.args(["-n", "-o", "icmp.favor_icmp_mpls:TRUE"]);
    command.args(["-T", "fields", "-E", "occurrence=f", "-r"]);
    command.arg(&file);
    for name in names {
        command.args(["-e", name]);
    }
    let output = command.output().expect("tshark");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.strip_suffix('\n');
    let line = line.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    line.split('\t').map(str::to_owned).collect()
}
