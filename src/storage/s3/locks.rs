use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

type Waiting<K> = HashMap<K, Arc<tokio::sync::Mutex<()>>>;

/// One turn at a time for each image or record, within this process.
#[derive(Debug, Clone)]
pub(super) struct Locks<K>(Arc<Mutex<Waiting<K>>>);

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<K: Clone + Eq + Hash> {
    locks: Locks<K>,
    id: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Locks<K> {
    /// Waits for the turn.
    pub(super) async fn turn(&self, id: K) -> Turn<K> {
        let lock = Arc::clone(self.map().entry(id.clone()).or_default());
        let mut turn = Turn { locks: self.clone(), id, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    fn map(&self) -> MutexGuard<'_, Waiting<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut map = self.locks.map();
        self.guard = None;
        // Nobody waits who has not got it from the map.
        if map.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageId;

    #[tokio::test]
    async fn turns_of_one_image_come_one_after_the_other_and_leave_nothing() {
        let (locks, id) = (Locks::default(), ImageId::now());
        let first = locks.turn(id).await;
        let other = locks.turn(ImageId::now()).await;
        let mut second = std::pin::pin!(locks.turn(id));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop((first, other));
        drop(second.await);
        assert!(locks.map().is_empty());
    }

    #[tokio::test]
    async fn turn_that_is_not_waited_for_leaves_nothing() {
        let (locks, id) = (Locks::default(), ImageId::now());
        let first = locks.turn(id).await;
        {
            let mut second = std::pin::pin!(locks.turn(id));
            assert!(futures_util::poll!(second.as_mut()).is_pending());
        }
        drop(first);
        assert!(locks.map().is_empty());
    }
}
