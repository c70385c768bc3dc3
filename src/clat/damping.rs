//! How often a CLAT may change its mind.

use std::time::Duration;

/// So many conclusions may follow each other at once, and then one in so long: routers that contradict each other, or somebody
/// who wants it so, make neither the routes nor the log flap faster.
const CONCLUSIONS: u32 = 20;
const CONCLUSION_INTERVAL: Duration = Duration::from_secs(5);

/// How often something may be concluded.
#[derive(Debug)]
pub(super) struct Damping {
    /// So many conclusions may follow at once.
    left: u32,
    /// Since when.
    since: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            left: CONCLUSIONS,
            since: Duration::ZERO,
        }
    }
}

impl Damping {
    /// Takes one of the conclusions that may follow now, if there is one. The last one is for a way back to IPv4: it is not
    /// to be what has to wait.
    pub(super) fn allows(&mut self, is_way_back: bool, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.since).as_secs() / CONCLUSION_INTERVAL.as_secs();
        if elapsed > 0 {
            let earned = u32::try_from(elapsed).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(CONCLUSIONS);
            self.since = now;
        }
        let allows = self.left > u32::from(!is_way_back);
        self.left -= u32::from(allows);
        allows
    }

    /// When one more may follow.
    pub(super) fn deadline(&self) -> Duration {
        self.since + CONCLUSION_INTERVAL
    }
}
