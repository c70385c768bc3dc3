//! Sets and maps of nftables.

use super::{
    kernel::{Kernel, catch_all, element, element_with_flags, end, rule},
    *,
};

/// `iifname @devices`, and its contrary.
#[test]
fn sets_have_keys() {
    let kernel = |test: Vec<u8>, names: &[&str]| {
        let all = names.iter().map(|name| element(&device(name), &[]));
        let forward = vec![rule(&[meta(IIFNAME), test, accept()])];
        Kernel::new(NF_DROP, forward).set("devices", all.collect())
    };
    for (names, is_in) in [
        (&["clat"][..], true),
        (&["lo", "clat"], true),
        (&["eth1", "clat", "lo"], true),
        (&["lo"], false),
        (&["clat2", "cla"], false),
    ] {
        let drops = |test| kernel(test, names).drops(&packets()).0;
        assert_eq!(drops(lookup("devices")), !is_in, "{names:?}");
        assert_eq!(drops(lookup_negated("devices")), is_in, "not {names:?}");
    }
    // One that is empty, or of another table, is not known.
    assert_eq!(
        kernel(lookup("devices"), &[]).drops(&packets()),
        (true, true)
    );
    assert_eq!(
        kernel(lookup_negated("devices"), &[]).drops(&packets()),
        (true, true)
    );
    // The rule is for the device only if the set has it.
    let with_limit = |test: Vec<u8>, name| kernel([test, limit()].concat(), &[name]);
    assert!(!with_limit(lookup("devices"), "clat").drops(&packets()).0);
    assert!(
        with_limit(lookup_negated("devices"), "lo")
            .drops(&packets())
            .0
    );
}

/// A set of addresses may have 100,000s: it is read only if it is compared with something known.
#[test]
fn a_set_of_what_is_not_known_is_not_read() {
    let kernel = Kernel::new(
        NF_ACCEPT,
        vec![
            rule(&[address(8, 16), lookup("addresses"), drop()]),
            rule(&[meta(MARK), vmap("marks")]),
            rule(&[meta(IIFNAME), lookup("devices"), drop()]),
            rule(&[meta(OIFNAME), lookup("devices"), drop()]),
        ],
    )
    .set("devices", vec![element(&device("lo"), &[])])
    .set("addresses", vec![element(&[0; 16], &[])]);
    assert_eq!(kernel.drops(&packets()), (false, false));
    // Each is read once for both packets.
    assert_eq!(kernel.asked(), ["forward", "devices"]);
}

/// `iifname { "clat*", "clau*", "veth*" }`: from a key on, up to one that is an end, where another
/// one may begin. The kernel sends elements in any order.
#[test]
fn intervals_have_an_end() {
    let (from, to) = (
        |name| element(&device(name), &[]),
        |name| end(&device(name)),
    );
    let intervals = [
        to("veti"),
        from("clat"),
        to(""),
        from("veth"),
        from("clau"),
        to("clau"),
        to("clav"),
    ];
    for (name, is_in) in [
        ("clat", true),
        ("clat0", true),
        ("clau", true),
        ("clav", false),
        ("aaaa", false),
        ("veth", true),
        ("veti", false),
        ("wwww", false),
    ] {
        let [device, other] = [LinkRef::new(9, name), LinkRef::new(2, "eth0")];
        let forward = vec![rule(&[meta(IIFNAME), lookup("names"), accept()])];
        let kernel = Kernel::new(NF_DROP, forward).set("names", intervals.to_vec());
        let drops = kernel.drops(&Packet::both_ways(&device, &other)).0;
        assert_eq!(drops, !is_in, "{name}");
    }
}

