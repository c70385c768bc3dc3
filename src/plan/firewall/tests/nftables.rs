//! Whole rulesets, and what becomes of packets in them.

use super::{
    super::{
        nftables::{HEADER_LEN, MAX_CHAINS, MAX_RULES, Request, masquerades, obstacles},
        obstacle::{Chain, Manager, Obstacle},
        walk::IpVersion,
    },
    kernel::{Kernel, chain, chain_of, element, elements, rule},
    *,
};
use crate::plan::{Family, Table};

/// The answers of a kernel with the chains of firewalld in the zone public, and with the TUN
/// device in the zone trusted.
fn firewalld(request: &Request, has_device: bool) -> Vec<Vec<u8>> {
    let trusted = data_of_verdict(GOTO, "filter_FWD_trusted");
    let element_of = |state: u32| element(&state.to_ne_bytes(), &[]);
    match request {
        Request::Chains => vec![
            chain("filter_FORWARD", Some(NF_ACCEPT)),
            chain("filter_FORWARD_ZONES", None),
            chain("filter_FWD_public", None),
            chain("filter_FWD_trusted", None),
        ],
        Request::Elements(_, set) if set == "__set0" => {
            vec![elements(&[element_of(ESTABLISHED), element_of(RELATED)])]
        }
        Request::Elements(..) if has_device => {
            vec![elements(&[element(&device("clat"), &trusted)])]
        }
        Request::Elements(..) => Vec::new(),
        Request::Rules(_, chain) => match chain.as_deref().unwrap_or_default() {
            "filter_FORWARD" => vec![
                rule(&[state(), lookup("__set0"), accept()]),
                rule(&[iifname("lo"), accept()]),
                rule(&[
                    address(24, 12),
                    cmp(EQ, &[0; 12]),
                    expression("reject", &[]),
                ]),
                rule(&[verdict(JUMP, "filter_FORWARD_ZONES")]),
                rule(&[expression("reject", &[])]),
            ],
            "filter_FORWARD_ZONES" => vec![
                rule(&[meta(IIFNAME), vmap("__map0")]),
                rule(&[verdict(GOTO, "filter_FWD_public")]),
            ],
            "filter_FWD_trusted" => vec![rule(&[accept()])],
            _ => Vec::new(),
        },
    }
}

/// A chain with the policy accept that rejects by its last rule what no chain before accepts.
#[test]
fn firewalld_is_found_until_it_has_the_device() {
    let found = obstacles(&packets(), |request, _| firewalld(request, false));
    let table = Table::new(Family::Inet, "firewalld");
    let expected = Obstacle {
        chain: Chain::Nftables(table, "filter_FORWARD".to_owned()),
        manager: Manager::Firewalld,
        version: IpVersion::V6,
        leaves: true,
        drops_first: true,
        drops_answers: false,
    };
    assert_eq!(found, [expected]);
    let chain = "the nftables chain inet firewalld filter_FORWARD drops forwarded packets";
    assert_eq!(found[0].to_string(), chain);
    let found = obstacles(&packets(), |request, _| firewalld(request, true));
    assert_eq!(found, []);
}

/// It drops new connections by the policy of a chain of its own, for the time of a reload.
#[test]
fn firewalld_that_loads_its_rules_is_no_obstacle() {
    let with = |table| {
        let base = Some((HOOK_FORWARD, NF_DROP));
        let drops = chain_of(INET, table, "filter_forward", base);
        obstacles(&packets(), |request, _| match request {
            Request::Chains => vec![drops.clone()],
            _ => Vec::new(),
        })
    };
    assert_eq!(with("firewalld_policy_drop"), []);
    assert_eq!(with("firewalld_policy").len(), 1);
}

/// Whatever the kernel answers, reading it ends.
#[test]
fn no_answer_breaks_the_reader() {
    let all = |request: &Request| firewalld(request, true);
    let longest = all(&Request::Chains).concat().len().max(600);
    for at in 0..longest {
        obstacles(&packets(), |request, _| {
            let mut answers = all(request);
            for answer in &mut answers {
                answer.truncate(at);
            }
            answers
        });
        obstacles(&packets(), |request, _| {
            let mut answers = all(request);
            for answer in &mut answers {
                if let Some(octet) = answer.get_mut(at) {
                    *octet ^= 0xff;
                }
            }
            answers
        });
    }
}

