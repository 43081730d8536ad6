//! The placeholder in an image's metadata, made while it costs next to nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::image::{Inspected, thumbhash};

/// Time that must pass for each part of it spent: half a hundredth of one core.
const REST: u32 = 200;

/// Makes thumbhashes, one at a time and within half a hundredth of one core.
///
/// To make one, the image is decoded: nothing beside a model that draws for seconds, but far more
/// than all the rest where images come by the hundred a second. So an image that comes too soon after
/// the one before goes without.
#[derive(Debug, Clone, Default)]
pub(super) struct Placeholders(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Working,
    RestingUntil(Instant),
}

impl Placeholders {
    /// The image's thumbhash, if it is its turn and the image can be decoded.
    pub(super) async fn make(&self, bytes: &Bytes, inspected: Inspected) -> Option<String> {
        let turn = self.turn(Instant::now())?;
        let bytes = bytes.clone();
        let made = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let made = thumbhash(&bytes, inspected);
            turn.end(started.elapsed());
            made
        });
        match made.await {
            Ok(Ok(hash)) => Some(hash),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "no placeholder could be made"
                );
                None
            }
            Err(_) => None,
        }
    }

    fn turn(&self, now: Instant) -> Option<Turn> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Working => return None,
            State::RestingUntil(end) if end > now => return None,
            State::Idle | State::RestingUntil(_) => {}
        }
        *state = State::Working;
        Some(Turn(Arc::clone(&self.0)))
    }
}

/// The right to work; others may again when it is dropped.
#[derive(Debug)]
struct Turn(Arc<Mutex<State>>);

impl Turn {
    fn end(self, spent: Duration) {
        self.set(State::RestingUntil(Instant::now() + spent * REST));
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After a panic.
        if matches!(*state, State::Working) {
            *state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::image::{DynamicImage, ImageFormat, RgbImage};

    use super::*;
    use crate::image::{Limits, inspect};

    #[test]
    fn work_is_followed_by_rest() {
        let placeholders = Placeholders::default();
        let now = Instant::now();
        let turn = placeholders.turn(now).expect("idle");
        assert!(placeholders.turn(now).is_none(), "one at a time");
        turn.end(Duration::from_secs(1));
        assert!(placeholders.turn(now + Duration::from_secs(199)).is_none());
        assert!(placeholders.turn(now + Duration::from_secs(400)).is_some());
    }

    #[test]
    fn turn_that_is_lost_does_not_block_the_next() {
        let placeholders = Placeholders::default();
        drop(placeholders.turn(Instant::now()));
        assert!(placeholders.turn(Instant::now()).is_some());
    }

    #[tokio::test]
    async fn image_gets_a_placeholder_and_what_is_none_does_not() {
        let mut bytes = Vec::new();
        let image = DynamicImage::ImageRgb8(RgbImage::new(64, 64));
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("encodes");
        let inspected =
            inspect(&bytes, Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 }).expect("an image");
        let bytes = Bytes::from(bytes);
        let hash = Placeholders::default().make(&bytes, inspected).await.expect("a hash");
        assert!(base64_simd::STANDARD.decode_to_vec(hash).is_ok_and(|hash| (5..=25).contains(&hash.len())));
        let cut = bytes.slice(..20);
        assert_eq!(Placeholders::default().make(&cut, inspected).await, None);
    }
}
