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
#[path = "../support/record_conformance.rs"]
mod record_conformance;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/store_conformance.rs"]
mod store_conformance;

mod access;
mod admin;
mod architecture;
mod cleaner_replicas;
mod command_line;
mod connections;
mod delivery;
mod drain;
mod faults;
mod http_semantics;
mod kill;
mod kserve_peer;
mod kserve_tls;
mod kserve_v1;
mod limits;
mod mcp;
mod memory;
mod observability;
mod records;
mod rest;
mod s3;
mod s3_faults;
mod s3_server;
mod send_file;
mod signed;
mod store;
mod traces;
mod turns;
mod variants;
