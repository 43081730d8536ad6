#!/usr/bin/env bash
# What takes too long for every change: processes killed before each of their calls, over and over.
#
#     bash tests/nightly.sh
#
# KILL_CYCLES is how often; needs strace and the right to use it, and fails without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export REQUIRE_PEERS=1 KILL_CYCLES=${KILL_CYCLES:-500}
cargo test --locked --test it -- kill:: cleaner_replicas:: store::syscalls:: --nocapture
