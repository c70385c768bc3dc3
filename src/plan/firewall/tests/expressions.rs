//! What the expressions of a rule make of a packet: whether the rule applies, and to what.

use std::net::IpAddr;

use super::{
    super::{
        expressions::{NoSets, carry_out},
        walk::{Action, Fit, IpVersion, Rule},
    },
    *,
};

/// A rule that applies, and one that does not.
const YES: Fit = Fit::Yes;
const NO: Fit = Fit::No;
/// Rules that apply to some packets; the second one to packets of the TUN device.
const SOME: Fit = Fit::Unknown {
    names_device: false,
};
const SOME_OF_DEVICE: Fit = Fit::Unknown { names_device: true };

fn seen(packet: &Packet, expressions: &[Vec<u8>]) -> Rule {
    carry_out(&expressions.concat(), packet, &mut NoSets)
}

fn fit(packet: &Packet, expressions: &[Vec<u8>]) -> Fit {
    seen(packet, expressions).fit
}

/// A test of packets one by one, in a rule of its own.
fn assert_fits(packets: [&Packet; 2], test: &[u8], expected: [Fit; 2]) {
    let fits = packets.map(|packet| fit(packet, &[test.to_vec()]));
    assert_eq!(fits, expected, "{test:?}");
}

/// Packets of IPv4: the first one of a connection that leaves the TUN device, and its answer.
fn packets_v4() -> [Packet; 2] {
    let [device, other] = [LinkRef::new(9, "clat"), LinkRef::new(2, "eth0")];
    Packet::connection(IpVersion::V4, true, &device, &other, None)
}

/// What is compared with the devices and the family of a packet, and whether it names the TUN
/// device: its name or number on the side that the packet has it on.
#[test]
fn devices_and_family_of_a_packet_are_known() {
    let [there, back] = packets();
    let [there_v4, _] = packets_v4();
    let index = |index: u32| index.to_ne_bytes().to_vec();
    for (packet, key, value, other, names_device) in [
        (&there, IIF, index(9), index(2), true),
        (&there, OIF, index(2), index(9), false),
        (&there, IIFNAME, device("clat"), device("eth0"), true),
        (&there, OIFNAME, device("eth0"), device("clat"), false),
        (&back, IIF, index(2), index(9), false),
        (&back, OIF, index(9), index(2), true),
        (&back, IIFNAME, device("eth0"), device("clat"), false),
        (&back, OIFNAME, device("clat"), device("eth0"), true),
        (&there, IIFNAME, b"cla".to_vec(), b"lat".to_vec(), true),
        // ETH_P_IPV6 and ETH_P_IP, NFPROTO_IPV6 and NFPROTO_IPV4.
        (&there, PROTOCOL, vec![0x86, 0xdd], vec![8, 0], false),
        (&there_v4, PROTOCOL, vec![8, 0], vec![0x86, 0xdd], false),
        (&there, NFPROTO, vec![10], vec![2], false),
        (&there_v4, NFPROTO, vec![2], vec![10], false),
    ] {
        let fit = |operator, value: &[u8]| {
            let test = [meta(key), cmp(operator, value)].concat();
            let alone = fit(packet, std::slice::from_ref(&test));
            let with_more = fit(packet, &[test, limit()]);
            (alone, with_more)
        };
        let some = Fit::Unknown { names_device };
        assert_eq!(fit(EQ, &value), (YES, some), "{key} {value:?}");
        assert_eq!(fit(EQ, &other), (NO, NO), "{key} {other:?}");
        assert_eq!(fit(NEQ, &value), (NO, NO), "{key} {value:?}");
        // All packets but those of another device are not those of the TUN device.
        assert_eq!(fit(NEQ, &other), (YES, SOME), "{key} {other:?}");
    }
}

/// What a packet has to be for a rule is all of what its expressions test.
#[test]
fn a_rule_applies_if_all_its_tests_hold() {
    let [there, _] = packets();
    for (expressions, expected) in [
        (vec![], YES),
        (vec![iifname("clat"), oifname("eth0")], YES),
        (vec![iifname("clat"), oifname("eth1")], NO),
        (vec![oifname("eth1"), iifname("clat")], NO),
        (vec![limit()], SOME),
        (vec![limit(), iifname("clat")], SOME_OF_DEVICE),
        (vec![limit(), oifname("eth0")], SOME),
        (vec![limit(), oifname("eth1")], NO),
    ] {
        assert_eq!(fit(&there, &expressions), expected, "{expressions:?}");
    }
}

