//! What a translator does to its host: the plan that never changes.

use super::Step;
use crate::config::Config;

/// What is done to the system at the start, in this order.
///
/// The device is up before it gets routes, because the kernel has none by a device that is down. It is only set up where
/// `tun-up` says so: `tun-route` alone relies on a device that was set up before, as with tayga.
pub fn setup(config: &Config) -> Vec<Step> {
    let device = || config.tun_device.clone();
    let mut steps = vec![Step::CreateDevice { device: device() }];
    if let Some(length) = config.tun_queue_length {
        steps.push(Step::SetQueueLength {
            device: device(),
            length,
        });
    }
    if config.tun_up {
        steps.push(Step::SetUp { device: device() });
    }
    steps.extend(config.tun_ip.iter().map(|&address| Step::AddAddress {
        device: device(),
        address,
    }));
    steps.extend(config.tun_route.iter().map(|route| Step::AddRoute {
        device: device(),
        destination: route.network(),
    }));
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;
    use crate::config::Notice;

    fn config(text: &str) -> (Config, Vec<Notice>) {
        let text = format!("tun-device nat64\nipv4-addr 192.0.2.254\n{text}");
        Config::read(text).unwrap()
    }

    fn steps(text: &str) -> Vec<String> {
        let (config, _) = config(text);
        setup(&config).iter().map(ToString::to_string).collect()
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
    fn the_number_of_a_device_is_the_kernels() {
        let (mut config, _) = config("prefix 2001:db8::/96\ntun-up yes");
        config.tun_device = "nat%d".to_owned();
        let steps = setup(&config)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(steps[0], "create nat%d, with a number from the kernel");
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
    fn an_undo_is_undone_by_its_step() {
        let (config, _) =
            config("prefix 2001:db8::/96\ntun-up yes\ntun-ip 192.0.2.1\ntun-route ::/0");
        let steps = setup(&config);
        let undos: Vec<_> = steps.iter().filter_map(Step::undo).collect();
        assert_eq!(
            undos.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "set nat64 down",
                "remove address 192.0.2.1/32 from nat64",
                "remove the route ::/0 to nat64",
            ]
        );
        let again: Vec<_> = undos.iter().filter_map(Step::undo).collect();
        assert_eq!(again, steps[1..], "a device goes with its descriptor");
    }
}
