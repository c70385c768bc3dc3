//! dynamic.map, tayga's file of leases: `IPv4 address, IPv6 address, second of the last use`, a
//! lease a line.

use std::fmt::Write;

use nom::Parser;

use super::{
    LineError, Notice,
    grammar::{self, Line, end, value},
    word::parsed,
};
use crate::addr::{
    AddressMap,
    pool::{ACTIVE_FOR, Lease, LeaseState},
};

/// The outcome of [`load`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The number of leases that were taken over.
    pub leases: usize,
    /// Lines that are no leases, and are ignored.
    pub errors: Vec<LineError>,
    /// Leases that are ignored, or not as they seem to be.
    pub notices: Vec<Notice>,
}

/// Takes over the leases of a file.
///
/// A lease that was used less than 124 minutes before the time of the map is active. A file from
/// the future is of no use as a clock: all of its leases are dormant then, as with tayga; which is
/// the oldest can still be told.
///
/// A lease of time 0 is taken as one that has just become dormant: newer versions of tayga write
/// this for hosts that are active.
pub fn load(map: &mut AddressMap, text: &[u8]) -> Loaded {
    let now = map.now();
    let mut loaded = Loaded::default();
    let mut leases = Vec::new();
    for line in grammar::lines(text) {
        match read_line(line) {
            Ok(None) => {}
            Ok(Some(lease)) => leases.push((line.number, lease)),
            Err(error) => loaded.errors.push(error),
        }
    }
    let newest = leases.iter().map(|(_, lease)| lease.last_use).max();
    let ahead = newest.map_or(0, |newest| newest.saturating_sub(now));
    if ahead != 0 {
        let text = format!(
            "its newest lease is {ahead} s ahead of the clock, one of which is wrong: all leases \
             are dormant until their hosts send"
        );
        loaded.notices.push(Notice::warning(0, text));
    }
    let mut timeless = 0;
    for (line, mut lease) in leases {
        let has_time = lease.last_use != 0;
        lease.last_use = match has_time {
            true => lease.last_use.saturating_sub(ahead),
            false => now.saturating_sub(ACTIVE_FOR),
        };
        let state = match (has_time, ahead) {
            (true, 0) => LeaseState::by_age(lease.last_use, now),
            _ => LeaseState::Dormant,
        };
        match map.restore_lease(lease, state) {
            Ok(()) => {
                loaded.leases += 1;
                timeless += usize::from(!has_time);
            }
            Err(why) => {
                let Lease { address, host, .. } = lease;
                let text = format!("the lease of {address} to {host} is ignored: {why}");
                loaded.notices.push(Notice::warning(line, text));
            }
        }
    }
    if timeless != 0 {
        let text = format!(
            "leases with time 0, which tayga writes for active hosts: {timeless}; each is dormant \
             until its host sends"
        );
        loaded.notices.push(Notice::warning(0, text));
    }
    loaded
}

/// The lease of a line; `None` if it is blank or a comment.
fn read_line(line: Line<'_>) -> Result<Option<Lease>, LineError> {
    if line.is_blank() || line.text.starts_with(b"#") {
        return Ok(None);
    }
    let lease = (
        value(|word| parsed(word, "an IPv4 address")),
        value(|word| parsed(word, "an IPv6 address")),
        value(|word| parsed(word, "a time in seconds since 1970")),
        end,
    );
    let lease = lease.map(|(address, host, last_use, ())| Lease {
        address,
        host,
        last_use,
    });
    line.parse(line.text, lease).map(Some)
}