/// Registers of 128 bits are the same as four of 32 bits (enum nft_registers).
#[test]
fn registers_have_two_names() {
    let [there, _] = packets();
    for (written, read, expected) in [
        (1, 1, YES),
        (1, 8, YES),  // NFT_REG32_00
        (2, 12, YES), // NFT_REG32_04
        (4, 20, YES), // NFT_REG32_12
        (9, 9, YES),
        (1, 2, SOME),
        (1, 9, SOME),
    ] {
        let expressions = [
            meta_into(written, IIF),
            cmp_of(read, EQ, &9_u32.to_ne_bytes()),
        ];
        assert_eq!(fit(&there, &expressions), expected, "{written} {read}");
    }
}

/// A register has what was loaded last, also if that is not known.
#[test]
fn what_is_not_known_takes_the_place_of_what_was() {
    let [there, _] = packets();
    let is_device = cmp(NEQ, &device("clat"));
    for what in [
        meta(MARK),
        expression(
            "ct",
            &[number_attribute(2, 1), number_attribute(1, REGISTER)],
        ),
        expression(
            "immediate",
            &[
                number_attribute(1, REGISTER),
                attribute(2, &attribute(1, &[0; 4])),
            ],
        ),
        address(8, 16),
        payload(2, 2, 2),
        expression("exthdr", &[]),
        expression("fib", &[]),
        expression("rt", &[]),
        expression("numgen", &[]),
        expression("hash", &[]),
        expression("socket", &[]),
        expression("osf", &[]),
        expression("tunnel", &[]),
        expression("xfrm", &[]),
        expression("byteorder", &[]),
        expression("inner", &[]),
    ] {
        let expressions = [meta(IIFNAME), what, is_device.clone()];
        assert_eq!(fit(&there, &expressions), SOME, "{expressions:?}");
    }
    // `meta mark set iif` reads a register and loads none.
    let set_mark = [(2, MARK), (3, REGISTER)].map(|(kind, one)| number_attribute(kind, one));
    let expressions = [meta(IIFNAME), expression("meta", &set_mark), is_device];
    assert_eq!(fit(&there, &expressions), NO);
}

/// The first packet of a connection is new, and its answer established.
#[test]
fn the_state_of_the_connection_is_known() {
    let [first, answer] = packets();
    for (test, of_first, of_answer) in [
        (state_is_one_of(ESTABLISHED | RELATED), NO, YES),
        (state_is_one_of(NEW), YES, NO),
        (state_is_one_of(NEW | ESTABLISHED), YES, YES),
        (state_is_one_of(INVALID), NO, NO),
        ([state(), cmp(EQ, &NEW.to_ne_bytes())].concat(), YES, NO),
        ([state(), cmp(NEQ, &NEW.to_ne_bytes())].concat(), NO, YES),
        (
            [state(), cmp(EQ, &ESTABLISHED.to_ne_bytes())].concat(),
            NO,
            YES,
        ),
    ] {
        assert_fits([&first, &answer], &test, [of_first, of_answer]);
        let expressions = [limit(), test];
        if of_first == YES {
            assert_eq!(fit(&first, &expressions), SOME, "a state is no device");
        }
    }
}

/// `[ bitwise reg 1 = ( reg 1 & MASK ) ^ XOR ]` of a number of 32 bits, and its effect on others.
#[test]
fn a_mask_and_an_exclusive_or_change_a_value() {
    let [there, _] = packets();
    // The number of the device is 9: ( 9 & 0xc ) ^ 0xa.
    let number = |number: u32| number.to_ne_bytes();
    let change = bitwise(&number(0xc), &number(0xa));
    for (value, expected) in [(2, YES), (8, NO), (9, NO), (10, NO), (15, NO), (3, NO)] {
        let expressions = [meta(IIF), change.clone(), cmp(EQ, &number(value))];
        assert_eq!(fit(&there, &expressions), expected, "{value}");
    }
    // It is still of the device.
    let expressions = [meta(IIF), change.clone(), cmp(EQ, &number(2)), limit()];
    assert_eq!(fit(&there, &expressions), SOME_OF_DEVICE);
    // Of what is not known nothing is.
    let expressions = [meta(MARK), change, cmp(EQ, &number(0xa))];
    assert_eq!(fit(&there, &expressions), SOME);
    // NFT_BITWISE_LSHIFT, by NFTA_BITWISE_DATA.
    let shift = [(1, REGISTER), (2, REGISTER), (3, 4), (6, 1)];
    let shift = shift
        .map(|(kind, one)| number_attribute(kind, one))
        .concat();
    let shift = expression("bitwise", &[shift, attribute(7, &attribute(1, &number(1)))]);
    let expressions = [meta(IIF), shift, cmp(EQ, &number(9))];
    assert_eq!(fit(&there, &expressions), SOME);
}

