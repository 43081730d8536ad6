//! Measures another store.
