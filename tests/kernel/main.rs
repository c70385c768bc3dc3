//! The daemon between real kernels: network namespaces, veth pairs and a TUN device.
//!
//! ```text
//!  client ------- gate6 ------- xlat ------- gate4 ------- server
//!  IPv6 only      IPv6          both         IPv4          IPv4 only
//!                               daemon, TUN "nat64"
//! ```
//!
//! Each test has namespaces of its own. They have no name and live by their descriptors alone, so the kernel removes
//! them and all that is in them when the test ends, however it ends. They need root; without it a test is skipped,
//! except where `REQUIRE_NETNS=1`: there, to skip is to fail.
//!
//! `DAEMON=/usr/sbin/tayga` runs the same cases against TAYGA 0.9.2. [`TAYGA_DIFFERS`] lists the cases in which it is
//! known to behave otherwise, and those must then fail: the list stays true.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

mod checksum;
mod device;
mod forward;
mod fragment;
mod hairpin;
mod harness;
mod icmp;
mod own;
mod packet;
mod socket;

/// The cases in which TAYGA 0.9.2 does not do what is expected here, each with the document that asks for it.
const TAYGA_DIFFERS: &[(&str, &str)] = &[];

/// The table names cases that exist, each with a reason; it is printed, to be read with `--nocapture`.
#[test]
fn differences_name_their_cases() {
    let sources = [
        ("checksum", include_str!("checksum.rs")),
        ("device", include_str!("device.rs")),
        ("forward", include_str!("forward.rs")),
        ("fragment", include_str!("fragment.rs")),
        ("hairpin", include_str!("hairpin.rs")),
        ("icmp", include_str!("icmp.rs")),
        ("own", include_str!("own.rs")),
    ];
    for (case, reason) in TAYGA_DIFFERS {
        let (module, function) = case.split_once("::").unwrap();
        let (_, source) = sources.iter().find(|(name, _)| *name == module).unwrap();
        assert!(
            source.contains(&format!("\nfn {function}() {{\n    case(")),
            "{case}: there is no such case"
        );
        assert!(
            reason.contains("RFC ") || reason.contains("tun"),
            "{case}: \"{reason}\" does not say which document explains it"
        );
        println!("{case}: {reason}");
    }
}
