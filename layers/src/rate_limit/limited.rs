//! The cause, and what it says in headers.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use super::Quota;

/// A client asked for more than its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over the rate limit `{limiter}`: next request in {retry_after:?}")]
pub struct RateLimited {
    /// The name of the limiter.
    pub limiter: &'static str,
    /// After this time one request is allowed again.
    pub retry_after: Duration,
    /// What is allowed.
    pub quota: Quota,
}

impl RateLimited {
    /// [`retry_after`](Self::retry_after) in whole seconds, rounded up, at least 1.
    pub fn retry_after_seconds(&self) -> u64 {
        whole_seconds(self.retry_after)
    }

    /// Writes `Retry-After` (RFC 9110, section 10.2.3), and `RateLimit` and `RateLimit-Policy`
    /// (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let seconds = self.retry_after_seconds();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        let window = whole_seconds(self.quota.window());
        let policy = format!("\"{}\";q={};w={window}", self.limiter, self.quota.burst());
        insert(headers, HeaderName::from_static("ratelimit-policy"), policy);
        insert(
            headers,
            HeaderName::from_static("ratelimit"),
            format!("\"{}\";r=0;t={seconds}", self.limiter),
        );
    }
}

fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Only a limiter's name that is no token could fail here; then the header is left out.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn write_headers_rounds_up_and_says_at_least_one_second() {
        let quota = Quota::per_second(NonZeroU32::new(10).unwrap()).with_burst(NonZeroU32::new(25).unwrap());
        for (millis, seconds) in [(0, "1"), (80, "1"), (1000, "1"), (1001, "2")] {
            let limited = RateLimited { limiter: "mcp", retry_after: Duration::from_millis(millis), quota };
            let mut headers = HeaderMap::new();
            limited.write_headers(&mut headers);
            assert_eq!(headers["retry-after"], seconds);
            assert_eq!(headers["ratelimit"], format!("\"mcp\";r=0;t={seconds}"));
            assert_eq!(headers["ratelimit-policy"], "\"mcp\";q=25;w=3");
        }
    }
}