/// The text of the file. `now` is the second by the system's clock, which may have been set since
/// the map was told its own: leases keep their age.
pub fn text(map: &AddressMap, now: u64) -> String {
    let mut text = format!(
        "###\n###\n### tayga dynamic map database\n###\n\
         ### You can edit this (carefully!) as long as you shut down the translator first\n\
         ###\n###\n### Last written: {now} seconds since 1970 (UTC)\n###\n###\n\n"
    );
    for Lease {
        address,
        host,
        last_use,
    } in map.leases()
    {
        let age = map.now().saturating_sub(last_use);
        let last_use = now.saturating_sub(age).max(1); // tayga does not read a zero
        // Writing to a String does not fail.
        let _ = writeln!(text, "{address}\t{host}\t{last_use}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::addr::{
        Eam,
        pool::{KEPT_FOR, Origin},
    };
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: u64 = 1_795_406_857;

    fn map() -> AddressMap {
        let own = "2001:db8:ffff::1".parse().unwrap();
        let mut map = AddressMap::new([192, 0, 2, 1].into(), own, None, true);
        let eam = Eam::new("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        map.insert(eam.unwrap()).unwrap();
        map.set_pool("192.0.2.0/24".parse().unwrap());
        map.set_now(NOW);
        map
    }

    /// The outcome where nothing is left out.
    fn all(leases: usize) -> Loaded {
        Loaded {
            leases,
            ..Loaded::default()
        }
    }

    /// As tayga 0.9.2 writes it, with every kind of line that is left out.
    #[test]
    fn a_file_of_tayga_is_taken_over() {
        let dormant = NOW - ACTIVE_FOR;
        let text = format!(
            "###\n### TAYGA dynamic map database\n\n\
             192.0.2.9\t2001:db8::9\t{NOW}\n\
             192.0.2.10 2001:db8::10  {dormant}\n\
             192.0.2.11 2001:db8::11\n\
             192.0.2.12 2001:db8::12 -1\n\
             198.51.100.1 2001:db8::13 {NOW}\n\
             192.0.2.7 2001:db8::14 {NOW}\n\
             192.0.2.15 2001:db8::7 {NOW}\n\
             192.0.2.1 2001:db8::16 {NOW}\n\
             192.0.2.0 2001:db8::17 {NOW}\n\
             192.0.2.18 fe80::1 {NOW}\n\
             192.0.2.9 2001:db8::19 {NOW}\n\
             192.0.2.20 2001:db8::9 {NOW}\n"
        );
        let mut map = map();
        let loaded = load(&mut map, text.as_bytes());
        assert_eq!(loaded.leases, 2);
        let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "6:24: expected a time in seconds since 1970, found end of line",
                "7:25: expected a time in seconds since 1970, found \"-1\"",
            ]
        );
        let lines: Vec<_> = loaded.notices.iter().map(|notice| notice.line).collect();
        assert_eq!(lines, [8, 9, 10, 11, 12, 13, 14, 15]);
        let first = &loaded.notices[0].text;
        assert!(first.ends_with("the IPv4 address is not in dynamic-pool"));
        let to_v6 = |host: u8| {
            map.to_v6([192, 0, 2, host].into())
                .map(|mapped| mapped.address)
        };
        assert_eq!(to_v6(9), Ok("2001:db8::9".parse().unwrap()));
        assert!(to_v6(10).is_err(), "it is dormant");
        // The host gets it back.
        let lent = map.lend("2001:db8::10".parse().unwrap()).unwrap().unwrap();
        assert_eq!(lent.address, Ipv4Addr::new(192, 0, 2, 10));
    }

    /// As newer versions of tayga write them, for hosts that are active. They keep their addresses,
    /// are the last to lose them, and one notice says so.
    #[test]
    fn leases_of_time_0_are_dormant() {
        let oldest = NOW - ACTIVE_FOR - 9;
        let text = format!(
            "192.0.2.9\t2001:db8::9\t0\n192.0.2.10\t2001:db8::10\t0\n\
             192.0.2.11\t2001:db8::11\t{oldest}\n\
             192.0.2.12\t2001:db8::12\tnever\n192.0.2.13\t2001:db8::13\t-0\n\
             198.51.100.1\t2001:db8::14\t0\n"
        );
        let mut map = map();
        let loaded = load(&mut map, text.as_bytes());
        assert_eq!(loaded.leases, 3);
        let lines: Vec<_> = loaded.errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [4, 5]);
        let notices: Vec<_> = loaded.notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            notices,
            [
                "6: the lease of 198.51.100.1 to 2001:db8::14 is ignored: the IPv4 address is not \
                 in dynamic-pool",
                "leases with time 0, which tayga writes for active hosts: 2; each is dormant \
                 until its host sends",
            ]
        );
        assert!(map.to_v6([192, 0, 2, 9].into()).is_err(), "it is dormant");
        assert_eq!(map.leases().next().unwrap().last_use, oldest);
        // Nothing is freed at the first ageing, nor before a dormant lease is.
        assert_eq!(map.age_leases(9), []);
        map.set_now(NOW + KEPT_FOR - ACTIVE_FOR - 1);
        assert_eq!(map.age_leases(9).len(), 1, "192.0.2.11 alone");
        let lent = map.lend("2001:db8::9".parse().unwrap()).unwrap().unwrap();
        assert_eq!(lent.address, Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(lent.origin, Origin::Reactivated);
        map.set_now(NOW + KEPT_FOR - ACTIVE_FOR);
        assert_eq!(map.age_leases(9).len(), 1, "192.0.2.10 alone");
    }

    /// There and back: no zero is written, and a lease that is dormant stays so.
    #[test]
    fn leases_of_time_0_are_written_with_a_time() {
        for now in [NOW, 1, 0] {
            let mut before = map();
            before.set_now(now);
            let zero = b"192.0.2.9\t2001:db8::9\t0\n";
            assert_eq!(load(&mut before, zero).leases, 1);
            let written = text(&before, now);
            let last_use = now.saturating_sub(ACTIVE_FOR).max(1);
            assert!(
                written.ends_with(&format!("\n192.0.2.9\t2001:db8::9\t{last_use}\n")),
                "{written}"
            );
            let mut after = map();
            after.set_now(now.max(ACTIVE_FOR + 1));
            assert_eq!(load(&mut after, written.as_bytes()), all(1));
            assert!(after.to_v6([192, 0, 2, 9].into()).is_err(), "it is dormant");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut map = map();
        for host in 0..100_u32 {
            let host = Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(1000 + host));
            map.lend(host).unwrap().unwrap();
        }
        let written = text(&map, NOW);
        let mut again = self::map();
        assert_eq!(load(&mut again, written.as_bytes()), all(100));
        assert_eq!(text(&again, NOW), written);
    }

    /// The clock may have been set back.
    #[test]
    fn leases_from_the_future_are_dormant() {
        let text = format!(
            "192.0.2.9 2001:db8::9 {}\n192.0.2.10 2001:db8::10 {NOW}\n",
            NOW + 1
        );
        let mut map = map();
        let loaded = load(&mut map, text.as_bytes());
        assert_eq!((loaded.leases, loaded.errors.len()), (2, 0));
        let first = loaded.notices[0].to_string();
        assert!(first.starts_with("its newest lease is 1 s ahead of the clock"));
        assert!(map.to_v6([192, 0, 2, 9].into()).is_err());
        assert!(map.to_v6([192, 0, 2, 10].into()).is_err());
        let mut times: Vec<_> = map.leases().map(|lease| lease.last_use).collect();
        times.sort_unstable();
        assert_eq!(times, [NOW - 1, NOW]);
    }

    /// A machine without a clock of its own starts in 1970, and gets the time later: no lease is
    /// lost by that.
    #[test]
    fn leases_keep_their_age_when_the_clock_is_set() {
        const WEEK: u64 = 7 * 24 * 3600;
        let before = format!(
            "192.0.2.9\t2001:db8::9\t{NOW}\n192.0.2.10\t2001:db8::10\t{}\n",
            NOW - WEEK
        );
        let mut map = map();
        map.set_now(100);
        assert_eq!(load(&mut map, before.as_bytes()).leases, 2);
        map.set_now(400);
        let after = text(&map, NOW + 1000);
        assert!(
            after.contains(&format!("192.0.2.9\t2001:db8::9\t{}\n", NOW + 700)),
            "{after}"
        );
        // It was unused for a week; that this was before 1970 is not kept.
        assert!(after.contains("192.0.2.10\t2001:db8::10\t"), "{after}");
    }
}
