//! "TUN itself": a loop that reads packets from a TUN device, and writes them back as they are. No
//! program that reads and writes one packet at a time can be faster. It is a process of its own, as
//! a translator is, and this program runs again for it.

use std::{
    env,
    io::{Read, Write},
};

/// The argument with which this program is the loop.
const ARGUMENT: &str = "tun-itself";

/// The command line of the loop.
pub(crate) fn command(device: &str) -> String {
    let program = env::current_exe().unwrap();
    format!("{} {ARGUMENT} {device}", program.display())
}

/// The device, if this process is to be the loop.
pub(crate) fn wanted() -> Option<String> {
    let mut arguments = env::args().skip(1);
    (arguments.next()? == ARGUMENT).then(|| arguments.next())?
}

/// Reads and writes until the process is ended.
pub(crate) fn run(device: &str) -> ! {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(device);
    configuration.platform_config(|platform| {
        platform.ensure_root_privileges(false); // with it, the crate would configure addresses
    });
    let mut device = tun::create(&configuration).unwrap();
    let mut packet = vec![0; 1 << 16];
    loop {
        let len = device.read(&mut packet).unwrap();
        let _ = device.write(&packet[..len]); // one that the kernel rejects is lost
    }
}
