//! The start of the translator.

use std::{fs, path::PathBuf};

use log::{debug, info, warn};
use xlatd::{
    addr::{AddressMap, Prefix4},
    config::Config,
    doctor::translator::warnings,
    plan::{self, firewall::Masquerade},
    report::hints::{self, Hints},
    translate::Translator,
};

use crate::{
    daemon::{
        control::Control,
        file_as_read::FileAsRead,
        map_file::{self, Read, log_mappings},
        options::{Options, drop_privileges, log_classes, translation_mtu},
        service::Service,
        translator::Daemon,
        worker,
        workers::{self, Role, Workers},
    },
    datapath::{
        PacketPath,
        device::{Device, Offload},
        leases::{Leases, create_directory},
    },
    error::{Error, system},
    host::{Host, survey::Survey},
    sys::{
        detach::{Readiness, Stdout},
        firewall::Firewall,
        kept_file::KeptFile,
        netlink::{LinkChanges, Netlink, nftables},
        pidfile::PidFile,
        random,
    },
};

/// Translates until a signal ends it, in as many processes as are configured. `readiness` is told
/// once packets can flow, and stdout goes where that says. Returns whether it has ended in order;
/// a worker that has not is reported by the first.
pub(crate) fn run(
    config: Config,
    options: &Options,
    readiness: Option<(Readiness, Stdout)>,
) -> Result<bool, Error> {
    let leave = "leave the terminal";
    match workers::start(config.workers)? {
        Role::First(workers) => {
            let awaited = readiness.as_ref().map(|(readiness, _)| readiness);
            let (mut service, mut daemon) = start(config, options, workers, awaited)?;
            if let Some((readiness, stdout)) = readiness {
                readiness.report_ready(stdout).map_err(system(leave))?;
            }
            service.run(&mut daemon)?;
            Ok(true)
        }
        Role::Other(number, parent, messages) => {
            if let Some((readiness, stdout)) = readiness {
                readiness.leave(stdout).map_err(system(leave))?;
            }
            Ok(worker::run(&config, options, number, parent, messages))
        }
    }
}

/// Attaches to the device, sets it up so that packets can flow, and drops privileges. Undoes the
/// set-up if any of this fails.
fn start(
    config: Config,
    options: &Options,
    workers: Option<Workers>,
    readiness: Option<&Readiness>,
) -> Result<(Service, Daemon), Error> {
    let directory = CreatedDirectory::new(&config);
    let mut start = Start::new(config, options, workers)?;
    let mut service = Service::new()?;
    // Before the device is set up, so that no later change of it is missed.
    let changes = LinkChanges::new().map_err(system("watch links by netlink"))?;
    let set_up = start.set_up(readiness, &mut service);
    let (pidfile, masquerade) = set_up.inspect_err(|_| start.host.undo_all())?;
    directory.keep();
    let Start {
        config,
        map,
        map_file,
        leases,
        workers,
        host,
        ..
    } = start;
    let (netlink, device) = host.finish();
    if let Some((file, _)) = &map_file
        && let Err(error) = file.open_to_read()
    {
        let path = file.path().display();
        warn!("{path}: SIGHUP will not read it: {error}");
    }
    log_addresses(&config, &map);
    let mut path = packet_path(&config, options, device, map, leases);
    if let Some(workers) = &workers {
        path.start_lending(workers.count());
    }
    let daemon = Daemon {
        config,
        configuration: options.configuration.clone(),
        pidfile,
        map_file,
        netlink,
        changes,
        _masquerade: masquerade,
        path,
        workers,
        reloading: None,
        reload_again: false,
        was_unusable: false,
    };
    Ok((service, daemon))
}

/// A daemon that starts.
struct Start<'a> {
    config: Config,
    options: &'a Options,
    map: AddressMap,
    map_file: Option<(KeptFile, FileAsRead)>,
    /// The text of the map-file.
    map_text: Option<Vec<u8>>,
    leases: Option<Leases>,
    workers: Option<Workers>,
    host: Host,
}

impl<'a> Start<'a> {
    /// Reads the map-file and the leases.
    fn new(config: Config, options: &'a Options, workers: Option<Workers>) -> Result<Self, Error> {
        let (mut map, map_file, map_text) = match map_file::open(&config)? {
            Some(file) => {
                let Read { map, as_read, text } = map_file::read(&config, &file)?;
                (map, Some((file, as_read)), Some(text))
            }
            None => (config.address_map(), None, None),
        };
        let leases = Leases::start(&config, &mut map)?;
        let offload = match config.offload {
            true => Offload::Both,
            false => Offload::None,
        };
        let mut host = Host::new(Firewall::default(), offload)?;
        host.workers = config.workers;
        Ok(Self {
            config,
            options,
            map,
            map_file,
            map_text,
            leases,
            workers,
            host,
        })
    }

