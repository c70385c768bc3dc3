//! The decisions of xlatd: a stateless NAT64/SIIT translator (RFC 7915) that reads tayga.conf, and
//! a 464XLAT CLAT (RFC 6877).
//!
//! This library does no I/O, reads no clock and contains no `unsafe`: octets, text and times come
//! in, decisions go out. So it is tested, and can be fuzzed, without a kernel, and the same input
//! gives the same answer everywhere. The binary (`src/bin/xlatd`) reads, writes, waits and retries;
//! what a packet, a line or an event means is decided here.
//!
//! # The parts
//!
//! A part may use those of lower layers, but none of its own layer or above. Files do not depend on
//! each other in circles, also within a part (`tests/layers.rs` checks both):
//!
//! | layer | part | what it is |
//! |---|---|---|
//! | 4 | [`doctor`] | what keeps packets from passing on a host, and the commands that mend it: knows what is planned, and which firewalls stand in the way |
//! | 3 | [`plan`] | what is to be there on the system, each resource with its undo; the ledger of what was done, and the undo journal as text |
//! | 3 | [`report`] | what became of packets: counters, lines for the log, and hints; how a daemon is, the protocol by which it is asked, and its figures as metrics; what becomes of a packet, and why |
//! | 2 | [`config`] | text to settings, or to its mistakes: tayga.conf, map-file, dynamic.map, clatd.conf, resolv.conf, and systemd's name servers of a link |
//! | 1 | [`translate`] | one packet in, one decision out |
//! | 1 | [`clat`] | what happens to the network in, what is to be done about IPv4 out |
//! | 0 | [`wire`] | packet formats: octets to values and back |
//! | 0 | [`addr`] | address mapping: own addresses, explicit mappings (RFC 7757), leases, prefix (RFC 6052) |
//! | 0 | [`link`](mod@link) | the reference to a network device: index and name |
//! | 0 | [`pace`] | rate limiting: token buckets (GCRA) |
//!
//! The parts of the binary, in the same order, may all use the library:
//!
//! | part | what it is |
//! |---|---|
//! | `cli` | command lines; reads the configuration files, and starts a daemon, or asks one |
//! | `daemon` | `service`: the loop, signals, and the only place that waits; its guests `translator` and `clat`, of which it runs one. With loops of their own: `worker`, another process of a translator; `exporter`, metrics over HTTP |
//! | `host` | carries out the steps of the [`plan::Ledger`] on this machine, and keeps the undo journal |
//! | `datapath` | reads packets from the TUN device or the uplink, has them translated, and writes the outcome |
//! | `error` | errors that end the process |
//! | `sys` | netlink, TUN, signals and so on: one facility of the system a file |
//!
//! # The path of a packet
//!
//! 1. `daemon::service` waits in poll(2), and calls `PacketPath::turn` (`datapath`). This reads
//!    each packet from the TUN device, or from the uplink of a CLAT, into a [`translate::Packet`]:
//!    one buffer, with headroom before the packet.
//! 2. [`translate::Translator::translate`] picks the direction, `six_to_four` or `four_to_six`; the
//!    two mirror each other. `decide` there parses the packet by the views of [`wire`], asks the
//!    [`addr::AddressMap`] for both addresses, and compares the size with the MTU. Nothing is
//!    changed before, except that an offloaded checksum may have to be completed. An IPv6 source
//!    without a mapping may get a lease first, and is then decided on again.
//! 3. The decision is applied: the new IP header is written into the headroom, directly before the
//!    transport header, and the checksum is updated by the difference of the addresses (RFC 1624).
//!    The payload is not moved, and not read either unless a checksum must be calculated. ICMP
//!    errors are the exception: they are verified, and built anew with the packet that they quote
//!    (`quoted`).
//! 4. The [`translate::Outcome`] says what `PacketPath::translate` writes: the packet, its
//!    fragments one after the other, a reply to the sender, the segments of a super-packet, or
//!    nothing.
//!
//! *The uplink of a CLAT* is a packet socket (`datapath::uplink`) if it can be
//! ([`clat::Way::Direct`]): the TUN device has IPv4 only, and each packet is written to the side of
//! its family, super-packets whole. The host's routes, rules and firewalls of IPv6 decide nothing.
//! Packets leave with the link-layer header of the next hop, which the kernel resolves when asked
//! to. What it says by netlink goes to [`clat::Reachability`]: packets are sent, or wait in the TUN
//! device, or are refused by the translator ([`translate::Translator::set_unreachable`]).
//! Neighbours that solicit the CLAT address are answered by another packet socket
//! (`daemon::neighbours`), with what [`clat::neighbour`] makes. Otherwise the kernel forwards, from
//! and to the TUN device.
//!
//! *A packet that is too big.* IPv6 to IPv4, the translation has DF if it is no fragment and longer
//! than 1260 octets. With DF, one that exceeds the MTU becomes a Packet Too Big to its sender
//! (`reply`), within the rate limit of ICMP errors; without DF it is cut into
//! [`translate::Fragments`], each a copy in a buffer of its own. Both are rare, since the
//! translation is 20 octets shorter than what came, and both sides have one MTU: it takes a smaller
//! one set in between, or a super-packet. IPv4 to IPv6, a packet grows: with DF its sender gets
//! Fragmentation Needed, and without DF it is cut to the lesser of the MTU and `offlink-mtu`.
//!
//! *Offload.* With segmentation offload a packet may be many: a super-packet, which the kernel
//! segments last of all, and whose checksum it completes then. [`wire::virtio`] says what is left
//! to do; the size that counts is that of the segments. A super-packet that cannot be translated as
//! one comes back as [`translate::Segments`], to be translated one by one. In the other direction,
//! a [`translate::Coalescer`] joins translated packets of a flow that follow each other, and so has
//! to read and move their payload.
//!
//! *Workers.* With `workers`, several processes do this, each with a queue of the device, in which
//! the kernel keeps a flow. The first one, whose loop is that of the service, has forked the others
//! (`daemon::workers`), which have a loop of their own (`daemon::worker`); they tell each other
//! [`report::workers`], by a socket each. The pool is the first one's. A translator of another one
//! says [`translate::Outcome::HandOver`] of what has no lease there; the packet goes to the first
//! one, which lends, writes the packet to the queue that it came by, and tells all of the lease. A
//! worker that is told reads nothing more until the packets that it has handed over are out, so
//! none is overtaken.
//!
//! *Cost.* No lock, clock reading or system call is made for a packet here, and no allocation
//! except for a new lease and for buffers of the [`translate::Coalescer`], which are used again. A
//! lookup costs a probe for each prefix length that occurs, with one mapping or with 100,000.
//!
//! # The path of a line of configuration
//!
//! 1. `cli::translator` reads tayga.conf, and [`config::Config::read_in`] goes through it.
//!    `grammar` takes a line apart into words, `directives` has a row for each directive, and
//!    `word` the value of each word. `draft` collects the settings and the mistakes of all lines,
//!    and at the end compares lines with each other.
//! 2. Without mistakes there is a [`config::Config`]. From it come the [`translate::Settings`] (its
//!    field `translation`); the [`addr::AddressMap`] ([`config::Config::address_map`], or
//!    [`config::Config::with_map_file`] where there is a map-file); and by [`plan::setup`] the
//!    resources of the host, which `xlatd check` prints and `daemon::translator::start` applies.
//! 3. `daemon::translator::start` gives settings and map to a [`translate::Translator`]. A `map`
//!    line now is an explicit mapping, and decides in [`addr::AddressMap::to_v4`] and
//!    [`addr::AddressMap::to_v6`].
//!
//! Each mistake is a [`config::LineError`] with line and column; what follows a refused word in its
//! line is not read. Directives that are missing come last and have neither. `cli` makes one
//! `Error::Config` of them all, which `main` prints, a line each, and logs as well if the log is
//! not stdout.
//!
//! SIGHUP reads the map-file again, and nothing else of the configuration; its mistakes are logged,
//! and the mappings stay. Where there are workers, each reads the text that the first one has found
//! right, and all use it once all have.
//!
//! # The path of an event of a CLAT
//!
//! 1. `daemon::clat` receives what happens: Router Advertisements and answers to probes
//!    (`sys::ndisc`), answers of name servers (`sys::resolver`), and messages that the network has
//!    changed, upon which it reads all of the network by netlink (`sys::netlink`), as soon as
//!    [`clat::Rescan`] lets it. [`clat::neighbour`] and [`clat::answers`] decide which messages
//!    count, and [`wire::ndp`] and [`wire::dns`] parse them.
//! 2. Each becomes a [`clat::Event`], and goes with the time to [`clat::Clat::handle`], which
//!    returns [`clat::Action`]s. `ClatDaemon::handle` carries them out.
//! 3. It takes several events until IPv4 works. A PREF64 option in a Router Advertisement gives the
//!    NAT64 prefix (`discovery`). Then a CLAT address is formed and tested (`source`): it is put on
//!    the uplink ([`clat::Action::TestAddress`], [`plan::trial()`]) for the kernel to detect a
//!    duplicate, whose result comes with the next [`clat::Event::Network`]; probes
//!    ([`clat::Action::Probe`]) show whether the router forwards from it. With the address, or with
//!    one of the host if there is none, the table in `conclusion` asks for a [`clat::HostSetup`]
//!    ([`clat::Action::SetUp`]).
//! 4. `ClatHost` (`daemon::clat_host`) makes a plan of it ([`plan::clat()`]), and `Host::change`
//!    (`host`) carries out what the [`plan::Ledger`] says is different: the TUN device, routes and
//!    rules, the table of nftables, and forwarding where the kernel forwards. Once the device is
//!    attached, `ClatHost` makes the [`translate::Translator`], and `PacketPath` opens the packet
//!    socket on the uplink; a later set-up only replaces the [`addr::AddressMap`]
//!    ([`plan::clat_map`]), the MTU, and the packet socket where it is another uplink, address or
//!    next hop. [`translate`] and [`clat`] do not know each other.
//!
//! Packets are no events, but their counts go along with each event. After packets have passed,
//! [`clat::Clat::passed`] compares the counts with those before, and if they show that the NAT64
//! answers, or does not, [`clat::Event::Time`] is due at once (`watch` in [`clat`]).
//!
//! Packets of a CLAT that the host forwards may meet firewalls of others: `FirewallWatch`
//! (`daemon::firewall_watch`) reads their chains once something has changed, and
//! [`plan::firewall`] follows packets of the CLAT through them. What drops these is in the status.
//!
//! A set-up that fails is tried again: `daemon::clat` passes [`clat::Event::Failed`], upon which
//! the CLAT asks for it once more.
//!
//! # The path of a question
//!
//! 1. `cli::status`, and others as it, connect to the control socket of a daemon (`cli::ask`), and
//!    send a [`report::control::Request`], a JSON document in a line.
//! 2. `daemon::service` waits for clients as for packets. `daemon::control` has few of them, each
//!    with few turns in a second, and never waits for one.
//! 3. The guest of the service describes itself ([`report::status::Status`]): what the translator
//!    and the [`report::stats`] have counted, and what [`clat::Clat::overview`] says. Files are not
//!    looked at, and packets are kept as the beginning of their octets until somebody asks.
//! 4. The client has the answer, a [`report::control::Answer`], and puts it into words
//!    ([`report::status::text`]), or into metrics ([`report::metrics`]).
//!
//! *A trace* ([`report::trace`]) is an answer that goes on. While a client asks for one, the packet
//! path shows each packet to the [`report::trace::Recorder`], as it came, what was decided, and
//! what goes out; packets that are joined, before that. It keeps what passes the filter, and
//! `daemon::control` writes it to the client as that takes it.
//!
//! # The path of a diagnosis
//!
//! `xlatd doctor` runs no daemon. `cli::running` finds those that run, by their control sockets and
//! in /proc, and `cli::doctor` reads the configurations. `Survey` (`host::survey`) looks at what
//! [`doctor`] is to know of the host: links, sysctls, processes, and by netlink where packets to
//! sample addresses ([`doctor::samples`]) go. [`doctor::translator::examine`] and
//! [`doctor::clat::examine`] go through their checks, in whose order the findings are.
//!
//! # The path of an undo
//!
//! 1. A plan is a list of [`plan::Resource`]s, and [`plan::Ledger::next_step`] says which to apply
//!    or to undo next. Before one is applied, `Host::apply` looks what is there, from which
//!    [`plan::Resource::undo`] makes the [`plan::Undo`].
//! 2. The line of the undo ([`plan::record`]) is written to the undo journal, which only a CLAT
//!    has. An undo of something that the kernel removes together with the TUN device, as its
//!    addresses and the routes to it, has no line.
//! 3. Once the resource is applied, the [`plan::Ledger`] keeps the undo, if something was changed.
//! 4. The undo is carried out, last first, when the resource is not in the plan any more, or when
//!    the CLAT ends: a signal has `Service::run` call `ClatDaemon::end`, and that `Host::undo_all`,
//!    which wants an empty plan, and at last removes the journal and the device. A sysctl or
//!    forwarding that another live CLAT needs, too, is handed over to it instead
//!    ([`plan::ledger::heir`]).
//!
//! *After a crash or SIGKILL*, what goes with the device is gone already, unless the device is
//! persistent. The next start of the CLAT, or `--cleanup`, first carries out what it finds in the
//! journal, last first (`Host::with_journal`); a journal of another boot or network namespace does
//! not count. What cannot be undone then is left in the journal for the end. A line is written
//! before its resource is applied, and stays if nothing was changed: it may be about something that
//! was never applied, or that was there before.
//!
//! *When another program removes a resource* of a CLAT, netlink says that the network has changed.
//! `ClatDaemon::scan_network` has `Host::repair` look for each resource, and apply again what is
//! gone, within the limits of [`plan::Ledger::found`]. The undo stays as it was. An undo that finds
//! nothing to remove counts as done.
//!
//! *The translator daemon* undoes its plan only if it fails to start. Afterwards `Host::finish`
//! drops the ledger, so what was set up on a persistent device stays, as with tayga. Addresses and
//! routes that the kernel removed while the device was down are brought back with `keep-net-admin`,
//! or else a warning names the command (`host::restore`).
#![forbid(unsafe_code)]

pub mod addr;
pub mod clat;
pub mod config;
pub mod doctor;
pub mod link;
pub mod pace;
pub mod plan;
pub mod report;
pub mod translate;
pub mod wire;
