//! The whole server over a socket, and the conformance suites: one test binary.

#[path = "../support/fake_predictor.rs"]
mod fake_predictor;
#[path = "../support/fake_s3.rs"]
mod fake_s3;
#[path = "../support/store_conformance.rs"]
mod store_conformance;

mod architecture;
mod kserve_peer;
mod kserve_v1;
mod s3;
mod s3_faults;
mod store;
