//! Rules, chains and sets as the kernel sends them (linux/netfilter/nf_tables.h). The functions
//! for expressions make what `nft --debug=netlink` shows in brackets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod expressions;
mod kernel;
mod nftables;
mod sets;

use super::{
    attributes::{attribute, name_attribute, number_attribute},
    walk::Packet,
};
use crate::link::LinkRef;

/// NFPROTO_INET and others of linux/netfilter.h.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// NF_INET_FORWARD and NF_INET_POST_ROUTING.
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
/// NF_DROP and NF_ACCEPT, NFT_JUMP, NFT_GOTO and NFT_RETURN.
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;
/// NFT_REG_1.
const REGISTER: u32 = 1;
/// NFT_CMP_EQ and NFT_CMP_NEQ.
const EQ: u32 = 0;
const NEQ: u32 = 1;
/// NFT_META_PROTOCOL and others.
const PROTOCOL: u32 = 1;
const MARK: u32 = 3;
const IIF: u32 = 4;
const OIF: u32 = 5;
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
/// States of a connection, by the numbers in the kernel's masks of states.
const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
const NEW: u32 = 8;

/// The first IPv6 packet of a connection that leaves `clat` by `eth0`, and its answer.
fn packets() -> [Packet; 2] {
    Packet::both_ways(&LinkRef::new(9, "clat"), &LinkRef::new(2, "eth0"))
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    let octets = [name_attribute(1, name), attribute(2, &data.concat())].concat();
    attribute(1, &octets)
}

/// `[ meta load KEY => reg N ]`
fn meta_into(register: u32, key: u32) -> Vec<u8> {
    let numbers = [number_attribute(2, key), number_attribute(1, register)];
    expression("meta", &numbers)
}

fn meta(key: u32) -> Vec<u8> {
    meta_into(REGISTER, key)
}

/// `[ ct load state => reg N ]`
fn state_into(register: u32) -> Vec<u8> {
    let numbers = [number_attribute(2, 0), number_attribute(1, register)];
    expression("ct", &numbers)
}

fn state() -> Vec<u8> {
    state_into(REGISTER)
}

/// `[ payload load LENb @ network header + AT => reg 1 ]`
fn address(at: u32, len: u32) -> Vec<u8> {
    payload(1, at, len)
}

fn payload(base: u32, at: u32, len: u32) -> Vec<u8> {
    let numbers = [(1, REGISTER), (2, base), (3, at), (4, len)];
    expression(
        "payload",
        &numbers.map(|(kind, one)| number_attribute(kind, one)),
    )
}

/// `[ cmp eq reg N VALUE ]`
fn cmp_of(register: u32, operator: u32, value: &[u8]) -> Vec<u8> {
    let operands = [
        number_attribute(1, register),
        number_attribute(2, operator),
        attribute(3, &attribute(1, value)),
    ];
    expression("cmp", &operands)
}

fn cmp(operator: u32, value: &[u8]) -> Vec<u8> {
    cmp_of(REGISTER, operator, value)
}

/// `[ bitwise reg 1 = ( reg 1 & MASK ) ^ XOR ]`
fn bitwise(mask: &[u8], xor: &[u8]) -> Vec<u8> {
    let operands = [
        number_attribute(1, REGISTER),
        number_attribute(2, REGISTER),
        number_attribute(3, mask.len() as u32),
        number_attribute(6, 0), // NFT_BITWISE_BOOL, or NFT_BITWISE_MASK_XOR
        attribute(4, &attribute(1, mask)),
        attribute(5, &attribute(1, xor)),
    ];
    expression("bitwise", &operands)
}

/// `ct state established,related`
fn state_is_one_of(states: u32) -> Vec<u8> {
    let [mask, zero] = [states.to_ne_bytes(), [0; 4]];
    [state(), bitwise(&mask, &zero), cmp(NEQ, &zero)].concat()
}

/// `[ lookup reg 1 set NAME ]`
fn lookup(set: &str) -> Vec<u8> {
    expression("lookup", &lookup_data(set, 0))
}

/// `[ lookup reg 1 set NAME 0x1 ]`
fn lookup_negated(set: &str) -> Vec<u8> {
    expression("lookup", &lookup_data(set, 1))
}

fn lookup_data(set: &str, flags: u32) -> [Vec<u8>; 3] {
    [
        name_attribute(1, set),
        number_attribute(2, REGISTER),
        number_attribute(5, flags),
    ]
}

/// `[ lookup reg 1 set NAME dreg N ]`, of a verdict map into register 0.
fn map_into(register: u32, set: &str) -> Vec<u8> {
    let data = lookup_data(set, 0).concat();
    expression("lookup", &[data, number_attribute(3, register)])
}

fn vmap(set: &str) -> Vec<u8> {
    map_into(0, set)
}

/// NFTA_DATA_VERDICT.
fn data_of_verdict(code: i32, chain: &str) -> Vec<u8> {
    let mut verdict = number_attribute(1, code as u32);
    if !chain.is_empty() {
        verdict.extend(name_attribute(2, chain));
    }
    attribute(2, &verdict)
}

/// `[ immediate reg 0 VERDICT ]`
fn verdict(code: i32, chain: &str) -> Vec<u8> {
    let data = attribute(2, &data_of_verdict(code, chain));
    expression("immediate", &[number_attribute(1, 0), data])
}

fn accept() -> Vec<u8> {
    verdict(NF_ACCEPT, "")
}

fn drop() -> Vec<u8> {
    verdict(NF_DROP, "")
}

/// The name of a device, as it is in registers.
fn device(name: &str) -> Vec<u8> {
    let mut octets = name.as_bytes().to_vec();
    octets.resize(16, 0); // IFNAMSIZ
    octets
}

/// `iifname NAME`, of the device in register 1 or the start of its name.
fn iifname(name: &str) -> Vec<u8> {
    [meta(IIFNAME), cmp(EQ, &device(name))].concat()
}

fn oifname(name: &str) -> Vec<u8> {
    [meta(OIFNAME), cmp(EQ, &device(name))].concat()
}

/// An expression that decides by what is not known of a packet.
fn limit() -> Vec<u8> {
    expression("limit", &[])
}
