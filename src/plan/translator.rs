//! The plan of a translator, which never changes.

use std::net::IpAddr;

use super::{Protocol, Resource, Route, Target, route::MAIN_TABLE};
use crate::{addr::IpPrefix, config::Config, link::LinkRef};

/// What is to be there at the start, in this order.
///
/// The device is up before it gets routes, because the kernel has none by a device that is down. It
/// is only set up where `tun-up` says so: `tun-route` alone relies on a device that was set up
/// before, as with tayga.
pub fn setup(config: &Config) -> Vec<Resource> {
    let name = config.tun_device.clone();
    let link = || LinkRef::tun(&config.tun_device);
    let route = |destination| Route {
        destination,
        target: Target::Device(link()),
        table: MAIN_TABLE,
        metric: 0,
        mtu: None,
        advmss: None,
        protocol: Protocol::Static,
    };
    let mut plan = vec![Resource::Device { name }];
    let queue_length = config.tun_queue_length;
    plan.extend(queue_length.map(|packets| Resource::QueueLength(link(), packets)));
    plan.extend(config.tun_up.then(|| Resource::LinkUp(link())));
    let addresses = config.tun_ip.iter();
    plan.extend(addresses.map(|address| Resource::Address(link(), *address)));
    let routes = config.tun_route.iter().map(|prefix| prefix.network());
    plan.extend(routes.map(|destination| Resource::Route(route(destination))));
    plan
}

/// A route by a router, for the administrator.
pub fn route_by(router: IpAddr, link: LinkRef, destination: IpPrefix) -> Resource {
    Resource::Route(Route {
        destination,
        target: Target::Router(router, link),
        table: MAIN_TABLE,
        metric: 0,
        mtu: None,
        advmss: None,
        protocol: Protocol::Static,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;
    use crate::plan::Before;

    fn config(text: &str) -> Config {
        let text = format!("tun-device nat64\nipv4-addr 192.0.2.254\n{text}");
        Config::read(text).unwrap().0
    }

    fn steps(text: &str) -> Vec<String> {
        let plan = setup(&config(text));
        plan.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_done() {
        assert_eq!(
            steps("prefix 2001:db8::/96"),
            ["attach to nat64, or create it"]
        );
    }

    /// dev_alloc_name of Linux: the device has another name than the configuration says.
    #[test]
    fn the_kernel_numbers_a_device() {
        let mut config = config("prefix 2001:db8::/96\ntun-up yes");
        config.tun_device = "nat%d".to_owned();
        let first = setup(&config)[0].to_string();
        assert_eq!(first, "create nat%d, with a number from the kernel");
    }

    /// The kernel refuses routes by a device that is down, and routes with host bits.
    #[test]
    fn the_device_is_up_before_its_routes() {
        assert_eq!(
            steps(
                "prefix 2001:db8::/96\n\
                 tun-route 192.0.2.7/24\n\
                 tun-route 2001:db8::1/32\n\
                 tun-ip 192.0.2.1/24\n\
                 tun-ip 2001:db8:1::1\n\
                 tun-up yes\n"
            ),
            [
                "attach to nat64, or create it",
                "set nat64 up",
                "add address 192.0.2.1/24 to nat64",
                "add address 2001:db8:1::1/128 to nat64",
                "route 192.0.2.0/24 to nat64",
                "route 2001:db8::/32 to nat64",
            ]
        );
    }

    #[test]
    fn tun_route_does_not_set_the_device_up() {
        assert_eq!(
            steps("prefix 2001:db8::/96\ntun-route 192.0.2.0/24"),
            [
                "attach to nat64, or create it",
                "route 192.0.2.0/24 to nat64"
            ]
        );
    }

    #[test]
    fn the_device_goes_with_its_descriptor_and_the_rest_is_undone() {
        let config = config(
            "prefix 2001:db8::/96\ntun-up yes\ntun-ip 192.0.2.1\ntun-route ::/0\n\
             tun-queue-length 1000\n",
        );
        let plan = setup(&config);
        let undos = plan.iter().filter_map(|resource| {
            let undo = resource.undo(Before::QueueLength(500))?;
            Some(undo.to_string())
        });
        assert_eq!(
            undos.collect::<Vec<_>>(),
            [
                "set the queue length of nat64 to 500",
                "set nat64 down",
                "remove address 192.0.2.1/32 from nat64",
                "remove the route ::/0 to nat64",
            ]
        );
    }
}
