//! Work that several ask for at once is done once.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};

type Work<V> = Pin<Box<dyn Future<Output = V> + Send>>;

/// Work under way, by what it is for. Cheap to clone.
///
/// Whoever waits drives it; when nobody waits any more, it is dropped.
pub(super) struct Flights<K, V: Clone>(Arc<Running<K, V>>);

struct Running<K, V: Clone> {
    flights: Mutex<HashMap<K, Flight<V>>>,
    next: AtomicU64,
}

struct Flight<V: Clone> {
    number: u64,
    work: WeakShared<Work<V>>,
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::new(Running { flights: Mutex::default(), next: AtomicU64::new(0) }))
    }
}

impl<K: Hash + Eq + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// The outcome of the work for `key`: joined if it is under way, else begun with `work`.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.find_or_begin(key, work).await
    }

    fn find_or_begin<F>(&self, key: K, work: impl FnOnce() -> F) -> Shared<Work<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = flights.get(&key).and_then(|flight| flight.work.upgrade()) {
            return shared;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let landing = Landing { running: Arc::clone(&self.0), key: key.clone(), number };
        let work = work();
        let work: Work<V> = Box::pin(async move {
            let _landing = landing;
            work.await
        });
        let shared = work.shared();
        if let Some(weak) = shared.downgrade() {
            flights.insert(key, Flight { number, work: weak });
        }
        shared
    }

    /// How many are under way.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.flights.lock().expect("no panic").len()
    }
}

/// Takes a flight off the list when it ends, or is dropped.
struct Landing<K: Hash + Eq, V: Clone> {
    running: Arc<Running<K, V>>,
    key: K,
    number: u64,
}

impl<K: Hash + Eq, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut flights = self.running.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one for the same key may have begun since.
        if flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn work_asked_for_at_once_is_done_once() {
        let (flights, done) = (Flights::<u32, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let ask = |key| {
            let (done, gate) = (Arc::clone(&done), Arc::clone(&gate));
            flights.join(key, move || async move {
                let _permit = gate.acquire().await;
                done.fetch_add(1, Ordering::SeqCst)
            })
        };
        let all = join_all((0..64).map(|_| ask(7)));
        let (outcomes, ()) = tokio::join!(all, async { gate.add_permits(1) });
        assert_eq!(outcomes, [0; 64]);
        assert_eq!(flights.len(), 0);
        assert_eq!(ask(7).await, 1, "later, it is done again");
        assert_eq!(ask(8).await, 2);
    }

    #[tokio::test]
    async fn work_goes_on_when_who_began_it_goes_away() {
        let flights = Flights::<u32, u32>::default();
        let gate = Arc::new(Semaphore::new(0));
        let waits = Arc::clone(&gate);
        let mut first = Box::pin(flights.join(1, move || async move {
            let _permit = waits.acquire().await;
            5
        }));
        let mut second = Box::pin(flights.join(1, std::future::pending));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.add_permits(1);
        assert_eq!(second.await, 5);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let flights = Flights::<u32, u32>::default();
        let held = Arc::new(());
        let witness = Arc::downgrade(&held);
        let mut only = Box::pin(flights.join(1, move || async move {
            let _held = held;
            std::future::pending().await
        }));
        assert!(futures_util::poll!(&mut only).is_pending());
        assert_eq!(flights.len(), 1);
        drop(only);
        assert!(witness.upgrade().is_none());
        assert_eq!(flights.len(), 0);
    }
}
