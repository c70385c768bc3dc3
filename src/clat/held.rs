//! Router Advertisements that wait for a look at the network.

use std::net::Ipv6Addr;

use super::Event;

/// The maximum number of advertisements that wait.
const MAX_HELD: usize = 16;

/// The advertisements that have come since the network changed, while it is still to be looked at.
///
/// The last one of a router says how it is now: older ones of the router that has most of them make
/// room, but no router can push out all of another one.
#[derive(Debug, Default)]
pub struct Held(Option<Vec<Event>>);

impl Held {
    /// Takes notice that the network has changed: advertisements wait from now on.
    pub fn network_changed(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Gives an event back that does not have to wait.
    pub fn pass(&mut self, event: Event) -> Option<Event> {
        let Some((held, router)) = self.0.as_mut().zip(router(&event)) else {
            return Some(event);
        };
        if held.len() >= MAX_HELD {
            held.remove(replaceable(held, router)?);
        }
        held.push(event);
        None
    }

    /// Takes the advertisements, the first to come first: the network has been looked at.
    pub fn take(&mut self) -> Vec<Event> {
        self.0.take().unwrap_or_default()
    }
}

/// A link, and the address of a router there.
type Sender = (u32, Ipv6Addr);

/// The advertisement that makes room for another one of `router`: the oldest of the router that has
/// most of them, or if each has one, that of `router`.
fn replaceable(held: &[Event], router: Sender) -> Option<usize> {
    let senders: Vec<_> = held.iter().filter_map(self::router).collect();
    let count = |of: &Sender| senders.iter().filter(|one| *one == of).count();
    let most = senders.iter().map(count).max()?;
    senders.iter().position(|one| match most {
        1 => *one == router,
        most => count(one) == most,
    })
}

/// The router that has sent an advertisement.
fn router(event: &Event) -> Option<Sender> {
    match event {
        Event::Advertisement { link, router, .. } => Some((*link, *router)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::ndp::RouterAdvertisement;

    const LINK: u32 = 2;

    /// The advertisement number `number` of a router.
    fn advertisement(router: u16, number: u64) -> Event {
        Event::Advertisement {
            link: LINK,
            router: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, router),
            advertisement: RouterAdvertisement {
                router_lifetime: Duration::from_secs(number),
                ..RouterAdvertisement::default()
            },
        }
    }

    #[test]
    fn events_wait_for_a_look_at_a_changed_network_only() {
        let mut held = Held::default();
        let first = advertisement(1, 1);
        assert_eq!(held.pass(first.clone()), Some(first.clone()));
        held.network_changed();
        assert_eq!(held.pass(first.clone()), None);
        held.network_changed();
        assert_eq!(held.pass(Event::Time), Some(Event::Time));
        assert_eq!(held.take(), std::slice::from_ref(&first));
        assert_eq!(held.pass(first.clone()), Some(first));
    }

    /// RFC 4861 section 6.3.4: the most recent advertisement of a router counts.
    #[test]
    fn the_last_word_of_each_router_is_kept() {
        let mut held = Held::default();
        held.network_changed();
        for number in 0..100 {
            held.pass(advertisement(2, number));
            held.pass(advertisement(1, number));
        }
        held.pass(advertisement(1, 100));
        let kept = held.take();
        assert_eq!(kept.len(), MAX_HELD);
        assert_eq!(kept.last(), Some(&advertisement(1, 100)));
        assert!(kept.contains(&advertisement(2, 99)));
    }

    #[test]
    fn no_router_pushes_out_another_one() {
        let mut held = Held::default();
        held.network_changed();
        held.pass(advertisement(1, 1));
        for number in 0..1000 {
            held.pass(advertisement(2, number));
        }
        let kept = held.take();
        assert_eq!(kept.first(), Some(&advertisement(1, 1)));

        held.network_changed();
        for event in kept {
            held.pass(event);
        }
        for router in 3..1000 {
            held.pass(advertisement(router, 1));
        }
        held.pass(advertisement(1, 2));
        let kept = held.take();
        assert_eq!(kept.len(), MAX_HELD);
        assert_eq!(kept.last(), Some(&advertisement(1, 2)));
        assert!(kept.contains(&advertisement(2, 999)));
    }
}
