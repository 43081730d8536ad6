use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::gauge;
use tokio::time::Instant;

use super::error::Failure;

/// What a request counts that got no answer in time: waiting for more of them would hold many
/// callers for long.
const HANG: u32 = 3;

/// Outages in a row after which the other side is left alone.
const THRESHOLD: u32 = 5;

/// How long it is left alone the first time; twice as long after each try that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Leaves a backend alone that fails again and again, so that callers hear at once instead of
/// waiting, and the backend can recover. After a pause one request tries whether it is back.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    weight: u32,
    pause: Duration,
    /// Set while it is left alone.
    until: Option<Instant>,
    trying: bool,
}

/// One request that is let through; it says how it went, or nothing when its caller goes away.
#[derive(Debug)]
pub(super) struct Permit {
    breaker: Breaker,
    tries: bool,
}

impl Breaker {
    /// Lets a request through, or says how long it has to wait. A probe is always let through.
    pub(super) fn admit(&self, probe: bool) -> Result<Permit, Failure> {
        let mut state = self.state();
        let Some(until) = state.until else { return Ok(Permit { breaker: self.clone(), tries: false }) };
        let wait = until.saturating_duration_since(Instant::now());
        if !probe && (state.trying || !wait.is_zero()) {
            return Err(Failure::Paused { failures: state.failures, wait });
        }
        state.trying = true;
        Ok(Permit { breaker: self.clone(), tries: true })
    }

    /// Whether it is left alone.
    pub(super) fn is_open(&self) -> bool {
        self.state().until.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The other side answered, whatever it said.
    pub(super) fn answered(self) {
        let mut state = self.breaker.state();
        if state.until.is_some() {
            tracing::info!(failures = state.failures, "S3 answers again");
            gauge!("mcp_image_s3_breaker_open").set(0.0);
        }
        *state = State::default();
    }

    /// It did not, or only that it cannot.
    pub(super) fn failed(self, failure: &Failure) {
        let mut state = self.breaker.state();
        let weight = if matches!(failure, Failure::TimedOut { .. }) { HANG } else { 1 };
        state.failures = state.failures.saturating_add(1);
        state.weight = state.weight.saturating_add(weight);
        let first = state.until.is_none();
        if first && state.weight < THRESHOLD || !first && !self.tries {
            return;
        }
        state.pause = if first { FIRST_PAUSE } else { (state.pause * 2).min(LONGEST_PAUSE) };
        state.until = Some(Instant::now() + state.pause);
        if first {
            tracing::warn!(
                failures = state.failures,
                "S3 fails again and again; it is left alone for a while"
            );
            gauge!("mcp_image_s3_breaker_open").set(1.0);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.tries {
            self.breaker.state().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit(false).expect("let through").failed(&Failure::Interrupted(String::new()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_opens_sooner_for_one_that_hangs() {
        let breaker = Breaker::default();
        let hang = Failure::TimedOut { phase: "answer", after: Duration::from_secs(1) };
        breaker.admit(false).expect("let through").failed(&hang);
        breaker.admit(false).expect("let through").failed(&hang);
        assert!(breaker.admit(false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_opens_after_failures_in_a_row_alone() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD - 1);
        breaker.admit(false).expect("let through").answered();
        fail(&breaker, THRESHOLD - 1);
        assert!(breaker.admit(false).is_ok());
        fail(&breaker, 1);
        assert!(matches!(breaker.admit(false), Err(Failure::Paused { failures: THRESHOLD, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_lets_one_try_after_the_pause_and_closes_when_it_is_answered() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        tokio::time::advance(FIRST_PAUSE).await;
        let permit = breaker.admit(false).expect("one try");
        assert!(breaker.admit(false).is_err());
        permit.answered();
        assert!(!breaker.is_open() && breaker.admit(false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_waits_longer_after_each_try_that_fails() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        for seconds in [4, 8, 16, 30, 30] {
            tokio::time::advance(LONGEST_PAUSE).await;
            breaker.admit(false).expect("one try").failed(&Failure::Interrupted(String::new()));
            let Err(Failure::Paused { wait, .. }) = breaker.admit(false) else { panic!("open") };
            assert_eq!(wait, Duration::from_secs(seconds));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_whose_try_was_given_up_lets_the_next_one_try() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breaker.admit(false).expect("one try"));
        assert!(breaker.admit(false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn probe_is_let_through_and_closes_the_breaker() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        breaker.admit(true).expect("let through").answered();
        assert!(breaker.admit(false).is_ok());
    }
}
