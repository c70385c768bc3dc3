//! "TUN itself": a loop that reads packets from a TUN device, and writes them back as they are. No
//! program that reads and writes one packet at a time can be faster. With headers, each packet has
//! a virtio_net_hdr before it, as offload needs it, and the kernel has more to do. The loop is a
//! process of its own, as a translator is, and this program runs again for it.

use std::{
    env,
    io::{Read, Write},
};

/// The argument with which this program is the loop.
const ARGUMENT: &str = "tun-itself";
/// The argument after it, if packets are to have headers.
const HEADERS: &str = "headers";

/// The command line of the loop.
pub(crate) fn command(device: &str, headers: bool) -> String {
    let program = env::current_exe().unwrap();
    let headers = if headers { HEADERS } else { "" };
    format!("{} {ARGUMENT} {device} {headers}", program.display())
}

/// The device, and whether packets have headers, if this process is to be the loop.
pub(crate) fn wanted() -> Option<(String, bool)> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let device = arguments.next()?;
    Some((device, arguments.next().is_some_and(|word| word == HEADERS)))
}

/// Reads and writes until the process is ended.
pub(crate) fn run(device: &str, headers: bool) -> ! {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(device);
    configuration.platform_config(|platform| {
        platform.ensure_root_privileges(false); // with it, the crate would configure addresses
        platform.vnet_hdr(headers);
    });
    let mut device = tun::create(&configuration).unwrap();
    let mut packet = vec![0; 1 << 16];
    loop {
        let len = device.read(&mut packet).unwrap();
        let _ = device.write(&packet[..len]); // one that the kernel rejects is lost
    }
}
