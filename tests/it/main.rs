//! The whole server over a socket, and the conformance suites: one test binary.

mod architecture;