/// No more is asked for than the limit, whatever there is; where the rules behind it are not
/// known, the policy decides.
#[test]
fn long_chains_are_read_in_part() {
    let mut read = 0;
    let found = obstacles(&packets(), |request, limit| {
        let answers = match request {
            Request::Chains => {
                assert_eq!(limit, MAX_CHAINS);
                return vec![chain("a", Some(NF_DROP)), chain("b", Some(NF_ACCEPT))];
            }
            _ => vec![rule(&[super::limit()]); limit],
        };
        read += answers.len();
        answers
    });
    assert_eq!(read, MAX_RULES);
    assert_eq!(found.len(), 1);
    assert!(found[0].drops_first && found[0].drops_answers);
}

/// NFT_MSG_GETCHAIN, NFT_MSG_GETRULE and NFT_MSG_GETSETELEM, and struct nfgenmsg with the names of
/// table, chain (NFTA_RULE_TABLE and NFTA_RULE_CHAIN) and set (NFTA_SET_ELEM_LIST_SET).
#[test]
fn requests_are_as_the_kernel_reads_them() {
    let table = |family| Table::new(family, "t");
    let names = |request: &Request| {
        let octets = request.octets();
        let (header, attributes) = octets.split_at(HEADER_LEN);
        let expected = [name_attribute(1, "t"), name_attribute(2, "x")].concat();
        assert_eq!(attributes, expected);
        header.to_vec()
    };
    assert_eq!(Request::Chains.message_type(), 0xa04);
    assert_eq!(Request::Chains.octets(), [0; 4]);
    for (family, number) in [(Family::Inet, 1), (Family::Ip, 2), (Family::Ip6, 10)] {
        let rules = Request::Rules(table(family), Some("x".to_owned()));
        assert_eq!(rules.message_type(), 0xa07);
        assert_eq!(names(&rules), [number, 0, 0, 0]);
        let elements = Request::Elements(table(family), "x".to_owned());
        assert_eq!(elements.message_type(), 0xa0d);
        assert_eq!(names(&elements), [number, 0, 0, 0]);
    }
    let all = Request::Rules(table(Family::Inet), None).octets();
    assert_eq!(all[HEADER_LEN..], name_attribute(1, "t"));
}

/// Chains of the family inet, and of that of the packets. Those of bridges and ARP are asked for as
/// well, and are no obstacle.
#[test]
fn chains_of_another_family_are_no_obstacle() {
    let [device, other] = [LinkRef::new(9, "clat"), LinkRef::new(2, "eth0")];
    for (family, drops_v4, drops_v6) in [
        (INET, true, true),
        (IPV4, true, false),
        (IPV6, false, true),
        (3, false, false), // NFPROTO_ARP
        (5, false, false), // NFPROTO_NETDEV
        (7, false, false), // NFPROTO_BRIDGE
    ] {
        for (version, drops) in [(IpVersion::V4, drops_v4), (IpVersion::V6, drops_v6)] {
            let packets = Packet::connection(version, true, &device, &other, None);
            let found = obstacles(&packets, |request, _| match request {
                Request::Chains => {
                    let base = Some((HOOK_FORWARD, NF_DROP));
                    vec![chain_of(family, "t", "c", base)]
                }
                _ => Vec::new(),
            });
            assert_eq!(found.len(), usize::from(drops), "{family} {version:?}");
            assert!(found.iter().all(|one| one.version == version));
        }
    }
}

/// Only what is in the hook forward sees packets that are forwarded, and its policy is what is not
/// decided by a rule.
#[test]
fn chains_of_another_hook_are_no_obstacle() {
    for (base, drops) in [
        (Some((HOOK_FORWARD, NF_DROP)), true),
        (Some((HOOK_FORWARD, NF_ACCEPT)), false),
        (Some((0, NF_DROP)), false), // NF_INET_PRE_ROUTING
        (Some((1, NF_DROP)), false), // NF_INET_LOCAL_IN
        (Some((3, NF_DROP)), false), // NF_INET_LOCAL_OUT
        (Some((HOOK_POSTROUTING, NF_DROP)), false),
        (None, false),
    ] {
        let found = obstacles(&packets(), |request, _| match request {
            Request::Chains => vec![chain_of(INET, "t", "c", base)],
            _ => Vec::new(),
        });
        assert_eq!(found.len(), usize::from(drops), "{base:?}");
    }
}

