//! `xlatd doctor`: NAT44 and firewalls on the way.

use crate::{
    clat_firewall::Firewalld,
    doctor::{Patient, crosses, patient_case, sh},
    harness::xlatd_case,
};

/// Whichever program masquerades. A rule for another device is none.
#[test]
fn a_pool_without_masquerade_is_found() {
    patient_case(|patient| {
        let xlat = &patient.net.xlat;
        patient.breaks_and_mends("masquerade", "ip route add default via 198.51.100.2");
        for (on, off) in [
            (
                "nft add table inet n
                nft add chain inet n p '{ type nat hook postrouting priority 100; }'
                nft add rule inet n p oifname gate4 snat ip to 198.51.100.1",
                "nft delete table inet n",
            ),
            (
                "iptables-legacy -t nat -A POSTROUTING -s 192.168.0.0/16 -o gate4 -j MASQUERADE",
                "iptables-legacy -t nat -F",
            ),
            (
                "iptables-nft -t nat -A POSTROUTING -s 192.168.0.0/16 -o gate4 -j MASQUERADE",
                "iptables-nft -t nat -F",
            ),
        ] {
            sh(xlat, "nft delete table ip xlatd_nat 2>/dev/null || true");
            patient.has("masquerade");
            sh(xlat, on);
            patient.is_well();
            sh(xlat, off);
        }
        sh(
            xlat,
            "nft add table ip n
            nft add chain ip n p '{ type nat hook postrouting priority 100; }'
            nft add rule ip n p oifname gate6 masquerade",
        );
        patient.has("masquerade");
    });
}

