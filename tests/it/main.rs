//! The whole server over a socket, and the conformance suites: one test binary.

#[path = "../support/fake_predictor.rs"]
mod fake_predictor;
#[path = "../support/record_conformance.rs"]
mod record_conformance;
#[path = "../support/store_conformance.rs"]
mod store_conformance;

mod admin;
mod architecture;
mod cleaner_replicas;
mod kill;
mod kserve_peer;
mod kserve_v1;
mod records;
mod store;
