use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::image::ImageId;

/// One turn at a time for each image, within this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<Mutex<HashMap<ImageId, Arc<tokio::sync::Mutex<()>>>>>);

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    locks: Locks,
    id: ImageId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the turn.
    pub(super) async fn turn(&self, id: ImageId) -> Turn {
        let lock = Arc::clone(self.map().entry(id).or_default());
        let mut turn = Turn { locks: self.clone(), id, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    fn map(&self) -> MutexGuard<'_, HashMap<ImageId, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
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
