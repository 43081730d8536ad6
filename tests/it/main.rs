//! The whole server over a socket, and the conformance suites: one test binary.

#[path = "../support/bomb.rs"]
mod bomb;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/collector.rs"]
mod collector;
#[path = "../support/fake_predictor.rs"]
mod fake_predictor;
#[path = "../support/fake_s3.rs"]
mod fake_s3;
#[path = "../support/http2.rs"]
mod http2;
#[path = "../support/large.rs"]
mod large;
#[path = "../support/mount.rs"]
mod mount;
#[path = "../support/peers.rs"]
mod peers;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/store_conformance.rs"]
mod store_conformance;

mod access;
mod architecture;
mod command_line;
mod connections;
mod delivery;
mod drain;
mod faults;
mod http_semantics;
mod kserve_peer;
mod kserve_v1;
mod limits;
mod mcp;
mod memory;
mod observability;
mod rest;
mod s3;
mod s3_faults;
mod signed;
mod store;
mod traces;
mod variants;
