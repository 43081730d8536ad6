//! Who may work now, and who waits: a bounded queue that serves clients in turn.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layers::client_addr::ClientKey;
use tokio::sync::oneshot;

/// Whom the work is for: the key of fairness. `None` is one client too.
pub type Client = Option<ClientKey>;

/// The queue in front of a few places.
///
/// At most `concurrency` places are taken at once. When one is given back, it goes to the client
/// that was served longest ago, so one client's hundred requests do not hold up another's first.
///
/// Nor does one client keep the others out of a full queue: who comes then takes the seat of the
/// client that has the most, if that leaves it with at least as many as the newcomer has.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Shared>);

/// A place taken: given back on drop.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    client: Client,
}

/// There is no room to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} are waiting already")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
    /// Whether it had waited, and had to make room for a client with less.
    pub displaced: bool,
}

#[derive(Debug)]
struct Shared {
    concurrency: usize,
    queue_size: usize,
    tell_depth: fn(usize),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// In order of arrival.
    waiting: Vec<Waiter>,
    /// Clients that wait or have a place; others are forgotten.
    clients: HashMap<Client, Standing>,
    turn: u64,
    next_ticket: u64,
}

/// How a client stands.
#[derive(Debug, Default)]
struct Standing {
    /// When it was served last, in turns.
    served: u64,
    waiting: usize,
    running: usize,
}

struct Waiter {
    ticket: u64,
    client: Client,
    place: oneshot::Sender<Place>,
    tell_position: Box<dyn Fn(usize) + Send>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Admission {
    /// A queue of `queue_size` in front of `concurrency` places. `tell_depth` is told how many wait
    /// whenever that changes; be quick there.
    #[must_use]
    pub fn new(concurrency: usize, queue_size: usize, tell_depth: fn(usize)) -> Self {
        // Nobody waits yet: that is a depth too, and one that dashboards can show.
        tell_depth(0);
        Self(Arc::new(Shared { concurrency, queue_size, tell_depth, state: Mutex::default() }))
    }

    /// Waits for a place; `tell_position` is told how many came before, and must be quick. Dropping
    /// the future leaves the queue.
    ///
    /// # Errors
    /// [`Full`] at once, if there is neither a place nor room to wait; or later, if a client with
    /// less needs the room.
    pub async fn enter(
        &self,
        client: Client,
        tell_position: impl Fn(usize) + Send + 'static,
    ) -> Result<Place, Full> {
        let (ticket, place) = match self.0.begin(client, Box::new(tell_position))? {
            Entry::Place => return Ok(Place { shared: Arc::clone(&self.0), client }),
            Entry::Seat(ticket, place) => (ticket, place),
        };
        let _leave_on_drop = Leave { shared: &self.0, ticket };
        // The sender lives in the queue until it is used, or has to make room.
        place.await.map_err(|_| Full { waiting: self.waiting(), displaced: true })
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// How many have a place.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.lock().running
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut state = self.shared.lock();
            state.running -= 1;
            let next = state.take_next();
            state.change(self.client, |standing| standing.running -= 1);
            if next.is_some() {
                self.shared.tell(&state);
            }
            next
        };
        // Outside the lock: a waiter that has just left gives the place back at once.
        if let Some(waiter) = next {
            let place = Self { shared: Arc::clone(&self.shared), client: waiter.client };
            let _ = waiter.place.send(place);
        }
    }
}

/// What a newcomer gets.
enum Entry {
    Place,
    Seat(u64, oneshot::Receiver<Place>),
}

impl Shared {
    /// The state holds no invariant that a panic elsewhere could break, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, client: Client, tell_position: Box<dyn Fn(usize) + Send>) -> Result<Entry, Full> {
        let mut state = self.lock();
        if state.running < self.concurrency && state.waiting.is_empty() {
            state.running += 1;
            state.serve(client);
            return Ok(Entry::Place);
        }
        let displaced = if state.waiting.len() < self.queue_size {
            None
        } else {
            let full = Full { waiting: state.waiting.len(), displaced: false };
            Some(state.make_room(client).ok_or(full)?)
        };
        let (ticket, place) = state.enqueue(client, tell_position);
        self.tell(&state);
        drop(state);
        // Outside the lock: this wakes it.
        drop(displaced);
        Ok(Entry::Seat(ticket, place))
    }

    fn tell(&self, state: &State) {
        for (ahead, waiter) in state.waiting.iter().enumerate() {
            (waiter.tell_position)(ahead);
        }
        (self.tell_depth)(state.waiting.len());
    }
}

impl State {
    fn enqueue(
        &mut self,
        client: Client,
        tell_position: Box<dyn Fn(usize) + Send>,
    ) -> (u64, oneshot::Receiver<Place>) {
        let (place, receiver) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push(Waiter { ticket, client, place, tell_position });
        self.change(client, |standing| standing.waiting += 1);
        (ticket, receiver)
    }

    /// The waiter to be served next, its place counted as taken.
    fn take_next(&mut self) -> Option<Waiter> {
        let served = |waiter: &Waiter| self.clients.get(&waiter.client).map_or(0, |client| client.served);
        // `min_by_key` keeps the first of equals: among clients alike, who came first.
        let (index, _) = self.waiting.iter().enumerate().min_by_key(|(_, waiter)| served(waiter))?;
        let waiter = self.waiting.remove(index);
        self.running += 1;
        self.serve(waiter.client);
        self.change(waiter.client, |standing| standing.waiting -= 1);
        Some(waiter)
    }

    /// Counts a place as `client`'s.
    fn serve(&mut self, client: Client) {
        self.turn += 1;
        let turn = self.turn;
        self.change(client, |standing| {
            standing.served = turn;
            standing.running += 1;
        });
    }

    /// Takes the last waiter of the client that has the most, if that makes the shares of it and of
    /// `newcomer` more even. The others have waited longer, and where all have as much, who came
    /// first stays: nobody could wait in peace otherwise.
    fn make_room(&mut self, newcomer: Client) -> Option<Waiter> {
        let most = self.clients.values().map(|standing| standing.waiting).max()?;
        let own = self.clients.get(&newcomer).map_or(0, |standing| standing.waiting);
        if own + 1 >= most {
            return None;
        }
        let has_most = |waiter: &Waiter| self.clients.get(&waiter.client).is_some_and(|c| c.waiting == most);
        let index = self.waiting.iter().rposition(has_most)?;
        let waiter = self.waiting.remove(index);
        self.change(waiter.client, |standing| standing.waiting -= 1);
        Some(waiter)
    }

    /// Whether it was still there.
    fn leave(&mut self, ticket: u64) -> bool {
        let Ok(index) = self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) else {
            return false;
        };
        let waiter = self.waiting.remove(index);
        self.change(waiter.client, |standing| standing.waiting -= 1);
        true
    }

    fn change(&mut self, client: Client, change: impl FnOnce(&mut Standing)) {
        let standing = self.clients.entry(client).or_default();
        change(standing);
        if standing.waiting == 0 && standing.running == 0 {
            self.clients.remove(&client);
        }
    }
}

struct Leave<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.leave(self.ticket) {
            self.shared.tell(&state);
        }
    }
}

#[cfg(test)]
mod tests;