/// A packet of which the address behind the TUN device is known.
fn packet_of(address: &str, leaves: bool) -> Packet {
    let address: IpAddr = address.parse().unwrap();
    let version = match address {
        IpAddr::V4(_) => IpVersion::V4,
        IpAddr::V6(_) => IpVersion::V6,
    };
    let [device, other] = [LinkRef::new(9, "clat"), LinkRef::new(2, "eth0")];
    let [first, _] = Packet::connection(version, leaves, &device, &other, Some(address));
    first
}

/// The source of a packet that leaves the TUN device, and the destination of one that goes there,
/// by their places in the header (RFC 791 section 3.1, RFC 8200 section 3).
#[test]
fn the_address_behind_the_device_is_known() {
    let v4 = [192, 0, 2, 1];
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (packet, at, value, other_at) in [
        (packet_of("192.0.2.1", true), 12, &v4[..], 16),
        (packet_of("192.0.2.1", false), 16, &v4, 12),
        (packet_of("2001:db8::1", true), 8, &v6, 24),
        (packet_of("2001:db8::1", false), 24, &v6, 8),
    ] {
        let len = value.len() as u32;
        let compared = |base, at, len, value: &[u8]| {
            let test = [payload(base, at, len), cmp(EQ, value)].concat();
            let alone = fit(&packet, std::slice::from_ref(&test));
            (alone, fit(&packet, &[test, limit()]))
        };
        let is_known = (YES, SOME_OF_DEVICE);
        assert_eq!(compared(1, at, len, value), is_known);
        assert_eq!(compared(1, at, len, &[1; 4]), (NO, NO));
        // The start of it, as nft(8) loads for a prefix length that is a multiple of 8.
        assert_eq!(compared(1, at, 3, &value[..3]), is_known);
        // Nothing else of the header, and not what is at the same place of another one.
        for (base, at, len) in [
            (1, other_at, len),
            (1, at - 1, len),
            (1, at, len + 1),
            (1, at, 0),
            (0, at, len),
            (2, at, len),
        ] {
            let is_not_known = (SOME, SOME);
            assert_eq!(
                compared(base, at, len, value),
                is_not_known,
                "{base} {at} {len}"
            );
        }
    }
}

/// What a rule does to packets that it applies to, by the statement that ends it.
#[test]
fn statements_have_their_actions() {
    let [there, _] = packets();
    let nat = |kind| expression("nat", &[number_attribute(1, kind)]);
    let target = |name| expression("target", &[name_attribute(1, name)]);
    let to = |chain: &str| chain.to_owned();
    for (statement, action) in [
        (accept(), Action::Accept),
        (drop(), Action::Drop),
        (verdict(RETURN, ""), Action::Return),
        (verdict(JUMP, "a"), Action::Jump(to("a"))),
        (verdict(GOTO, "b"), Action::Goto(to("b"))),
        // NF_QUEUE with the number of a queue: a program decides.
        (verdict(3 | 7 << 16, ""), Action::Accept),
        (expression("queue", &[]), Action::Accept),
        (expression("reject", &[]), Action::Drop),
        (expression("masq", &[]), Action::Masquerade),
        (nat(0), Action::Masquerade), // NFT_NAT_SNAT
        (nat(1), Action::Continue),   // NFT_NAT_DNAT
        (target("REJECT"), Action::Drop),
        (target("MASQUERADE"), Action::Masquerade),
        (target("SNAT"), Action::Masquerade),
        (target("NETMAP"), Action::Masquerade),
        (target("NFQUEUE"), Action::Accept),
        (target("TCPMSS"), Action::Continue),
        (expression("log", &[]), Action::Continue),
    ] {
        let rule = seen(&there, &[iifname("clat"), statement.clone()]);
        assert_eq!(rule.action, action, "{statement:?}");
        let is_known = nat(1) != statement;
        assert_eq!(rule.fit == YES, is_known, "{statement:?}");
        // It does nothing to others.
        let rule = seen(&there, &[iifname("lo"), statement.clone()]);
        assert_eq!(rule.fit, NO, "{statement:?}");
    }
}

