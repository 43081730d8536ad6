//! Memory for images on their way from a predictor to the store.
//!
//! Predictions in flight cost next to nothing while the model draws; what costs is that their replies come together. So
//! a reply is read only when there is room for it, and until then it stays where it is: in the sockets, which the
//! sender waits for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all images held at a time may have, unless a single one may be larger.
const BUDGET: u64 = 16 << 20;
/// Replies that are read at once, until their turns are over. More share the processor's caches and are each read more
/// slowly, so that all of them take longer and hold more.
const TURNS: usize = 4;
/// The grain of the budget, since permits are 32 bits.
const UNIT: u64 = 1024;

/// Room for the images of one predictor.
#[derive(Debug)]
pub struct Memory {
    budget: u64,
    free: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Room taken by an image, given back when the last clone is dropped. Whoever keeps the bytes keeps this beside them,
/// but for a store: what that keeps is its own affair.
#[derive(Debug, Clone, Default)]
pub struct Held {
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

/// Room taken by a reply that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    room: Option<OwnedSemaphorePermit>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Room for images of up to `max_image_bytes`: at least for one of them.
    #[must_use]
    pub fn new(max_image_bytes: u64) -> Self {
        let budget = Self::budget(max_image_bytes);
        let free = Arc::new(Semaphore::new(units(budget) as usize));
        Self { budget, free, turns: Arc::new(Semaphore::new(TURNS)) }
    }

    /// Bytes that replies and images hold together at most.
    #[must_use]
    pub const fn budget(max_image_bytes: u64) -> u64 {
        if max_image_bytes > BUDGET { max_image_bytes } else { BUDGET }
    }

    /// Waits for its turn and for room to read a reply of so many bytes. Served in order.
    pub(super) async fn read(&self, bytes: u64) -> Reading {
        let wanted = units(bytes.min(self.budget));
        // The semaphores are never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let room = Arc::clone(&self.free).acquire_many_owned(wanted).await.ok();
        Reading { room, turn }
    }
}

impl Reading {
    /// The sender is slow: another reply may be read beside this one.
    pub(super) fn end_turn(&mut self) {
        self.turn = None;
    }

    /// The reply is read, and this is what is left of it.
    pub(super) fn into_held(self, bytes: u64) -> Held {
        let permit = self.room.map(|mut permit| {
            let kept = (units(bytes) as usize).min(permit.num_permits());
            permit.split(kept).unwrap_or(permit)
        });
        Held { _room: permit.map(Arc::new) }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn free(memory: &Memory) -> u64 {
        memory.free.available_permits() as u64 * UNIT
    }

    #[tokio::test]
    async fn room_is_given_back_when_the_last_clone_is_gone() {
        let memory = Memory::new(1 << 20);
        let held = memory.read(5 << 20).await.into_held(1 << 20);
        let clone = held.clone();
        assert_eq!(free(&memory), BUDGET - (1 << 20));
        drop(held);
        assert_eq!(free(&memory), BUDGET - (1 << 20));
        drop(clone);
        assert_eq!(free(&memory), BUDGET);
    }

    #[tokio::test]
    async fn reply_waits_until_there_is_room() {
        let memory = Memory::new(1 << 20);
        let held = memory.read(BUDGET - UNIT).await.into_held(BUDGET - UNIT);
        let one = memory.read(UNIT).now_or_never();
        assert!(one.is_some() && memory.read(1).now_or_never().is_none());
        drop(held);
        assert!(memory.read(1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn few_replies_have_their_turn_at_once_and_any_number_is_held() {
        let memory = Memory::new(1 << 20);
        let mut reading = Vec::new();
        for _ in 0..TURNS {
            reading.push(memory.read(UNIT).await);
        }
        assert!(memory.read(UNIT).now_or_never().is_none());
        reading[0].end_turn();
        assert!(memory.read(UNIT).now_or_never().is_some());
        let held: Vec<_> = reading.into_iter().map(|reading| reading.into_held(UNIT)).collect();
        assert!(memory.read(UNIT).now_or_never().is_some(), "{held:?}");
        assert_eq!(free(&memory), BUDGET - held.len() as u64 * UNIT);
    }

    #[tokio::test]
    async fn largest_image_has_room_even_beyond_the_usual_budget() {
        let memory = Memory::new(2 * BUDGET);
        assert!(memory.read(2 * BUDGET).now_or_never().is_some());
        assert!(memory.read(u64::MAX).now_or_never().is_some(), "more than all is all");
    }
}
