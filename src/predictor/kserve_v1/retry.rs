//! What is tried again, and when: only what cost the model nothing.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use super::super::Error;

/// The first wait's upper end; it doubles from try to try.
const BASE: Duration = Duration::from_millis(500);

/// No wait is longer, unless the predictor asked for it.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// A longer `Retry-After` is taken for this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Retries {
    done: u32,
    max: u32,
    deadline: Instant,
}

impl Retries {
    /// At most `max` retries, none of which begins after `deadline`.
    pub(super) fn new(max: u32, deadline: Instant) -> Self {
        Self { done: 0, max, deadline }
    }

    /// How long to wait before trying again after `error`; `None` when it is final, because it is
    /// of the other kind, the tries are used up, or the wait would pass the deadline. `jitter` is
    /// from 0 to 1.
    ///
    /// Exponential backoff with full jitter, so that calls refused together come back apart. A
    /// model that is starting is asked at times that grow over what is left of the deadline, and
    /// never before half of its wait, so that no try is wasted at once. `Retry-After` is the least.
    pub(super) fn wait_after(&mut self, error: &Error, now: Instant, jitter: f64) -> Option<Duration> {
        let left = self.max.checked_sub(self.done).filter(|&left| left > 0)?;
        let budget = self.deadline.saturating_duration_since(now);
        let doubled = BASE.saturating_mul(1_u32.checked_shl(self.done).unwrap_or(u32::MAX)).min(MAX_WAIT);
        let (wait, retry_after) = match error {
            Error::Unreachable(_) => (doubled.mul_f64(jitter), None),
            Error::Busy { retry_after } => (doubled.mul_f64(jitter), *retry_after),
            Error::NotReady { retry_after: Some(retry_after) } => (BASE.mul_f64(jitter), Some(*retry_after)),
            Error::NotReady { retry_after: None } => {
                let share = budget / 1_u32.checked_shl(left).unwrap_or(u32::MAX);
                (share.clamp(BASE, MAX_WAIT).mul_f64(0.5 + jitter / 2.0), None)
            }
            _ => return None,
        };
        let wait = retry_after.map_or(wait, |retry_after| retry_after.saturating_add(wait.min(BASE)));
        if wait >= budget {
            return None;
        }
        self.done += 1;
        Some(wait)
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_READY: Error = Error::NotReady { retry_after: None };
    const BUSY: Error = Error::Busy { retry_after: None };

    fn waits(error: &Error, max: u32, seconds: u64, jitter: f64) -> Vec<f64> {
        let mut now = Instant::now();
        let mut retries = Retries::new(max, now + Duration::from_secs(seconds));
        std::iter::from_fn(|| {
            let wait = retries.wait_after(error, now, jitter)?;
            now += wait;
            Some(wait.as_secs_f64())
        })
        .collect()
    }

    #[test]
    fn retries_of_a_busy_model_back_off_with_full_jitter() {
        assert_eq!(waits(&BUSY, 3, 60, 1.0), [0.5, 1.0, 2.0]);
        assert_eq!(waits(&BUSY, 3, 60, 0.5), [0.25, 0.5, 1.0]);
        assert_eq!(waits(&BUSY, 3, 60, 0.0), [0.0, 0.0, 0.0]);
        assert_eq!(waits(&BUSY, 8, 600, 1.0)[5..], [15.0, 15.0, 15.0]);
    }

    #[test]
    fn retries_of_a_starting_model_spread_over_the_deadline() {
        assert_eq!(waits(&NOT_READY, 3, 60, 1.0), [7.5, 13.125, 15.0]);
        assert_eq!(waits(&NOT_READY, 3, 60, 0.0)[0], 3.75);
        assert_eq!(waits(&NOT_READY, 40, 60, 0.0)[0], 0.25);
    }

    #[test]
    fn retries_end_with_their_number_and_with_the_deadline() {
        assert!(waits(&BUSY, 0, 60, 0.5).is_empty());
        assert_eq!(waits(&BUSY, 5, 2, 1.0), [0.5, 1.0]);
        assert_eq!(waits(&BUSY, 100, 100_000, 1.0).len(), 100);
    }

    #[test]
    fn retries_wait_for_what_retry_after_says() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(waits(&Error::Busy { retry_after: asked(7) }, 2, 60, 1.0), [7.5, 7.5]);
        assert_eq!(waits(&Error::NotReady { retry_after: asked(0) }, 2, 60, 0.0), [0.0, 0.0]);
        assert!(waits(&Error::NotReady { retry_after: asked(61) }, 2, 60, 0.0).is_empty());
    }

    #[test]
    fn retries_after_dispatch_are_none() {
        for error in [
            Error::TimedOut(Duration::from_secs(1)),
            Error::Interrupted("broken".into()),
            Error::OutOfMemory,
            Error::Failed { message: String::new() },
            Error::BadReply { reason: String::new() },
            Error::Unauthorized,
        ] {
            assert!(waits(&error, 3, 60, 0.5).is_empty(), "{error:?}");
        }
    }

    #[test]
    fn retry_after_in_each_form_is_read_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("a value"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
