//! Tests that need more than cargo: a real server, strace, the right to mount.

use std::io::Write as _;

/// Says that a test is left out, and why. Where peers are required (`REQUIRE_PEERS=1`, or `CI=true`) that is a
/// failure.
///
/// Written past the harness, which hides what a passing test prints.
pub fn left_out(what: &str, why: &str) {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|given| given == value);
    assert!(!is("REQUIRE_PEERS", "1") && !is("CI", "true"), "{what} is required here, but {why}");
    let _ = writeln!(std::io::stderr(), "left out: {what} ({why})");
}
