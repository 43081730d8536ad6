//! What all pages of the list may hold together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::Error;

/// Bytes that pages of the list hold at most, those being made and those being sent.
pub const LISTINGS_MEMORY: usize = 24 << 20;

/// Bytes of a page at most, but for a single image that has more.
pub(super) const PAGE_BYTES: usize = 4 << 20;
/// Images that are asked of the store at once. Their metadata, with the longest prompts, takes some
/// 5 MiB.
pub(super) const LOOKED_AT_ONCE: usize = 64;

/// Bytes of one permit.
const UNIT: usize = 16 << 10;
/// Permits of a page while it is made, 12 MiB: itself, the half of it that it grows out of, and the
/// metadata.
const MAKING: u32 = 768;
/// A request waits for room no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room for pages. A page is given room for its making, and keeps what it needs until its last
/// byte is handed to the socket: readers that do not read hold no more than [`LISTINGS_MEMORY`].
#[derive(Debug)]
pub(super) struct Listings(Arc<Semaphore>);

/// The room of one page.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

/// A page, and its room.
struct Page {
    json: Vec<u8>,
    _room: Room,
}

impl Default for Listings {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTINGS_MEMORY / UNIT)))
    }
}

impl Listings {
    /// Room to make a page in, in the order of asking.
    pub(super) async fn room(&self) -> Result<Room, Error> {
        let room = Arc::clone(&self.0).acquire_many_owned(MAKING);
        match timeout(PATIENCE, room).await {
            Ok(Ok(permit)) => Ok(Room(permit)),
            Ok(Err(_)) | Err(_) => Err(Error::ListingsBusy),
        }
    }
}

impl Room {
    /// The page as it is sent; it keeps the room that it takes, and no more.
    pub(super) fn keep(mut self, json: Vec<u8>) -> Bytes {
        let spare = self.0.num_permits().saturating_sub(json.capacity().div_ceil(UNIT));
        drop(self.0.split(spare));
        Bytes::from_owner(Page { json, _room: self })
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_held_by_pages_that_are_not_sent_and_given_back_with_them() {
        let listings = Listings::default();
        let mut pages = Vec::new();
        for _ in 0..4 {
            pages.push(listings.room().await.expect("room").keep(vec![0; PAGE_BYTES]));
        }
        assert!(matches!(listings.room().await, Err(Error::ListingsBusy)));
        // A part of a page holds the whole of it.
        let page = pages.pop().expect("a page");
        let rest = page.slice(PAGE_BYTES - 1..);
        drop(page);
        assert!(matches!(listings.room().await, Err(Error::ListingsBusy)));
        drop(rest);
        assert!(listings.room().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn small_pages_hold_little() {
        let listings = Listings::default();
        let page = || async { listings.room().await.expect("room").keep(vec![0; 50_000]) };
        let pages = futures_util::future::join_all((0..190).map(|_| page())).await;
        assert_eq!(pages.len(), 190);
    }
}
