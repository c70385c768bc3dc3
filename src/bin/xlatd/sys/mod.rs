//! System facilities, one a file. They move octets and return the kernel's answer; they decide
//! nothing, and none of them imports another.

pub(crate) mod control_socket;
pub(crate) mod detach;
pub(crate) mod firewall;
pub(crate) mod fork;
pub(crate) mod holder;
pub(crate) mod kept_file;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod machine_id;
pub(crate) mod messages;
pub(crate) mod ndisc;
pub(crate) mod netlink;
pub(crate) mod notify;
pub(crate) mod packet_socket;
pub(crate) mod pidfile;
pub(crate) mod ping;
pub(crate) mod plain_file;
pub(crate) mod privilege;
pub(crate) mod program_text;
pub(crate) mod random;
pub(crate) mod ready;
pub(crate) mod record;
pub(crate) mod resolver;
pub(crate) mod sandbox;
pub(crate) mod script;
pub(crate) mod signals;
pub(crate) mod sysctl;
pub(crate) mod tun;
