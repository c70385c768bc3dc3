//! The start of the other workers.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use xlatd::{
    addr::{
        AddressMap,
        pool::{Followed, Pool},
    },
    report::workers::{Kind, Leases, Order, Start, to_body},
};

use crate::{
    daemon::workers::{Workers, link, other::Other},
    datapath::device::Device,
    error::{Error, system},
    sys::{
        fork::{Forked, Parent, new_process},
        messages::{Messages, file_of},
    },
};

/// The time that workers have to start: they read the map-file.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a new process is.
pub(crate) enum Role {
    /// The first worker, with the others.
    First(Option<Workers>),
    /// Another one, by its number: 2 is that after the first.
    Other(u32, Parent, Messages),
}

/// Starts all workers but the first, of `count` with that.
pub(crate) fn start(count: u8) -> Result<Role, Error> {
    if count < 2 {
        return Ok(Role::First(None));
    }
    let attempt = "start the workers";
    let mut others = Vec::new();
    for number in 2..=u32::from(count) {
        let (ours, theirs) = Messages::pair().map_err(system(attempt))?;
        match new_process().map_err(system(attempt))? {
            Forked::Child(parent) => return Ok(Role::Other(number, parent, theirs)),
            Forked::Parent(process) => {
                others.push(Other::new(others.len(), process, ours));
            }
        }
    }
    Workers::new(others).map(|workers| Role::First(Some(workers)))
}

impl Workers {
    /// Has the others translate, and waits until they can. Each has a queue of the device, and the
    /// leases of the map.
    pub(crate) fn begin(
        &mut self,
        device: &Device,
        map: &AddressMap,
        map_file: Option<&[u8]>,
    ) -> Result<(), Error> {
        let attempt = "pass a queue to a worker";
        let mut rows = Vec::new();
        let leases = map.pool().into_iter().flat_map(Pool::leases_and_states);
        let leases = leases.map(|(lease, state)| Followed {
            lease,
            state: Some(state),
        });
        Leases::write_rows(leases, &mut rows);
        let files = [Some(&*rows), map_file].into_iter().flatten().map(file_of);
        let files: Vec<_> = files.collect::<Result<_, _>>().map_err(system(attempt))?;
        let order = to_body(&Order::Start(Start {
            link: link(&device.link),
            index: device.link.index,
            has_header: device.tun.has_header(),
            coalesces: device.coalesces,
            second: map.now(),
        }));
        for (at, queue) in device.others.iter().enumerate() {
            let all = [queue.as_fd()]
                .into_iter()
                .chain(files.iter().map(AsFd::as_fd));
            let all = all
                .map(|fd| fd.try_clone_to_owned())
                .collect::<Result<_, _>>();
            let all = all.map_err(system(attempt))?;
            self.post(at, Kind::Order, order.clone(), all)?;
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while let Some(late) = self.others.iter().find(|other| !other.is_ready) {
            if !self.ready.wait(deadline) {
                return Err(late.error("does not answer"));
            }
            self.turn(None, Instant::now())?;
        }
        // Each has left the set when it was ready.
        self.others
            .iter()
            .try_for_each(|other| other.join(&self.ready))
    }
}
