#!/usr/bin/env bash
# What takes too long for every change:
# - processes killed before each of their calls to the kernel, and at each of their requests to a bucket, a fake one and
#   that of a real S3 server, over and over;
# - two servers that clean one folder; the order of a save's calls to the kernel;
# - a gigabyte through the server, and the first saves of an outage, on a real S3 server;
# - cleaning cycles and listings among a million images, saves beside plain writes.
#
#     bash tests/nightly.sh
#
# KILL_CYCLES is how often (500; a fifth of it on the real server), BENCH_FOLDER where the bench works: on a disk, with some
# 10 GB of room. Needs strace and the right to use it, and the Debian packages of tests/peers/ceph.sh; fails without. Lines
# with `figure:` and the bench's table are the figures of benches/README.md and docs/s3.md.
#
# On two cores with nothing else to do it takes 20 to 25 minutes: 5 for the tests, 2 to build the bench, 4 to 5 for each of
# the three spreads of a million images (BENCH_IMAGES; they are files, and most of it is making them). On a machine that
# does other work the bench takes several times as long. Each part ends after the time that stands beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tests/peers/ceph.sh
source tests/peers/ceph.sh
scratch=$(mktemp -d)
trap 'stop_ceph "$scratch/ceph"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
start_ceph "$scratch/ceph"

export REQUIRE_PEERS=1 KILL_CYCLES=${KILL_CYCLES:-500}
bounded() { timeout --foreground "$@"; }
bounded 30m cargo test --locked --test it -- kill:: cleaner_replicas:: store::syscalls:: --nocapture
NIGHTLY=1 bounded 15m cargo test --locked --test it -- s3_server:: --nocapture
bounded 60m cargo bench --locked --bench cleaning
