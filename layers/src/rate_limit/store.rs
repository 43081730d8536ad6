//! Cells by client, bounded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

use crate::client_addr::ClientKey;

/// At most so many cells; clients beyond them share one.
#[derive(Debug)]
pub(super) struct BoundedStore {
    max_keys: usize,
    cells: Mutex<Cells>,
    /// How many cells are known, to be read without the lock.
    len: AtomicUsize,
}

/// A cell is the theoretical arrival time of the next request (GCRA).
#[derive(Debug, Default)]
struct Cells {
    known: HashMap<Key, Nanos>,
    overflow: Option<Nanos>,
}

/// `None` is the cell of all requests whose client is not known.
pub(super) type Key = Option<ClientKey>;

impl BoundedStore {
    pub(super) fn new(max_keys: usize) -> Self {
        Self { max_keys, cells: Mutex::default(), len: AtomicUsize::new(0) }
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        // Every state that a panic could leave behind is a valid one.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for BoundedStore {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut cells = self.cells();
        let cells = &mut *cells;
        if let Some(cell) = cells.known.get_mut(key) {
            let (result, next) = f(Some(*cell))?;
            *cell = next;
            return Ok(result);
        }
        if cells.known.len() < self.max_keys {
            let (result, next) = f(None)?;
            cells.known.insert(*key, next);
            self.len.store(cells.known.len(), Ordering::Relaxed);
            return Ok(result);
        }
        let (result, next) = f(cells.overflow)?;
        cells.overflow = Some(next);
        Ok(result)
    }
}

impl ShrinkableKeyedStateStore<Key> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut cells = self.cells();
        cells.known.retain(|_, cell| *cell > drop_below);
        self.len.store(cells.known.len(), Ordering::Relaxed);
    }

    fn shrink_to_fit(&self) {
        self.cells().known.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
