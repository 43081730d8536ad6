//! The shared state of one limiter.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;

use super::store::{BoundedStore, Key};
use super::{Quota, RateLimited};

/// Looking through all cells takes time in proportion to the cap, so it is not done more often than this.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Limiter {
    name: &'static str,
    quota: Quota,
    max_keys: usize,
    cells: RateLimiter<Key, BoundedStore, RuntimeClock, NoOpMiddleware<Instant>>,
    last_sweep: Mutex<Option<Instant>>,
    published_keys: AtomicUsize,
}

/// The runtime's monotonic clock, which tests can hold and move.
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Limiter {
    pub(super) fn new(name: &'static str, quota: Quota, max_keys: usize) -> Self {
        metrics::counter!("http_server_rate_limited_total", "limiter" => name).increment(0);
        Self {
            name,
            quota,
            max_keys,
            cells: RateLimiter::new(quota.to_governor(), BoundedStore::new(max_keys), RuntimeClock),
            last_sweep: Mutex::new(None),
            published_keys: AtomicUsize::new(0),
        }
    }

    /// Takes one cell from this client's quota.
    pub(super) fn take(&self, key: Key) -> Result<(), RateLimited> {
        if self.cells.len() >= self.max_keys {
            self.sweep();
        }
        let taken = self.cells.check_key(&key);
        self.publish_keys();
        taken.map_err(|not_until| {
            metrics::counter!("http_server_rate_limited_total", "limiter" => self.name).increment(1);
            let retry_after = not_until.wait_time_from(self.cells.clock().now());
            RateLimited { limiter: self.name, retry_after, quota: self.quota }
        })
    }

    /// Forgets the clients whose quota is whole again.
    fn sweep(&self) {
        // Someone else is at it: that is enough.
        let Ok(mut last) = self.last_sweep.try_lock() else { return };
        let now = self.cells.clock().now();
        if last.is_none_or(|last| now.duration_since(last) >= SWEEP_INTERVAL) {
            *last = Some(now);
            self.cells.retain_recent();
        }
    }

    fn publish_keys(&self) {
        let keys = self.cells.len();
        if self.published_keys.swap(keys, Ordering::Relaxed) != keys {
            let keys = u32::try_from(keys).unwrap_or(u32::MAX);
            metrics::gauge!("http_server_rate_limit_keys", "limiter" => self.name).set(keys);
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("name", &self.name)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;

    use super::*;
    use crate::client_addr::ClientKey;
    use crate::test_metrics::Recorded;

    fn client(n: u8) -> Key {
        Some(ClientKey::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, n))))
    }

    fn limiter(max_keys: usize) -> Limiter {
        Limiter::new("test", Quota::per_second(NonZeroU32::MIN), max_keys)
    }

    #[tokio::test(start_paused = true)]
    async fn clients_have_cells_of_their_own() {
        let limiter = limiter(10);
        assert!(limiter.take(client(1)).is_ok());
        assert!(limiter.take(client(2)).is_ok());
        assert!(limiter.take(None).is_ok());
        assert!(limiter.take(client(1)).is_err());
        assert!(limiter.take(None).is_err());
        assert_eq!(limiter.cells.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_requests_do_not_postpone_the_next_one() {
        let limiter = limiter(10);
        assert!(limiter.take(client(1)).is_ok());
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(limiter.take(client(1)).unwrap_err().retry_after, Duration::from_millis(400));
        tokio::time::advance(Duration::from_millis(400)).await;
        assert!(limiter.take(client(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_over_the_cap_share_the_overflow_cell() {
        let limiter = limiter(2);
        assert!(limiter.take(client(1)).is_ok());
        assert!(limiter.take(client(2)).is_ok());
        assert!(limiter.take(client(3)).is_ok());
        assert!(limiter.take(client(4)).is_err(), "client 3 emptied the overflow cell");
        assert_eq!(limiter.cells.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn cap_reached_forgets_clients_that_have_recovered() {
        let limiter = limiter(2);
        assert!(limiter.take(client(1)).is_ok());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limiter.take(client(2)).is_ok());
        assert!(limiter.take(client(3)).is_ok());
        assert!(limiter.take(client(4)).is_ok(), "in the overflow cell, so client 3 is not");
        assert!(limiter.take(client(3)).is_err());
        assert!(limiter.take(client(2)).is_err(), "client 2 has not recovered and is still known");
    }

    #[tokio::test(start_paused = true)]
    async fn sweep_happens_at_most_once_in_its_interval() {
        let limiter = Limiter::new("test", Quota::per_second(NonZeroU32::new(1000).unwrap()), 1);
        assert!(limiter.take(client(1)).is_ok());
        limiter.sweep();
        tokio::time::advance(SWEEP_INTERVAL - Duration::from_millis(1)).await;
        limiter.sweep();
        assert_eq!(limiter.cells.len(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        limiter.sweep();
        assert_eq!(limiter.cells.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_count_refusals_and_keys() {
        let recorded = Recorded::default();
        let _guard = metrics::set_default_local_recorder(&recorded);
        let limiter = limiter(10);
        for n in [1, 2, 2, 2] {
            let _ = limiter.take(client(n));
        }
        assert_eq!(recorded.counter("http_server_rate_limited_total{limiter=test}"), 2);
        assert_eq!(recorded.gauge("http_server_rate_limit_keys{limiter=test}"), 2.0);
    }
}