/// `iifname . oifname @pairs` and `iif . ct state @pairs`: the values of registers that follow each
/// other, each filled up to 32 bits.
#[test]
fn concatenations_are_of_several_registers() {
    let index = |index: u32| index.to_ne_bytes();
    let names = |[from, to]: [&str; 2]| [device(from), device(to)].concat();
    let load_names = [meta(IIFNAME), meta_into(2, OIFNAME)].concat();
    let load_state = [meta(IIF), state_into(9)].concat();
    // The family has 8 bits.
    let load_family = [meta(NFPROTO), meta_into(9, IIF)].concat();
    for (load, key, is_in) in [
        (&load_names, names(["clat", "eth0"]), true),
        (&load_names, names(["clat", "eth1"]), false),
        (&load_names, names(["lo", "eth0"]), false),
        (&load_state, [index(9), index(NEW)].concat(), true),
        (&load_state, [index(9), index(ESTABLISHED)].concat(), false),
        (&load_family, [&[10, 0, 0, 0], &index(9)[..]].concat(), true),
        (&load_family, [&[2, 0, 0, 0], &index(9)[..]].concat(), false),
        // Of a register that nothing was loaded into, or in part, nothing is known.
        (
            &load_state,
            [index(9), index(NEW), index(0)].concat(),
            false,
        ),
        (&load_names, names(["clat", "eth0"])[..30].to_vec(), false),
    ] {
        let test = |lookup| {
            let forward = vec![rule(&[load.clone(), lookup, limit(), accept()])];
            let kernel = Kernel::new(NF_DROP, forward);
            kernel
                .set("pairs", vec![element(&key, &[])])
                .drops(&packets())
                .0
        };
        // One of the values is of the device: so is all of it.
        assert_eq!(test(lookup("pairs")), !is_in, "{key:?}");
    }
    // The last value of a key is not filled up.
    let load = [meta(IIF), meta_into(9, NFPROTO)].concat();
    let forward = vec![rule(&[load, lookup("pairs"), accept()])];
    let key = [&index(9)[..], &[10]].concat();
    let kernel = Kernel::new(NF_DROP, forward).set("pairs", vec![element(&key, &[])]);
    assert!(!kernel.drops(&packets()).0);
}

/// Intervals of concatenations (NFTA_SET_ELEM_KEY_END) are not read: a set of them is not known.
#[test]
fn intervals_of_concatenations_are_not_known() {
    let key_end = attribute(10, &attribute(1, &[0xff; 4]));
    let interval = attribute(1, &[attribute(1, &attribute(1, &[0; 4])), key_end].concat());
    for (policy, action) in [(NF_DROP, accept()), (NF_ACCEPT, drop())] {
        let forward = vec![rule(&[meta(IIF), lookup("set"), action])];
        let kernel = Kernel::new(policy, forward).set("set", vec![interval.clone()]);
        assert_eq!(kernel.drops(&packets()).0, policy == NF_DROP);
    }
}

/// `iifname vmap { ... }` and `ct state vmap { ... }`: the verdict is that of the key, and without
/// one the rule does not apply.
#[test]
fn verdict_maps_have_an_action_for_each_key() {
    let state_is = |state: u32, code, chain: &str| {
        element(&state.to_ne_bytes(), &data_of_verdict(code, chain))
    };
    for (policy, elements, drops) in [
        (
            NF_DROP,
            vec![
                state_is(ESTABLISHED, NF_ACCEPT, ""),
                state_is(RELATED, NF_ACCEPT, ""),
                state_is(INVALID, NF_DROP, ""),
            ],
            (true, false),
        ),
        (NF_ACCEPT, vec![state_is(NEW, NF_DROP, "")], (true, false)),
        (
            NF_ACCEPT,
            vec![state_is(ESTABLISHED, NF_DROP, "")],
            (false, true),
        ),
        (NF_ACCEPT, vec![state_is(NEW, JUMP, "drops")], (true, false)),
        (NF_DROP, vec![state_is(NEW, GOTO, "accepts")], (false, true)),
        (NF_DROP, vec![state_is(NEW, RETURN, "")], (true, true)),
        (
            NF_DROP,
            vec![state_is(RELATED, NF_ACCEPT, "")],
            (true, true),
        ),
    ] {
        let forward = vec![rule(&[state(), vmap("states")])];
        let kernel = Kernel::new(policy, forward)
            .set("states", elements)
            .chain("drops", vec![rule(&[drop()])])
            .chain("accepts", vec![rule(&[accept()])]);
        assert_eq!(kernel.drops(&packets()), drops, "{:?}", kernel.sets);
    }
}

