//! Who may draw now, and who waits: a bounded queue that serves clients in turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layers::client_addr::ClientKey;
use tokio::sync::oneshot;

use crate::predictor::{Progress, ProgressSender};

/// Whom a generation is for: the key of fairness. `None` is one client too.
pub type Client = Option<ClientKey>;

/// The queue in front of a predictor.
///
/// At most `concurrency` places are taken at once. When one is given back, it goes to the client
/// that was served longest ago, so one client's hundred requests do not hold up another's first.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Shared>);

/// A place taken: given back on drop.
#[derive(Debug)]
pub struct Place(Arc<Shared>);

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} generations are waiting already")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
}

#[derive(Debug)]
struct Shared {
    concurrency: usize,
    queue_size: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// In order of arrival.
    waiting: Vec<Waiter>,
    /// When each waiting client was last served, in turns; clients that do not wait are forgotten.
    served: HashMap<Client, u64>,
    turn: u64,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    client: Client,
    place: oneshot::Sender<Place>,
    progress: ProgressSender,
}

impl Admission {
    /// A queue of `queue_size` in front of `concurrency` places.
    #[must_use]
    pub fn new(concurrency: usize, queue_size: usize) -> Self {
        // Nobody waits yet: that is a depth too, and one that dashboards can show.
        queue_depth(0);
        Self(Arc::new(Shared { concurrency, queue_size, state: Mutex::default() }))
    }

    /// Waits for a place, telling how many come first. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`Full`] at once, if there is neither a place nor room to wait.
    pub async fn enter(&self, client: Client, progress: &ProgressSender) -> Result<Place, Full> {
        let (ticket, place) = {
            let mut state = self.0.lock();
            if state.running < self.0.concurrency && state.waiting.is_empty() {
                state.running += 1;
                return Ok(Place(self.0.clone()));
            }
            if state.waiting.len() >= self.0.queue_size {
                return Err(Full { waiting: state.waiting.len() });
            }
            state.enqueue(client, progress)
        };
        let _leave_on_drop = Leave { shared: &self.0, ticket };
        match place.await {
            Ok(place) => Ok(place),
            // The sender lives in the queue until it is used, and the queue outlives this call.
            Err(_) => Err(Full { waiting: self.waiting() }),
        }
    }

    /// Generations that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Generations that have a place.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.lock().running
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            state.running -= 1;
            state.take_next()
        };
        // Outside the lock: a waiter that has just left gives the place back at once.
        if let Some(waiter) = next {
            let _ = waiter.place.send(Self(self.0.clone()));
        }
    }
}

impl Shared {
    /// The state holds no invariant that a panic elsewhere could break, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, client: Client, progress: &ProgressSender) -> (u64, oneshot::Receiver<Place>) {
        let (place, receiver) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push(Waiter { ticket, client, place, progress: progress.clone() });
        self.tell_positions();
        (ticket, receiver)
    }

    /// The waiter to be served next, its place counted as taken.
    fn take_next(&mut self) -> Option<Waiter> {
        let served = |waiter: &Waiter| self.served.get(&waiter.client).copied().unwrap_or_default();
        // `min_by_key` keeps the first of equals: among clients alike, who came first.
        let (index, _) = self.waiting.iter().enumerate().min_by_key(|(_, waiter)| served(waiter))?;
        let waiter = self.waiting.remove(index);
        self.running += 1;
        self.turn += 1;
        self.served.insert(waiter.client, self.turn);
        self.forget_absent();
        self.tell_positions();
        Some(waiter)
    }

    fn leave(&mut self, ticket: u64) {
        let before = self.waiting.len();
        self.waiting.retain(|waiter| waiter.ticket != ticket);
        if self.waiting.len() != before {
            self.forget_absent();
            self.tell_positions();
        }
    }

    fn forget_absent(&mut self) {
        let waiting = &self.waiting;
        self.served.retain(|client, _| waiting.iter().any(|waiter| waiter.client == *client));
    }

    fn tell_positions(&self) {
        for (ahead, waiter) in self.waiting.iter().enumerate() {
            waiter.progress.send(Progress::Queued { ahead });
        }
        queue_depth(self.waiting.len());
    }
}

struct Leave<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.lock().leave(self.ticket);
    }
}

#[expect(clippy::cast_precision_loss, reason = "queues are far shorter than 2^52")]
fn queue_depth(waiting: usize) {
    metrics::gauge!("mcp_image_generation_queue_depth").set(waiting as f64);
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use futures_util::FutureExt;

    use super::*;
    use crate::predictor::progress_channel;

    fn client(last_byte: u8) -> Client {
        Some(std::net::IpAddr::from([10, 0, 0, last_byte]).into())
    }

    fn now<F: Future>(future: F) -> Option<F::Output> {
        future.now_or_never()
    }

    #[test]
    fn queue_full_refuses_at_once() {
        let (alice, bob) = (client(1), client(2));
        let admission = Admission::new(1, 1);
        let (progress, _) = progress_channel();
        let _running = now(admission.enter(alice, &progress)).expect("ready").expect("a place");
        let mut waiting = pin!(admission.enter(alice, &progress));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        assert_eq!(now(admission.enter(bob, &progress)).expect("ready").err(), Some(Full { waiting: 1 }));
    }

    #[test]
    fn places_go_to_the_client_served_longest_ago() {
        let (alice, bob_s) = (client(1), client(2));
        let admission = Admission::new(1, 8);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (progress, _) = progress_channel();
        let running = now(admission.enter(alice, &progress)).expect("ready").expect("a place");
        let mut alice_1 = pin!(admission.enter(alice, &progress));
        let mut alice_2 = pin!(admission.enter(alice, &progress));
        let mut bob = pin!(admission.enter(bob_s, &progress));
        assert!(alice_1.as_mut().poll(&mut context).is_pending());
        assert!(alice_2.as_mut().poll(&mut context).is_pending());
        assert!(bob.as_mut().poll(&mut context).is_pending());
        drop(running);
        let first = alice_1.as_mut().now_or_never().expect("first come").expect("a place");
        drop(first);
        let second = bob.as_mut().now_or_never().expect("the other client's turn").expect("a place");
        assert!(alice_2.as_mut().poll(&mut context).is_pending());
        drop(second);
        assert!(alice_2.as_mut().now_or_never().is_some());
    }

    #[test]
    fn waiter_that_leaves_frees_its_place_and_moves_the_others_up() {
        let alice = client(1);
        let admission = Admission::new(1, 8);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (progress, _) = progress_channel();
        let (last_progress, position) = progress_channel();
        let running = now(admission.enter(alice, &progress)).expect("ready").expect("a place");
        let mut last = pin!(admission.enter(alice, &last_progress));
        {
            let mut leaver = pin!(admission.enter(alice, &progress));
            assert!(leaver.as_mut().poll(&mut context).is_pending());
            assert!(last.as_mut().poll(&mut context).is_pending());
            assert_eq!(*position.borrow(), Progress::Queued { ahead: 1 });
        }
        assert_eq!(*position.borrow(), Progress::Queued { ahead: 0 });
        drop(running);
        assert!(last.as_mut().now_or_never().is_some());
        assert_eq!((admission.running(), admission.waiting()), (0, 0));
    }
}
