//! Messages between two processes, and open files with them: a pair of sockets (unix(7),
//! SOCK_SEQPACKET), and files in memory (memfd_create(2)).

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, IoSlice, IoSliceMut, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
    time::Instant,
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            recvmsg, sendmsg, setsockopt, socketpair,
            sockopt::{SndBuf, SndBufForce},
        },
    },
};

/// The maximum number of messages that a reader takes in a turn, so that a flood starves nothing
/// else.
pub(crate) const MAX_IN_TURN: usize = 256;
/// The maximum number of files with a message.
pub(crate) const MAX_FILES: usize = 3;

/// What the kernel may hold for a reader, in octets: some milliseconds of packets.
const BUFFER: usize = 1 << 20;
/// What may wait here besides, in octets.
const MAX_WAITING: usize = 1 << 26;

/// One end of a pair. No call waits.
pub(crate) struct Messages {
    socket: OwnedFd,
    /// What the kernel did not take yet.
    waiting: VecDeque<Waiting>,
    /// Its octets.
    waiting_len: usize,
    /// Room for the descriptors of files.
    control: Vec<u8>,
}

struct Waiting {
    kind: u8,
    body: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// A message that has come, but for its body.
pub(crate) struct Received {
    pub(crate) kind: u8,
    /// The length of the body, in octets.
    pub(crate) len: usize,
    pub(crate) files: Vec<OwnedFd>,
}

impl Messages {
    /// The two ends of a pair.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::new(one), Self::new(other)))
    }

    fn new(socket: OwnedFd) -> Self {
        // Without the right to more there is less.
        if setsockopt(&socket, SndBufForce, &BUFFER).is_err() {
            let _ = setsockopt(&socket, SndBuf, &BUFFER);
        }
        Self {
            socket,
            waiting: VecDeque::new(),
            waiting_len: 0,
            control: cmsg_space!([RawFd; MAX_FILES]),
        }
    }

    /// The same end once more: each has what waits in it.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            waiting: VecDeque::new(),
            waiting_len: 0,
            control: self.control.clone(),
        })
    }

    /// Sends a message at once; fails with `WouldBlock` if there is no room for it.
    pub(crate) fn send(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.send_with(kind, body, &[])
    }

    fn send_with(&self, kind: u8, body: &[u8], files: &[OwnedFd]) -> io::Result<()> {
        let parts = [
            IoSlice::new(std::slice::from_ref(&kind)),
            IoSlice::new(body),
        ];
        let descriptors: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if files.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(self.socket.as_raw_fd(), &parts, rights, flags, None) {
            Ok(_) => Ok(()),
            Err(Errno::ENOBUFS | Errno::EINTR) => Err(ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a message as soon as there is room, after those before it.
    ///
    /// # Errors
    ///
    /// Fails only if so much waits that the reader must be hanging: that it has ended shows when
    /// its messages are read.
    pub(crate) fn post(&mut self, kind: u8, body: Vec<u8>, files: Vec<OwnedFd>) -> io::Result<()> {
        if self.waiting.is_empty() {
            match self.send_with(kind, &body, &files) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return Ok(()),
            }
        }
        self.waiting_len += body.len();
        self.waiting.push_back(Waiting { kind, body, files });
        if self.waiting_len > MAX_WAITING {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Whether there is something to be [flushed](Self::flush) once there is room.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some(Waiting { kind, body, files }) = self.waiting.front() {
            if let Err(error) = self.send_with(*kind, body, files)
                && error.kind() == ErrorKind::WouldBlock
            {
                return;
            }
            self.waiting_len -= body.len();
            self.waiting.pop_front();
        }
    }

    /// Waits until a message can be received. Returns whether one can.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.has_waiting());
        let mut fds = [PollFd::new(self.as_fd(), events)];
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // After a signal the caller looks again.
        !matches!(poll(&mut fds, timeout), Ok(0))
    }

    /// Reads a message, its body into `buffer`. `None`: the other end is closed. Fails with
    /// `WouldBlock` if there is no message.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut kind = [0];
        let mut parts = [IoSliceMut::new(&mut kind), IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let received = match received {
            Ok(received) => received,
            // It was closed before it had read all.
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(Errno::EINTR) => return Err(ErrorKind::WouldBlock.into()),
            Err(errno) => return Err(errno.into()),
        };
        let Some(len) = received.bytes.checked_sub(1) else {
            return Ok(None);
        };
        let mut files = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                // SAFETY: the kernel has just opened these descriptors for this process, and nobody
                // else knows them.
                let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                files.extend(descriptors.into_iter().map(own));
            }
        }
        let kind = kind[0];
        Ok(Some(Received { kind, len, files }))
    }
}

impl AsFd for Messages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A file in memory, to go along with messages. No reader can change it for the others.
pub(crate) fn file_of(octets: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("xlatd", flags)?);
    file.write_all(octets)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The octets of a file in memory, of which there are at most `max`. Others may be reading it, too.
pub(crate) fn read_file(file: OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if len > max {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut octets = vec![0; len];
    file.read_exact_at(&mut octets, 0)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// A file goes along as often as it is sent, and each reader has all of it.
    #[test]
    fn messages_come_with_their_files() {
        let (mut one, mut other) = Messages::pair().unwrap();
        let mut buffer = [0; 16];
        let error = other.receive(&mut buffer).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let text = vec![b'x'; 3_000_000];
        let file = file_of(&text).unwrap();
        for number in 0..2 {
            let file = file.try_clone().unwrap();
            one.post(number, b"body".to_vec(), vec![file]).unwrap();
        }
        one.send(7, b"").unwrap();
        for number in 0..2 {
            let mut received = other.receive(&mut buffer).unwrap().unwrap();
            assert_eq!(
                (received.kind, &buffer[..received.len]),
                (number, &b"body"[..])
            );
            let file = received.files.pop().unwrap();
            let mut again = File::from(file.try_clone().unwrap());
            assert!(again.write_all(b"y").is_err() && again.set_len(0).is_err());
            assert_eq!(read_file(file, text.len()).unwrap(), text);
        }
        // A length that is said, but not there.
        let sparse = File::from(memfd_create("xlatd", MFdFlags::MFD_CLOEXEC).unwrap());
        sparse.set_len(1 << 60).unwrap();
        let error = read_file(sparse.into(), text.len()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        let received = other.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(
            (received.kind, received.len, received.files.len()),
            (7, 0, 0)
        );
        drop(one);
        assert!(other.receive(&mut buffer).unwrap().is_none());
    }

    /// What there is no room for waits in order; what may be lost is refused.
    #[test]
    fn what_has_no_room_waits() {
        let (mut one, mut other) = Messages::pair().unwrap();
        let mut sent = 0_u32;
        while !one.has_waiting() || sent < 5000 {
            one.post(1, sent.to_be_bytes().to_vec(), Vec::new())
                .unwrap();
            sent += 1;
        }
        assert_eq!(one.send(2, b"").unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut buffer = [0; 16];
        for number in 0..sent {
            let received = loop {
                match other.receive(&mut buffer) {
                    Ok(received) => break received.unwrap(),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                one.flush();
            };
            assert_eq!(buffer[..received.len], number.to_be_bytes());
        }
        assert!(!one.has_waiting() && one.waiting_len == 0);
        // Whoever never reads does not fill the memory.
        let large = || vec![0; MAX_WAITING / 64];
        let mut posts = 0;
        while one.post(1, large(), Vec::new()).is_ok() {
            posts += 1;
        }
        assert!(posts < 70, "{posts}");
    }
}
