//! The start of a worker that is not the first.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use log::{debug, warn};
use xlatd::{
    addr::AddressMap,
    config::Config,
    report::{
        hints::{self, Hints},
        workers::{self, Leases, Order, Start, read_body},
    },
    translate::Translator,
};

use crate::{
    daemon::options::{Options, drop_privileges, log_classes, translation_mtu},
    datapath::{PacketPath, borrower::Borrower, device::Device},
    error::{Error, system},
    sys::{
        fork::Parent,
        messages::{Messages, Received, read_file},
        netlink::{LinkKind, LinkState},
        program_text, random,
        sandbox::{self, Programs},
        tun::{Header, Tun},
    },
};

/// Waits for the order to start, and does. `None`: the first worker has ended before.
pub(super) fn start(
    config: &Config,
    options: &Options,
    number: u32,
    parent: Parent,
    messages: &mut Messages,
) -> Result<Option<PacketPath>, Error> {
    parent
        .end_with()
        .map_err(system("end with the first worker"))?;
    let mut buffer = vec![0; workers::MAX_LEN];
    let Some((start, files)) = wait_for_start(messages, &mut buffer)? else {
        return Ok(None);
    };
    let attempt = "take over what the first worker passes";
    let mut files = files.into_iter();
    let missing = || system(attempt)(ErrorKind::UnexpectedEof.into());
    let queue = files.next().ok_or_else(missing)?;
    let leases = files.next().ok_or_else(missing)?;
    let leases = read_file(leases, usize::MAX).map_err(system(attempt))?;
    let text = files.next().map(|file| read_file(file, usize::MAX));
    let text = text.transpose().map_err(system(attempt))?;
    let header = if start.has_header {
        Header::Virtio
    } else {
        Header::None
    };
    let tun = Tun::of_queue(queue, &start.link.name, header).map_err(system(attempt))?;
    let device = Device::of(tun, link_state(&start), start.coalesces);
    let mut map = match text {
        None => config.address_map(),
        Some(text) => read_map(config, &text).map_err(system(attempt))?,
    };
    map.set_now(start.second);
    for followed in Leases::read_rows(&leases).ok_or_else(missing)? {
        map.follow_lease(followed);
    }
    drop_privileges(config, options)?;
    // The change of user has undone it.
    parent
        .end_with()
        .map_err(system("end with the first worker"))?;
    if let Err(error) = program_text::let_go() {
        debug!("cannot let go of the program's text: {error}");
    }
    enter_sandbox(config);
    let shared = messages.try_clone().map_err(system(attempt))?;
    let borrower = Borrower::new(shared, start.second, Instant::now());
    Ok(Some(packet_path(
        config,
        options,
        device,
        map,
        (number, borrower),
    )))
}

/// The order to start, with its files. `None`: the first worker has ended.
fn wait_for_start(
    messages: &mut Messages,
    buffer: &mut [u8],
) -> Result<Option<(Start, Vec<OwnedFd>)>, Error> {
    let attempt = "wait for the first worker";
    loop {
        match messages.receive(buffer) {
            Ok(None) => return Ok(None),
            Ok(Some(Received { len, files, .. })) => match read_body(&buffer[..len]) {
                Ok(Order::Start(start)) => return Ok(Some((start, files))),
                _ => return Err(system(attempt)(ErrorKind::InvalidData.into())),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                messages.wait(Instant::now() + Duration::from_secs(3600));
            }
            Err(error) => return Err(system(attempt)(error)),
        }
    }
}

fn packet_path(
    config: &Config,
    options: &Options,
    device: Device,
    map: AddressMap,
    (number, borrower): (u32, Borrower),
) -> PacketPath {
    let mut settings = config.translation.clone();
    settings.mtu = translation_mtu(device.link.mtu);
    settings.sharers = config.workers.into();
    let translator = Translator::new(settings, map, random::seed());
    let hints = Hints::new(hints::Settings::TaygaConf);
    let log = log_classes(config, options);
    let mut path = PacketPath::new(log, hints, device, translator, None);
    path.start_borrowing(borrower, (number, config.workers.into()));
    path
}

/// The address map with the text of a map-file, which the first worker has found right.
pub(super) fn read_map(config: &Config, text: &[u8]) -> io::Result<AddressMap> {
    let read = config.with_map_file(text);
    read.map(|(map, _)| map)
        .map_err(|_| ErrorKind::InvalidData.into())
}

fn link_state(start: &Start) -> LinkState {
    LinkState {
        index: start.index,
        name: start.link.name.clone(),
        mtu: start.link.mtu,
        up: start.link.up,
        carrier: true,
        queue_length: 0,
        kind: LinkKind::MultiQueueTun { queues: 0 }, // nobody asks
    }
}

/// Restricts system calls, and files to none. What the kernel does not support, the first worker
/// has said.
fn enter_sandbox(config: &Config) {
    if !config.sandbox {
        return;
    }
    if let Err(error) = sandbox::restrict_files(None, &[]) {
        debug!("No sandbox for files (landlock): {error}");
    }
    if let Err(error) = sandbox::restrict_calls(Programs::Denied) {
        warn!("No sandbox for system calls (seccomp): {error}");
    }
}
