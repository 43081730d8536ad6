#!/usr/bin/env bash
# Runs every test: cargo's, with a real S3 server and a real KServe server, then real MCP clients against the built
# server.
#
#     bash tests/run.sh
#
# Installs what is missing (Debian packages only as root) and says so. Python and Node parts go to target/peers and are
# used again. Every server it starts is on 127.0.0.1 and ends with it. Under CI=true or REQUIRE_PEERS=1 a peer that
# cannot be had is a failure; elsewhere it is skipped, and named.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
cache=$target/peers
logs=$cache/logs
mkdir -p "$logs"
scratch=$(mktemp -d)
binary=$target/debug/mcp-image-server
kserve_url=""
passed=0
failed=0
skipped=0
required=""
if [ "${CI:-}" = true ] || [ "${REQUIRE_PEERS:-}" = 1 ]; then required=1; fi

say() { printf -- '--    %s\n' "$*"; }
pass() { passed=$((passed + 1)); printf 'ok    %s\n' "$*"; }
fail() { failed=$((failed + 1)); printf 'FAIL  %s\n' "$*"; }
miss() { if [ -n "$required" ]; then fail "missing: $*"; else skipped=$((skipped + 1)); say "skipped, because missing: $*"; fi; }

# shellcheck source=tests/peers/setup.sh
source tests/peers/setup.sh
# shellcheck source=tests/peers/servers.sh
source tests/peers/servers.sh
# shellcheck source=tests/peers/ceph.sh
source tests/peers/ceph.sh

trap 'stop_all; stop_ceph "$scratch/ceph"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# The tests of cargo; the KServe ones among them reach the real server, where there is one.
run_cargo_tests() {
    local log=$logs/cargo-test.log status=0 counts
    local commands=("cargo test --workspace --locked --no-fail-fast") command
    if cargo nextest --version >/dev/null 2>&1; then
        commands=("cargo nextest run --workspace --locked --no-fail-fast" "cargo test --doc --workspace --locked")
    fi
    : >"$log"
    for command in "${commands[@]}"; do
        say "running: $command"
        # shellcheck disable=SC2086 # the command and the variables are words
        env ${required:+REQUIRE_PEERS=1} ${kserve_url:+KSERVE_PEER_URL=$kserve_url} $command 2>&1 | tee -a "$log" ||
            status=$?
    done
    count_cargo_tests "$log"
    # A failed test is counted as such; what else can go wrong is that something does not compile.
    if [ "$status" != 0 ] && [ "${counts#* }" = 0 ]; then fail "${commands[*]} ends with $status, see $log"; fi
}

# Adds up the closing lines of nextest (one) or of cargo test (one for each binary); sets `counts`, "passed failed".
count_cargo_tests() {
    counts=$(sed -E 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /Summary \[/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
        /^test result:/ { p += $4; f += $6 }
        END { print p + 0, f + 0 }')
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    say "cargo: ${counts% *} tests passed, ${counts#* } failed"
}

# Real MCP clients and plain HTTP, against the server with the embedded predictor.
run_clients() {
    start_server embedded || return 0
    if [ -n "$python" ]; then
        run_peer "plain HTTP" "$python" tests/peers/http_plain.py "$base"
        run_peer "python mcp" "$python" tests/peers/mcp_python.py "$base"
    fi
    if [ -n "$node" ]; then
        run_peer "npm client 2" "$node" "$cache/node/mcp_client_v2.mjs" "$base"
        run_peer "npm sdk 1" "$node" "$cache/node/mcp_sdk_v1.mjs" "$base"
    fi
    stop_server embedded
}

# The gallery in a browser, and images read in parts by browser and curl: a server for each session, since the gallery's
# tests delete what they find. Pictures for the documentation: see CONTRIBUTING.md.
run_delivery() {
    local session settings
    if [ -n "$python" ] && start_server ranges; then
        run_peer "curl ranges" "$python" tests/peers/curl_ranges.py "$base" "$scratch/ranges/images"
        if [ -n "$node" ] && [ -n "$chromium" ]; then
            CHROMIUM=$chromium run_peer "browser ranges" "$node" "$cache/node/ranges.mjs" "$base" "$scratch/ranges/images"
        fi
        stop_server ranges
    fi
    if [ -z "$node" ] || [ -z "$chromium" ]; then return 0; fi
    while read -r session settings <&3; do
        # shellcheck disable=SC2086 # the settings are words
        start_server "gallery-$session" $settings || continue
        CHROMIUM=$chromium run_peer "gallery $session" "$node" "$cache/node/gallery.mjs" "$base" "$session"
        stop_server "gallery-$session"
    done 3<<'SESSIONS'
open
signed IMAGE_URL_SIGNING_KEYS=one:a-secret-of-at-least-32-characters-1,two:a-secret-of-at-least-32-characters-2
closed IMAGE_LISTING=off
off GALLERY=off
SESSIONS
}

# The real KServe server behind the server: a server for each scenario, with the settings that it asks for.
run_kserve() {
    local name settings scenarios
    if [ -z "$python" ] || [ -z "$kserve_url" ]; then return 0; fi
    scenarios=$("$python" tests/peers/kserve_real.py --list "$kserve_url")
    while IFS=$'\t' read -r name settings <&3; do
        # shellcheck disable=SC2086 # the settings are words
        start_server "kserve-$name" PREDICTOR=kserve KSERVE_MAX_RETRIES=1 $settings || continue
        run_peer "kserve $name" "$python" tests/peers/kserve_real.py "$name" "$base"
        stop_server "kserve-$name"
    done 3<<<"$scenarios"
}

say "1. what the tests need"
install_commands
install_python
install_node
install_browser
if [ -n "$kserve_python" ]; then start_kserve || miss "the KServe server (it does not start, see $logs/kserve.log)"; fi

# A real S3 server: the tests of the S3 store find it by what start_ceph exports.
has_ceph || install_debian "${ceph_packages[@]}" || true
if ! has_ceph || ! start_ceph "$scratch/ceph"; then miss "an S3 server (Ceph RADOS Gateway)"; fi

say "2. cargo: build and tests"
run_cargo_tests
# Built after the tests, and as it ships: without what only tests add to the features of its dependencies.
say "running: cargo build --locked"
if cargo build --locked; then
    say "3. peers"
    run_clients
    run_delivery
    run_kserve
else
    fail "the server does not compile"
fi

say "logs: ${logs#"$root"/}"
if [ "$skipped" = 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ]
