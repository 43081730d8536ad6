#!/usr/bin/env bash
# Builds the container image by Debian's buildah, without a daemon and without a registry, starts it under crun with a
# read-only root and no rights, and uses it from outside: as it is, and with the environment of each overlay.
#
#     bash tests/deploy/container.sh          the image around a binary that is built: SERVER_BINARY, or else the
#                                             latest of cargo's debug and dist builds
#     bash tests/deploy/container.sh --full   the whole Containerfile, cargo and all: takes many minutes
#     bash tests/deploy/container.sh --recipe the same, without optimisation: shows that it builds
#
# What has a bucket needs the S3 server that S3_TEST_ENDPOINT and its like name (tests/peers/ceph.sh starts one).
# Needs root, and python3 with PyYAML's peers of requirements.txt on PATH (see run.sh). Works below target/deploy.
# The base images are made by mmdebstrap: what is in gcr.io/distroless/cc-debian12, and a compiler with this machine's
# Rust toolchain for --full. Sizes are judged only for a binary of the profile `dist`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=${DEPLOY_WORK:-$PWD/target/deploy/container}
store=$work/store
mkdir -p "$work"
python=${PYTHON:-target/deploy/venv/bin/python}
hadolint=${HADOLINT:-target/deploy/venv/bin/hadolint}
max_binary_bytes=20000000
max_image_bytes=45000000

builder() { buildah --storage-driver vfs --root "$store/root" --runroot "$store/run" "$@"; }

need() {
    local missing=() command
    for command in "$@"; do command -v "$command" >/dev/null || missing+=("$command"); done
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    echo "--    installing ${missing[*]}"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}

