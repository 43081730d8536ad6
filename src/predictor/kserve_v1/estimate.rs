//! How long a prediction takes, learned from past ones: a stock runtime tells no progress.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::{Progress, Request};

/// Before anything is learned: 50 steps of 512×512 in 10 s, as a small accelerator does.
const DEFAULT_SECONDS_PER_STEP_PIXEL: f64 = 10.0 / (50.0 * 512.0 * 512.0);

/// How much the latest duration counts.
const WEIGHT: f64 = 0.3;

/// An estimate reaches this part of the steps and no more until the image is there.
const MOST: f64 = 0.95;

/// Up to here an estimate runs evenly; beyond, it slows down towards [`MOST`], because the call
/// may take longer than the ones before.
const EVEN: f64 = 0.8;

/// The exponential moving average of seconds per step and pixel.
#[derive(Debug, Default)]
pub(super) struct Estimate(Mutex<Option<f64>>);

impl Estimate {
    /// How long `request` is expected to take.
    pub(super) fn expected(&self, request: &Request) -> Duration {
        let learned = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = learned.unwrap_or(DEFAULT_SECONDS_PER_STEP_PIXEL) * work(request);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Learns how long `request` took.
    pub(super) fn learn(&self, request: &Request, took: Duration) {
        let sample = took.as_secs_f64() / work(request);
        let mut learned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *learned = Some(learned.map_or(sample, |average| average + WEIGHT * (sample - average)));
    }
}

/// Where `request` stands after `elapsed` when `expected` was expected.
pub(super) fn progress(request: &Request, elapsed: Duration, expected: Duration) -> Progress {
    let total = request.num_inference_steps;
    Progress::Drawing { step: f64::from(total) * fraction(elapsed, expected), total, estimated: true }
}

fn fraction(elapsed: Duration, expected: Duration) -> f64 {
    let part = elapsed.as_secs_f64() / expected.as_secs_f64().max(0.001);
    if part <= EVEN {
        return part;
    }
    let room = MOST - EVEN;
    EVEN + room * (1.0 - (-(part - EVEN) / room).exp())
}

fn work(request: &Request) -> f64 {
    let pixels = f64::from(request.width) * f64::from(request.height);
    (f64::from(request.num_inference_steps) * pixels).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(width: u32, steps: u32) -> Request {
        Request {
            prompt: String::new(),
            negative_prompt: None,
            width,
            height: 512,
            num_inference_steps: steps,
            guidance_scale: 7.5,
            seed: None,
        }
    }

    #[test]
    fn estimate_before_the_first_sample_is_modest() {
        let expected = Estimate::default().expected(&request(512, 50));
        assert!((expected.as_secs_f64() - 10.0).abs() < 1e-6, "{expected:?}");
    }

    #[test]
    fn estimate_learns_per_step_and_pixel_and_follows_changes() {
        let estimate = Estimate::default();
        estimate.learn(&request(512, 50), Duration::from_secs(20));
        let expected = |width, steps| estimate.expected(&request(width, steps)).as_secs_f64();
        assert!((expected(512, 50) - 20.0).abs() < 1e-6);
        assert!((expected(1024, 25) - 20.0).abs() < 1e-6);
        estimate.learn(&request(512, 50), Duration::from_secs(10));
        assert!((expected(512, 50) - 17.0).abs() < 1e-6);
    }

    #[test]
    fn progress_grows_and_never_reaches_the_end() {
        let mut last = -1.0;
        for tenths in 0..100 {
            let elapsed = Duration::from_millis(100 * tenths);
            let now = progress(&request(512, 40), elapsed, Duration::from_secs(2));
            let Progress::Drawing { step, total: 40, estimated: true } = now else { panic!("{now:?}") };
            assert!(step >= last && step <= 38.0, "{step} after {elapsed:?}");
            last = step;
        }
        assert!(last > 37.9);
    }
}