/// Public addresses beside private ones need none, and each private one does.
#[test]
fn every_private_address_is_masqueraded() {
    xlatd_case(|net| {
        let maps = "map 9.9.9.9 2001:db8:6::99\nmap 10.1.1.1 2001:db8:6::98\n";
        let patient = Patient::set_up(net, maps, |net| {
            net.route_to_device();
            net.xlat.ip("route add 192.168.255.0/24 dev nat64
                route add 9.9.9.9/32 dev nat64
                route add 10.1.1.1/32 dev nat64");
        });
        let xlat = &net.xlat;
        patient.breaks_and_mends("masquerade", "ip route add default via 198.51.100.2");
        sh(xlat, "nft flush chain ip xlatd_nat postrouting");
        let rule = |network: &str| {
            format!("nft add rule ip xlatd_nat postrouting ip saddr {network} masquerade")
        };
        patient.breaks_and_mends("masquerade", &rule("192.168.0.0/16"));
        sh(xlat, "nft flush chain ip xlatd_nat postrouting");
        sh(
            xlat,
            &[rule("192.168.0.0/16"), rule("10.0.0.0/8")].join("\n"),
        );
        patient.is_well();
    });
}

/// Those of either version, in the direction in which connections are opened.
#[test]
fn firewalls_are_found() {
    patient_case(|patient| {
        for (chain, breaks) in [
            (
                "inet f forward",
                "nft add table inet f
                nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'
                nft add rule inet f forward ct state established,related accept
                nft add rule inet f forward meta nfproto ipv4 accept",
            ),
            (
                "ip f forward",
                "nft add table ip f
                nft add chain ip f forward '{ type filter hook forward priority 0; policy drop; }'",
            ),
            (
                "ip filter FORWARD",
                "iptables-nft -A FORWARD -i nat64 -j REJECT",
            ),
            (
                "iptables-legacy chain FORWARD",
                "iptables-legacy -P FORWARD DROP",
            ),
            (
                "ip6tables-legacy chain FORWARD",
                "ip6tables-legacy -P FORWARD DROP",
            ),
        ] {
            let said = patient.breaks_and_mends("firewall", breaks);
            assert!(said.problem().contains(chain), "{}", said.text);
            crosses(patient.net);
            sh(&patient.net.xlat, "nft flush ruleset");
        }
        // Hosts of the IPv4 side are kept out on purpose: with a pool that is no mistake.
        sh(
            &patient.net.xlat,
            "nft add table inet f
            nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'
            nft add rule inet f forward ct state established,related accept
            nft add rule inet f forward iifname gate6 oifname nat64 accept
            nft add rule inet f forward iifname nat64 oifname gate4 accept",
        );
        patient.is_well();
    });
}

/// Rules may let pass by the addresses that are translated, and not by device. Those for others let
/// nothing pass, and masquerade nothing.
#[test]
fn firewalls_by_address_are_understood() {
    patient_case(|patient| {
        let xlat = &patient.net.xlat;
        let accepting = |prefix: &str, pool: &str| {
            format!(
                "nft add table inet f
                nft add chain inet f forward \
                    '{{ type filter hook forward priority 0; policy drop; }}'
                nft add set inet f pools '{{ type ipv4_addr; flags interval; }}'
                nft add element inet f pools '{{ {pool}, 203.0.113.0/24 }}'
                nft add rule inet f forward \
                    ct state vmap '{{ established : accept, invalid : drop }}'
                nft add rule inet f forward \
                    ip6 daddr {prefix} meta l4proto '{{ tcp, udp, icmpv6 }}' accept
                nft add rule inet f forward ip saddr @pools accept"
            )
        };
        for (prefix, pool) in [
            ("2001:db8:64::/96", "192.168.255.0/24"),
            ("2001:db8:64::/95", "192.168.252.0/22"),
        ] {
            sh(xlat, &accepting(prefix, pool));
            crosses(patient.net);
            patient.is_well();
            sh(xlat, "nft flush ruleset");
        }
        for (prefix, pool) in [
            ("2001:db8:65::/96", "192.168.255.0/24"),
            ("2001:db8:64::/96", "192.168.254.0/24"),
        ] {
            sh(xlat, &accepting(prefix, pool));
            patient.has("firewall");
            sh(xlat, "nft flush ruleset");
        }
        sh(
            xlat,
            "iptables-nft -P FORWARD DROP
            iptables-nft -A FORWARD -s 192.168.255.0/24 -j ACCEPT
            iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        );
        patient.is_well();
        sh(xlat, "nft flush ruleset");
        sh(
            xlat,
            "ip route add default via 198.51.100.2
            iptables-nft -t nat -A POSTROUTING -s 192.168.1.0/24 -o gate4 -j MASQUERADE",
        );
        patient.has("masquerade");
    });
}

/// Hosts of containers have many devices: that of the default route is looked at all the same.
#[test]
fn the_way_out_is_found_among_many_devices() {
    patient_case(|patient| {
        let xlat = &patient.net.xlat;
        let others: String = (1..=40)
            .map(|number| {
                format!(
                    "link add c{number} type veth peer name d{number}
                    link set c{number} up
                    link set d{number} up
                    address add 10.9.{number}.1/24 dev c{number}
                    address add 2001:db8:9:{number}::1/64 dev c{number} nodad\n"
                )
            })
            .collect();
        xlat.ip(&others);
        xlat.ip("link delete gate4
            link add gate4 type veth peer name far4
            link set gate4 up
            link set far4 up
            address add 198.51.100.1/24 dev gate4
            route add default via 198.51.100.2");
        sh(
            xlat,
            "sysctl -qw net.ipv4.conf.gate4.forwarding=1
            nft add table inet f
            nft add chain inet f n '{ type nat hook postrouting priority 100; }'
            nft add rule inet f n oifname gate4 masquerade
            nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'
            nft add rule inet f forward ct state established,related accept
            nft add rule inet f forward oifname nat64 accept
            nft add rule inet f forward iifname nat64 oifname gate4 accept",
        );
        patient.is_well();
        sh(
            xlat,
            "nft insert rule inet f forward iifname nat64 oifname gate4 drop
            nft insert rule inet f forward iifname nat64 oifname c7 accept",
        );
        let said = patient.has("firewall");
        assert!(
            said.text.contains("between nat64 and gate4"),
            "{}",
            said.text
        );
    });
}

/// The real one: connections to the translator need a policy, and those that it lets out a zone.
#[test]
fn firewalld_is_found() {
    patient_case(|patient| {
        let xlat = &patient.net.xlat;
        let Some(firewalld) = Firewalld::start(xlat) else {
            return;
        };
        let said = patient.has("firewall");
        assert!(
            said.problem().contains("inet firewalld filter_FORWARD"),
            "{}",
            said.text
        );
        let commands = said.commands().join("; ");
        sh(xlat, &firewalld.command(&format!("sh -e -c '{commands}'")));
        crosses(patient.net);
        patient.is_well();
    });
}