/// The manager is known by the chains of the same table, and not by those of another one.
#[test]
fn the_manager_is_that_of_the_table() {
    let base = Some((HOOK_FORWARD, NF_DROP));
    let found = obstacles(&packets(), |request, _| match request {
        Request::Chains => vec![
            chain_of(IPV6, "filter", "FORWARD", base),
            chain_of(INET, "filter", "forward", base),
            chain_of(IPV6, "filter", "DOCKER-USER", None),
        ],
        _ => Vec::new(),
    });
    let managers: Vec<_> = found.iter().map(|one| one.manager).collect();
    assert_eq!(managers, [Manager::Docker, Manager::Unknown]);
}

/// Each chain decides for itself: what one accepts another one drops.
#[test]
fn all_chains_of_the_hook_have_to_accept() {
    let base = |policy| Some((HOOK_FORWARD, policy));
    let found = obstacles(&packets(), |request, _| match request {
        Request::Chains => vec![
            chain_of(INET, "a", "accepts", base(NF_ACCEPT)),
            chain_of(INET, "b", "drops", base(NF_DROP)),
            chain_of(INET, "c", "drops", base(NF_ACCEPT)),
        ],
        Request::Rules(table, _) if table.name == "c" => {
            vec![rule(&[
                state(),
                cmp(EQ, &ESTABLISHED.to_ne_bytes()),
                drop(),
            ])]
        }
        _ => Vec::new(),
    });
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.chain.to_string(), one.drops_first, one.drops_answers))
        .collect();
    let chain = |table: &str| format!("nftables chain inet {table} drops");
    assert_eq!(found, [(chain("b"), true, true), (chain("c"), false, true)]);
}

/// The verdict of a chain is that of the first rule that decides, and of a chain that is called,
/// that of this one (nft(8), "VERDICT STATEMENT").
#[test]
fn the_first_rule_that_decides_counts() {
    let jump = |name| rule(&[verdict(JUMP, name)]);
    let goto = |name| rule(&[verdict(GOTO, name)]);
    let (accept, drop) = (|| rule(&[accept()]), || rule(&[drop()]));
    let back = || rule(&[verdict(RETURN, "")]);
    for (policy, forward, other, drops) in [
        (NF_ACCEPT, vec![], vec![], false),
        (NF_DROP, vec![], vec![], true),
        (NF_ACCEPT, vec![drop()], vec![], true),
        (NF_DROP, vec![accept()], vec![], false),
        (NF_DROP, vec![accept(), drop()], vec![], false),
        (NF_ACCEPT, vec![drop(), accept()], vec![], true),
        (
            NF_ACCEPT,
            vec![rule(&[expression("reject", &[])])],
            vec![],
            true,
        ),
        // What is called decides, or else what follows.
        (NF_ACCEPT, vec![jump("other")], vec![drop()], true),
        (NF_DROP, vec![jump("other")], vec![accept()], false),
        (NF_DROP, vec![jump("other"), accept()], vec![], false),
        (
            NF_DROP,
            vec![jump("other"), accept()],
            vec![back(), drop()],
            false,
        ),
        (
            NF_ACCEPT,
            vec![jump("other"), drop()],
            vec![back(), accept()],
            true,
        ),
        // Nothing follows a goto, or a return of the chain of the hook: the policy decides.
        (NF_DROP, vec![goto("other"), accept()], vec![], true),
        (NF_ACCEPT, vec![goto("other"), drop()], vec![back()], false),
        (NF_DROP, vec![goto("other")], vec![accept()], false),
        (NF_DROP, vec![back(), accept()], vec![], true),
        (NF_ACCEPT, vec![back(), drop()], vec![], false),
        // A chain that is not there, or cannot be read, decides nothing.
        (NF_DROP, vec![jump("none"), accept()], vec![], false),
    ] {
        let kernel = Kernel::new(policy, forward).chain("other", other);
        assert_eq!(
            kernel.drops(&packets()),
            (drops, drops),
            "{:?}",
            kernel.chains
        );
    }
}

