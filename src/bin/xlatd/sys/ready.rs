//! Many descriptors as one input of poll(2): epoll(7).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

/// The maximum number of descriptors that are found ready at once.
const MAX_READY: usize = 16;

/// Descriptors, by numbers. It is readable while one of them is ready.
pub(crate) struct ReadySet(Epoll);

impl ReadySet {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds a descriptor, to be read.
    pub(crate) fn add(&self, number: usize, fd: impl AsFd) -> io::Result<()> {
        Ok(self
            .0
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?)
    }

    /// Removes a descriptor.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = self.0.delete(fd);
    }

    /// Sets whether a descriptor is also to be written.
    pub(crate) fn set_writes(&self, number: usize, fd: impl AsFd, writes: bool) -> io::Result<()> {
        let mut events = EpollFlags::EPOLLIN;
        events.set(EpollFlags::EPOLLOUT, writes);
        Ok(self
            .0
            .modify(fd, &mut EpollEvent::new(events, number as u64))?)
    }

    /// Those that are ready now, some of them if there are many.
    pub(crate) fn take(&self) -> io::Result<impl Iterator<Item = usize> + use<>> {
        let mut events = [EpollEvent::empty(); MAX_READY];
        let count = match self.0.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        let ready = events.into_iter().take(count);
        Ok(ready.map(|event| event.data() as usize))
    }
}

impl ReadySet {
    /// Waits until one of them is ready. Returns whether one is.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        !matches!(poll(&mut fds, timeout), Ok(0))
    }
}

impl AsFd for ReadySet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