# An image of the tar file $2, under the name $1, with the settings that follow.
import() {
    local name=$1 tar=$2 container
    shift 2
    container=$(builder from scratch)
    builder add --quiet "$container" "$tar" / >/dev/null
    if [ $# != 0 ]; then builder config "$@" "$container"; fi
    builder commit --quiet "$container" "$name" >/dev/null
    builder rm "$container" >/dev/null
}

# What the server needs around it: the C library, and certificates of authorities.
run_base() {
    if builder inspect --type image localhost/run-base >/dev/null 2>&1; then return 0; fi
    echo "--    making the base image"
    # shellcheck disable=SC2016 # `$1` is the folder that mmdebstrap gives to its hooks
    mmdebstrap --quiet --variant=extract --include=libc6,libgcc-s1 --dpkgopt='path-exclude=/usr/share/*' \
        --customize-hook='cd "$1" && rm -rf var dev/* etc/apt etc/dpkg etc/resolv.conf etc/hostname && mkdir -p proc sys' \
        --customize-hook='mkdir -p "$1"/etc/ssl/certs && cp -L /etc/ssl/certs/ca-certificates.crt "$1"/etc/ssl/certs/' \
        --customize-hook='printf "%s\n" root:x:0:0::/root: nonroot:x:65532:65532::/home/nonroot: >"$1"/etc/passwd' \
        bookworm "$work/run-base.tar" 2>"$work/mmdebstrap.log" || { cat "$work/mmdebstrap.log"; return 1; }
    import localhost/run-base "$work/run-base.tar"
    rm "$work/run-base.tar"
}

# A compiler, this machine's Rust toolchain, and the crates that it has fetched.
build_base() {
    if builder inspect --type image localhost/build-base >/dev/null 2>&1; then return 0; fi
    echo "--    making the image to build in"
    local container
    mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$work/build-base.tar" \
        2>"$work/mmdebstrap.log" || { cat "$work/mmdebstrap.log"; return 1; }
    container=$(builder from scratch)
    builder add --quiet "$container" "$work/build-base.tar" / >/dev/null
    builder add --quiet "$container" "$(rustc --print sysroot)" /usr/local >/dev/null
    builder config --env CARGO_HOME=/usr/local/cargo --env CARGO_NET_OFFLINE=true "$container"
    builder commit --quiet "$container" localhost/build-base >/dev/null
    builder config --env CARGO_PROFILE_DIST_LTO=off --env CARGO_PROFILE_DIST_OPT_LEVEL=0 \
        --env CARGO_PROFILE_DIST_CODEGEN_UNITS=16 "$container"
    builder commit --quiet "$container" localhost/build-base-recipe >/dev/null
    builder rm "$container" >/dev/null
    rm "$work/build-base.tar"
}

bud() {
    builder bud --isolation chroot --format docker --file Containerfile --build-arg RUN_IMAGE=localhost/run-base \
        --build-arg GIT_COMMIT="$(git rev-parse --short HEAD)" --build-arg VERSION="$(sed -n "s/^version = //p" Cargo.toml | head -1 | tr -d \")" --tag localhost/mcp-image-server "$@" . \
        >"$work/bud.log" 2>&1 || { tail -30 "$work/bud.log"; return 1; }
}

# The layer of dependencies builds from manifests and empty sources: cargo has to find every target that they name.
dependency_layer() {
    local folder=$work/layer
    rm -rf "$folder" && mkdir -p "$folder/layers"
    cp Cargo.toml Cargo.lock build.rs "$folder/" && cp layers/Cargo.toml "$folder/layers/"
    # shellcheck disable=SC2016 # the variable is for the script that is made
    sed -n '/^RUN mkdir/,/cargo build/p' Containerfile |
        sed 's/^RUN //; s/cargo build .*/cargo fetch --locked --quiet --target "$HOST_TARGET"/' >"$folder/sources.sh"
    (cd "$folder" && HOST_TARGET=$(rustc -vV | sed -n 's/^host: //p') bash sources.sh)
}

need buildah crun mmdebstrap
"$hadolint" Containerfile
echo "ok    container: hadolint"
dependency_layer
echo "ok    container: the layer of dependencies has every target that Cargo.toml names"
run_base
if [ "${1:-}" = --full ] || [ "${1:-}" = --recipe ]; then
    base=localhost/build-base judge_sizes=1
    if [ "$1" = --recipe ]; then base=$base-recipe judge_sizes=""; fi
    build_base
    cargo fetch --locked --quiet
    bud --build-arg BUILD_IMAGE="$base" \
        --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry"
    echo "ok    container: the whole Containerfile builds ($1)"
else
    binary=${SERVER_BINARY:-target/debug/mcp-image-server}
    if [ -z "${SERVER_BINARY:-}" ] && [ target/dist/mcp-image-server -nt "$binary" ]; then
        binary=target/dist/mcp-image-server
    fi
    case $(realpath "$binary") in */dist/*) judge_sizes=1 ;; *) judge_sizes="" ;; esac
    # The stage `build` is replaced by a folder that holds what it would make.
    rm -rf "$work/built"
    mkdir -p "$work/built/out/data"
    strip -o "$work/built/out/mcp-image-server" "$binary"
    bud --build-context "build=$work/built"
    echo "ok    container: the image builds around $(realpath --relative-to=. "$binary")"
fi

container=$(builder from localhost/mcp-image-server)
trap 'builder rm "$container" >/dev/null' EXIT
rootfs=$(builder mount "$container")
builder inspect --type image localhost/mcp-image-server >"$work/image.json"
binary_bytes=$(stat -c %s "$rootfs/usr/local/bin/mcp-image-server")
image_bytes=$(du -sb --apparent-size "$rootfs" | cut -f1)
echo "--    binary $binary_bytes bytes, image $image_bytes bytes"
if [ -n "$judge_sizes" ]; then
    [ "$binary_bytes" -lt "$max_binary_bytes" ] || { echo "FAIL  container: the binary is too large"; exit 1; }
    [ "$image_bytes" -lt "$max_image_bytes" ] || { echo "FAIL  container: the image is too large"; exit 1; }
    echo "ok    container: sizes"
else
    echo "SKIP  container: sizes are not judged: this is no optimised build"
fi
# Every part is run, also after one that failed.
status=0
"$python" tests/deploy/container.py "$rootfs" "$work/image.json" || status=1
"$python" tests/deploy/environments.py "$rootfs" "$work/image.json" || status=1
exit "$status"
