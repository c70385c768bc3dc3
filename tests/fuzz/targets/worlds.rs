//! What packets and maps are judged by: the plain readers of the property tests, which ask the
//! library nothing.

#[path = "../../properties/given.rs"]
pub(crate) mod given;
#[path = "../../properties/icmp_errors.rs"]
pub(crate) mod icmp_errors;
#[path = "../../properties/judge.rs"]
pub(crate) mod judge;
#[path = "../../properties/plain.rs"]
pub(crate) mod plain;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// How many cases a property gets, were it run here.
pub(crate) fn cases() -> Config {
    Config::default()
}

/// One of the values of a strategy: the same for the same seed.
pub(crate) fn pick<S: Strategy>(strategy: S, seed: u32) -> S::Value {
    let mut octets = [0; 32];
    octets[..4].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = strategy.new_tree(&mut runner);
    tree.expect("a strategy that refuses nothing").current()
}
