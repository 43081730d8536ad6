//! The whole server over a socket, and the conformance suites: one test binary.

mod architecture;
#[path = "../support/store_conformance.rs"]
mod store_conformance;

mod store;