/// A rule that depends on what is not known decides only if it accepts packets of the TUN device.
#[test]
fn what_is_not_known_lets_pass_what_is_of_the_device() {
    let [of_device, of_any] = [iifname("clat"), limit()];
    for (policy, expressions, drops) in [
        (NF_DROP, vec![of_any.clone(), accept()], true),
        (
            NF_DROP,
            vec![of_device.clone(), of_any.clone(), accept()],
            false,
        ),
        (
            NF_ACCEPT,
            vec![of_device.clone(), of_any.clone(), drop()],
            false,
        ),
        (NF_ACCEPT, vec![of_any.clone(), drop()], false),
        (
            NF_DROP,
            vec![of_device.clone(), of_any.clone(), verdict(JUMP, "accepts")],
            false,
        ),
        (
            NF_ACCEPT,
            vec![of_device.clone(), of_any.clone(), verdict(JUMP, "drops")],
            false,
        ),
        // Those to which it does not apply go on behind the rule.
        (
            NF_DROP,
            vec![of_device.clone(), of_any.clone(), verdict(GOTO, "none")],
            false,
        ),
        (NF_DROP, vec![of_device, of_any, verdict(RETURN, "")], false),
    ] {
        let behind = rule(&[iifname("clat"), oifname("eth0"), accept()]);
        let has_more = expressions.concat().ends_with(&verdict(GOTO, "none"))
            || expressions.concat().ends_with(&verdict(RETURN, ""));
        let rules = [rule(&expressions)].into_iter();
        let rules = rules.chain(has_more.then_some(behind)).collect();
        let kernel = Kernel::new(policy, rules)
            .chain("accepts", vec![rule(&[accept()])])
            .chain("drops", vec![rule(&[drop()])]);
        assert_eq!(kernel.drops(&packets()).0, drops, "{:?}", kernel.chains);
    }
}

/// Rules in the hook postrouting that change the source of a packet, as far as they may apply.
#[test]
fn masquerading_is_found_where_it_may_apply() {
    let [packet, _] = packets();
    let masquerade = || expression("masq", &[]);
    let to_other = |code| rule(&[oifname("eth0"), verdict(code, "other")]);
    let masquerading = |tests: &[Vec<u8>]| rule(&[tests, &[masquerade()]].concat());
    for (rules, other, expected) in [
        (vec![], vec![], false),
        (vec![masquerading(&[])], vec![], true),
        (vec![masquerading(&[oifname("eth0")])], vec![], true),
        (vec![masquerading(&[oifname("eth1")])], vec![], false),
        (vec![masquerading(&[limit()])], vec![], true),
        (vec![rule(&[accept()]), masquerading(&[])], vec![], false),
        (vec![rule(&[drop()]), masquerading(&[])], vec![], false),
        (
            vec![rule(&[verdict(RETURN, "")]), masquerading(&[])],
            vec![],
            false,
        ),
        (
            vec![rule(&[limit(), accept()]), masquerading(&[])],
            vec![],
            true,
        ),
        (
            vec![rule(&[expression("counter", &[])]), masquerading(&[])],
            vec![],
            true,
        ),
        (vec![to_other(JUMP)], vec![masquerading(&[])], true),
        (vec![to_other(GOTO)], vec![masquerading(&[])], true),
        (vec![to_other(JUMP)], vec![], false),
        (vec![to_other(JUMP), masquerading(&[])], vec![], true),
        // Chains that call each other end.
        (
            vec![to_other(JUMP)],
            vec![rule(&[verdict(JUMP, "post")])],
            false,
        ),
        (vec![], vec![masquerading(&[])], false),
    ] {
        let of_hook = |hook| {
            masquerades(&packet, |request, _| match request {
                Request::Chains => vec![
                    chain_of(INET, "nat", "post", Some((hook, NF_ACCEPT))),
                    chain_of(INET, "nat", "other", None),
                ],
                Request::Rules(_, chain) => match chain.as_deref() {
                    Some("post") => rules.clone(),
                    _ => other.clone(),
                },
                Request::Elements(..) => Vec::new(),
            })
        };
        assert_eq!(of_hook(HOOK_POSTROUTING), expected, "{rules:?} {other:?}");
        assert!(!of_hook(HOOK_FORWARD), "{rules:?}");
    }
}
