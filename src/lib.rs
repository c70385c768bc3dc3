//! The deciding half of xlatd: a stateless IPv4/IPv6 translator (SIIT, RFC 7915) that reads
//! tayga.conf.
//!
//! This library does no I/O, reads no clock and contains no `unsafe`: octets and text come in,
//! decisions go out. So it is tested, and can be fuzzed, without a kernel, and the same octets give
//! the same answer everywhere. The binary (`src/bin/xlatd`) reads, writes and waits, and decides
//! nothing.
//!
//! # The parts
//!
//! Each part knows those below it, and none above; no two files know each other, also within a part
//! (`tests/layers.rs` holds both):
//!
//! | layer | part | what it is |
//! |---|---|---|
//! | 3 | [`plan`] | what is to be there on the system, each resource with its undo; the ledger of what was done, and the undo journal |
//! | 3 | [`report`] | what became of packets: counters, lines for the log, and hints |
//! | 2 | [`config`] | text to settings, with every mistake in it: tayga.conf, map-file, dynamic.map, clatd.conf, resolv.conf |
//! | 1 | [`translate`] | one packet in, one decision out |
//! | 1 | [`clat`] | what happens to the network in, what is to be done about IPv4 out (464XLAT, RFC 6877) |
//! | 0 | [`wire`] | packet formats: octets to values and back |
//! | 0 | [`addr`] | address mapping: own addresses, explicit mappings (RFC 7757), leases, prefix (RFC 6052) |
//! | 0 | [`pace`] | rate limiting: token buckets (GCRA) |
//!
//! The binary has rooms of its own, which know the library and those below them: `cli` on top,
//! `daemon`, `host` (what is set up on this machine), `datapath` (device, translator, device), and
//! `sys`, one facility of the system a file.
//!
//! # How a packet goes through them
//!
//! The daemon reads a packet from the TUN device into a [`translate::Packet`]: one buffer, with
//! headroom before the packet. [`translate::Translator::translate`] looks at it through the views
//! of [`wire`], asks the [`addr::AddressMap`] for both addresses, and comes to a decision before it
//! changes anything. Then the new IP header is written into the headroom, directly before the
//! transport header; checksums are updated by the difference of the addresses (RFC 1624); the
//! payload is neither moved nor read. The [`translate::Outcome`] says what to write: the packet,
//! its fragments one after the other, a reply to the sender, or nothing.
//!
//! With segmentation offload a packet may be many: a super-packet, which the kernel cuts at the
//! very end, with a checksum that it finishes then. [`wire::virtio`] says what is left to do; what
//! counts of such a packet is the size of its segments. One that cannot cross whole comes back as
//! [`translate::Segments`], to be translated one by one. The other way round, a
//! [`translate::Coalescer`] joins small packets of a flow that follow each other, and so has to
//! move their payload.
//!
//! No allocation, lock, clock reading or system call is made for a packet here, and a lookup costs
//! the same with one mapping and with 100,000.
//!
//! # How a line of configuration goes through them
//!
//! [`config`] reads every line of a tayga.conf and reports every mistake with line and column, or
//! gives a [`config::Config`]. Out of that come the [`translate::Settings`], the
//! [`addr::AddressMap`], and by [`plan`] the resources of the host, which `xlatd check` prints and
//! the daemon applies.
//!
//! # How an event of a CLAT goes through them
//!
//! Router Advertisements and answers of name servers ([`wire::ndp`], [`wire::dns`]), and what the
//! network is, come to [`clat::Clat`] as events, with the time. It says what to ask, and how the
//! host is to be set up; [`plan::clat`] makes a plan of it, of which the [`plan::Ledger`] has the
//! host do the difference. [`translate`] and [`clat`] do not know each other: the daemon gives the
//! translator another [`addr::AddressMap`].
//!
//! # How an undo goes through them
//!
//! A plan is a list of [`plan::Resource`]s. Before one is applied, the host looks what is there,
//! from which [`plan::Resource::undo`] makes the [`plan::Undo`]; its line ([`plan::record`]) is
//! written to the undo journal. Once it is applied, the [`plan::Ledger`] keeps the undo if
//! something was changed. When the resource is not wanted any more, or the daemon ends, the undo is
//! carried out, last first, or handed over to another CLAT that needs the resource, too
//! ([`plan::ledger::heir`]). After a crash the next start carries out what it finds in the journal.
#![forbid(unsafe_code)]

pub mod addr;
pub mod clat;
pub mod config;
pub mod pace;
pub mod plan;
pub mod report;
pub mod translate;
pub mod wire;
