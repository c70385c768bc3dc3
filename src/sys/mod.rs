//! One system facility a file. They move octets and say what the kernel answered; they decide nothing, and none of them
//! knows another.

pub(crate) mod lease_file;
pub(crate) mod log;
pub(crate) mod map_file;
pub(crate) mod netlink;
pub(crate) mod pidfile;
pub(crate) mod signals;
pub(crate) mod tun;