    /// Sets the host up, has the other workers start, and drops privileges. Returns what is removed
    /// when it is dropped: the PID file, and the masquerade of a pool.
    fn set_up(
        &mut self,
        readiness: Option<&Readiness>,
        service: &mut Service,
    ) -> Result<(Option<PidFile>, Option<Netlink>), Error> {
        let options = self.options;
        // The kernel replaces a %d by a number.
        self.config.tun_device = self.host.attach(&self.config.tun_device)?;
        let config = &self.config;
        self.host.device.iter().try_for_each(Device::check_mtu)?;
        let routes = options.container.routes.iter().cloned();
        let plan = plan::setup(config).into_iter().chain(routes);
        self.host.change(plan.collect())?;
        let pidfile = write_pidfile(options)?;
        if let Some(leases) = &self.leases {
            leases.chown_directory(
                options.identity,
                &[config.map_file_path(), options.pidfile.clone()],
            );
        }
        if let Some(readiness) = readiness {
            let awaited = readiness.check_awaited();
            awaited.map_err(system("continue: the process that was started has ended"))?;
        }
        warn_of_host(config, &self.map);
        let map_text = self.map_text.take();
        if let (Some(workers), Some(device)) = (&mut self.workers, &self.host.device) {
            workers.begin(device, &self.map, map_text.as_deref())?;
        }
        let pool = options.container.masquerade;
        let masquerade = pool.and_then(|pool| masquerade_pool(pool, &config.tun_device));
        let socket = config
            .control_socket
            .path(&options.runtime_directory, &config.tun_device);
        service.control = socket.and_then(|path| Control::open(&path, options.identity));
        service.limits.privileges = drop_privileges(config, options)?;
        info!("Running as {}", service.limits.privileges);
        Ok((pidfile, masquerade))
    }
}

/// Connects the device to the translator.
fn packet_path(
    config: &Config,
    options: &Options,
    device: Device,
    map: AddressMap,
    leases: Option<Leases>,
) -> PacketPath {
    let mut settings = config.translation.clone();
    settings.mtu = translation_mtu(device.link.mtu);
    settings.sharers = config.workers.into();
    let translator = Translator::new(settings, map, random::seed());
    let log = log_classes(config, options);
    let hints = Hints::new(hints::Settings::TaygaConf);
    PacketPath::new(log, hints, device, translator, leases)
}

/// Warns of what keeps packets from passing on this host, as far as it is not still to be set up.
fn warn_of_host(config: &Config, map: &AddressMap) {
    let facts = Survey::new()
        .and_then(|mut survey| survey.start_of_translator(config, map, &config.tun_device));
    match facts {
        Ok(facts) => warnings(&facts).iter().for_each(|line| warn!("{line}")),
        Err(error) => debug!("{}", error.report()),
    }
}

/// Masquerades a pool, as long as the socket that is returned is open.
fn masquerade_pool(pool: Prefix4, device: &str) -> Option<Netlink> {
    let device = device.to_owned();
    match nftables::masquerade(&Masquerade { pool, device }) {
        Ok(netlink) => {
            info!("masquerade {pool}: done");
            Some(netlink)
        }
        Err(error) => {
            warn!(
                "Cannot masquerade {pool}, so IPv4 hosts need a route to it: {error} \
                 (XLATD_MASQUERADE=no, if they have)"
            );
            None
        }
    }
}

fn log_addresses(config: &Config, map: &AddressMap) {
    info!("The translator's IPv4 address: {}", config.ipv4_addr);
    info!("The translator's IPv6 address: {}", config.ipv6_addr);
    if let Some(prefix) = config.prefix {
        info!("NAT64 prefix: {}", prefix.prefix());
    }
    log_mappings(map);
}

/// The `data-dir`, if it was created here. It is removed again if the daemon does not start.
struct CreatedDirectory(Option<PathBuf>);

impl CreatedDirectory {
    fn new(config: &Config) -> Self {
        let created = config.data_dir.clone().filter(|directory| {
            create_directory(directory).unwrap_or_else(|error| {
                warn!(
                    "{}: cannot create the data-dir: {error}",
                    directory.display()
                );
                false
            })
        });
        Self(created)
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CreatedDirectory {
    fn drop(&mut self) {
        if let Some(directory) = &self.0 {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn write_pidfile(options: &Options) -> Result<Option<PidFile>, Error> {
    let write = |path: &PathBuf| {
        PidFile::write(path).map_err(|cause| Error::PidFile {
            path: path.clone(),
            cause,
        })
    };
    options.pidfile.as_ref().map(write).transpose()
}
