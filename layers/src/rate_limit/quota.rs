//! How much a client may ask.

use std::num::NonZeroU32;
use std::time::Duration;

/// Cells that come back at a steady rate, and how many of them can be saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    period: Duration,
    burst: NonZeroU32,
}

impl Quota {
    /// So many requests a second, and as many at once.
    pub fn per_second(requests: NonZeroU32) -> Self {
        Self::per(Duration::from_secs(1), requests)
    }

    /// So many requests a minute, and as many at once.
    pub fn per_minute(requests: NonZeroU32) -> Self {
        Self::per(Duration::from_secs(60), requests)
    }

    /// So many requests at once, after which they come back at the same rate as before.
    pub fn with_burst(mut self, burst: NonZeroU32) -> Self {
        self.burst = burst;
        self
    }

    /// Requests that may come at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// The time in which one cell comes back.
    pub fn replenish_interval(&self) -> Duration {
        self.period
    }

    /// The time in which a spent burst comes back whole.
    pub fn window(&self) -> Duration {
        self.period.saturating_mul(self.burst.get())
    }

    fn per(time: Duration, requests: NonZeroU32) -> Self {
        Self { period: (time / requests.get()).max(Duration::from_nanos(1)), burst: requests }
    }

    pub(super) fn to_governor(self) -> governor::Quota {
        // The arithmetic behind is on 64-bit nanoseconds: the window stays below a quarter of that (146 years).
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        let most = u32::try_from(u64::MAX / 4 / period.max(1)).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(most).map_or(NonZeroU32::MIN, |most| most.min(self.burst));
        // The period is never zero, so there always is a quota of it.
        governor::Quota::with_period(self.period)
            .unwrap_or(governor::Quota::per_second(burst))
            .allow_burst(burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_with_burst_keeps_its_rate() {
        let quota = Quota::per_minute(NonZeroU32::new(120).unwrap()).with_burst(NonZeroU32::new(6).unwrap());
        assert_eq!(quota.replenish_interval(), Duration::from_millis(500));
        assert_eq!(quota.burst().get(), 6);
        assert_eq!(quota.window(), Duration::from_secs(3));
        assert_eq!(quota.to_governor().replenish_interval(), Duration::from_millis(500));
        assert_eq!(quota.to_governor().burst_size().get(), 6);
    }

    #[test]
    fn quota_beyond_the_clock_is_cut_to_it() {
        let quota = Quota::per_minute(NonZeroU32::MIN).with_burst(NonZeroU32::MAX).to_governor();
        assert!(quota.burst_size_replenished_in() > Duration::from_secs(100 * 365 * 86_400));
        assert!(quota.burst_size() < NonZeroU32::MAX);
    }

    #[test]
    fn quota_finer_than_the_clock_has_its_grain() {
        assert_eq!(Quota::per_second(NonZeroU32::MAX).replenish_interval(), Duration::from_nanos(1));
    }
}