/// What a packet meets before the end of a rule: some of it decides nothing, and all else is not
/// known.
#[test]
fn statements_before_the_last_one_decide_nothing() {
    let [there, _] = packets();
    let objref = |kind| expression("objref", &[number_attribute(1, kind)]);
    for (statement, expected) in [
        (expression("counter", &[]), YES),
        (expression("log", &[]), YES),
        (expression("last", &[]), YES),
        (expression("notrack", &[]), YES),
        (expression("flow_offload", &[]), YES),
        (expression("target", &[name_attribute(1, "LOG")]), YES),
        (verdict(-1, ""), YES), // NFT_CONTINUE
        (objref(1), YES),       // NFT_OBJECT_COUNTER
        (objref(2), SOME),      // NFT_OBJECT_QUOTA
        (expression("quota", &[]), SOME),
        (expression("connlimit", &[]), SOME),
        (expression("dynset", &[]), SOME),
        // One that has no name, or is of a later kernel.
        (expression("", &[]), SOME),
        (expression("later", &[]), SOME),
    ] {
        let rule = seen(&there, &[statement.clone(), accept()]);
        assert_eq!(
            (rule.fit, rule.action),
            (expected, Action::Accept),
            "{statement:?}"
        );
    }
    // What follows the verdict is not carried out.
    let rule = seen(&there, &[accept(), limit(), iifname("lo"), drop()]);
    assert_eq!((rule.fit, rule.action), (YES, Action::Accept));
}

/// Comparisons of which something is missing, or by size (NFT_CMP_LT), are not known.
#[test]
fn what_cannot_be_compared_is_not_known() {
    let [there, _] = packets();
    let index = 9_u32.to_ne_bytes();
    for compare in [
        cmp_of(2, EQ, &index),
        cmp(2, &index),
        expression(
            "cmp",
            &[number_attribute(1, REGISTER), number_attribute(2, EQ)],
        ),
        expression("cmp", &[]),
        expression("lookup", &[]),
        lookup("a"),
    ] {
        assert_eq!(
            fit(&there, &[meta(IIF), compare.clone()]),
            SOME,
            "{compare:?}"
        );
    }
}

/// An expression `match` with struct xt_conntrack_mtinfo3 of linux/netfilter/xt_conntrack.h.
fn conntrack(revision: u32, flags: u16, inverted: u16, states: u16) -> Vec<u8> {
    let mut info = vec![0; 152];
    for (at, field) in [(146, flags), (148, inverted), (150, states)] {
        info[at..at + 2].copy_from_slice(&field.to_ne_bytes());
    }
    match_of("conntrack", revision, &info)
}

fn match_of(name: &str, revision: u32, info: &[u8]) -> Vec<u8> {
    let data = [
        name_attribute(1, name),
        number_attribute(2, revision),
        attribute(3, info),
    ];
    expression("match", &data)
}

/// `-m conntrack --ctstate` of ip6tables-nft: its flag is XT_CONNTRACK_STATE, and states have the
/// bits of XT_CONNTRACK_STATE_BIT.
#[test]
fn matches_of_iptables_know_the_state() {
    let [first, answer] = packets();
    const STATE: u16 = 1;
    const ESTABLISHED: u16 = 2;
    const RELATED: u16 = 4;
    const NEW: u16 = 8;
    for (test, of_first, of_answer) in [
        (conntrack(3, STATE, 0, NEW), YES, NO),
        (conntrack(3, STATE, 0, ESTABLISHED | RELATED), NO, YES),
        (conntrack(3, STATE, 0, NEW | ESTABLISHED), YES, YES),
        (conntrack(3, STATE, STATE, NEW), NO, YES),
        (conntrack(3, STATE, STATE, RELATED), YES, YES),
        // With more than the state, of another revision, or another match of this length.
        (conntrack(3, STATE | 2, 0, NEW), SOME, SOME),
        (conntrack(3, 2, 0, NEW), SOME, SOME),
        (conntrack(2, STATE, 0, NEW), SOME, SOME),
        (match_of("recent", 3, &[1; 152]), SOME, SOME),
        (match_of("conntrack", 3, &[1; 151]), SOME, SOME),
        (match_of("comment", 0, b"clat\0"), YES, YES),
        (match_of("mark", 1, &[0; 12]), SOME, SOME),
    ] {
        assert_fits([&first, &answer], &test, [of_first, of_answer]);
    }
    let states = conntrack(3, STATE, 0, NEW);
    assert_eq!(
        fit(&first, &[states, limit()]),
        SOME,
        "a state is no device"
    );
}