/// `iifname vmap { "lo" : accept, * : drop }`: the element for all keys that no other one has
/// (Linux 5.13), also where the others are intervals.
#[test]
fn one_element_may_be_for_all_other_keys() {
    let code = |code| data_of_verdict(code, "");
    let of = |name, verdict| element(&device(name), &code(verdict));
    let all = |verdict| catch_all(&code(verdict));
    // An interval of concatenations.
    let unread = || {
        attribute(
            1,
            &[attribute(1, &[1; 32]), attribute(10, &[2; 32])].concat(),
        )
    };
    for (policy, elements, drops) in [
        (NF_ACCEPT, vec![of("lo", NF_ACCEPT), all(NF_DROP)], true),
        (NF_ACCEPT, vec![all(NF_DROP), of("clat", NF_ACCEPT)], false),
        (NF_DROP, vec![of("lo", NF_DROP), all(NF_ACCEPT)], false),
        (NF_DROP, vec![all(NF_ACCEPT), of("clat", NF_DROP)], true),
        (
            NF_ACCEPT,
            vec![of("a", NF_ACCEPT), end(&device("b")), all(NF_DROP)],
            true,
        ),
        (
            NF_ACCEPT,
            vec![of("c", NF_ACCEPT), end(&device("d")), all(NF_DROP)],
            false,
        ),
        // Alone it is for every key, but where others could not be read.
        (NF_ACCEPT, vec![all(NF_DROP)], true),
        (NF_DROP, vec![all(NF_ACCEPT)], false),
        (NF_ACCEPT, vec![unread(), all(NF_DROP)], false),
    ] {
        let forward = vec![rule(&[meta(IIFNAME), vmap("map")])];
        let kernel = Kernel::new(policy, forward).set("map", elements);
        assert_eq!(kernel.drops(&packets()).0, drops, "{:?}", kernel.sets);
    }
    let forward = vec![rule(&[meta(IIFNAME), lookup("set"), accept()])];
    let elements = vec![element(&device("lo"), &[]), catch_all(&[])];
    let kernel = Kernel::new(NF_DROP, forward).set("set", elements);
    assert_eq!(kernel.drops(&packets()), (false, false));
    // It says nothing of the device: the rule is for some packets of whichever.
    let forward = vec![rule(&[limit(), meta(IIFNAME), vmap("map")])];
    let elements = vec![of("lo", NF_DROP), all(NF_ACCEPT)];
    let kernel = Kernel::new(NF_DROP, forward).set("map", elements);
    assert!(kernel.drops(&packets()).0);
}

/// Other flags make no end of an element.
#[test]
fn an_element_is_an_end_by_its_flag_alone() {
    for (flags, is_in) in [(0, true), (4, true), (1, false)] {
        let forward = vec![rule(&[meta(IIFNAME), lookup("set"), accept()])];
        let elements = vec![element_with_flags(flags, &device("clat"))];
        let kernel = Kernel::new(NF_DROP, forward).set("set", elements);
        assert_eq!(kernel.drops(&packets()).0, !is_in, "{flags}");
    }
}

/// `meta mark set iif map { ... }`: data of other maps are loaded into a register, and not known.
#[test]
fn other_maps_load_what_is_not_known() {
    let value = attribute(1, &9_u32.to_ne_bytes());
    let key = 9_u32.to_ne_bytes();
    let of_key = |key: &[u8]| {
        let test = [meta(IIF), map_into(REGISTER, "map")].concat();
        let compare = cmp(NEQ, &9_u32.to_ne_bytes());
        let forward = vec![rule(&[test, compare, iifname("clat"), accept()])];
        Kernel::new(NF_DROP, forward).set("map", vec![element(key, &value)])
    };
    // It may differ from what was looked up.
    assert!(!of_key(&key).drops(&packets()).0);
    // The rule does not apply to what the map does not have.
    assert!(of_key(&[0; 4]).drops(&packets()).0);
}
