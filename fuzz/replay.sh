#!/usr/bin/env bash
# Builds the fuzz targets and replays the committed corpora through them; then fuzzes each for a while, if asked to.
# Takes no input, and needs neither nightly nor cargo-fuzz: the flags below are stable ones.
#
#     bash fuzz/replay.sh                                            # what CI runs
#     FUZZ_SECONDS=60 bash fuzz/replay.sh                            # and a minute of fuzzing for each target
#     FUZZ_SECONDS=60 FUZZ_SANITIZER=address bash fuzz/replay.sh     # every night, with the nightly toolchain
#     bash fuzz/replay.sh image_header image_path                    # these targets alone
#
# A replay needs no coverage. So it is built like the tests, in their folder, and most dependencies are there already.
# Our own code forbids `unsafe`; AddressSanitizer is for that of the dependencies, and slows everything down.
# New inputs go to fuzz/target/corpus, findings to fuzz/artifacts. The exit code is 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${FUZZ_SECONDS:-0}
sanitizer=${FUZZ_SANITIZER:-none}
if ! [[ $seconds =~ ^[0-9]+$ ]]; then
    echo "FUZZ_SECONDS is '$seconds'; allowed: a whole number of seconds for each target" >&2
    exit 2
fi
mapfile -t targets < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)
if [ $# != 0 ]; then targets=("$@"); fi

toolchain=() flags=()
case $sanitizer in
none) ;;
address)
    if ! rustc +nightly --version >/dev/null 2>&1; then
        echo "FUZZ_SANITIZER=address needs the nightly toolchain: rustup toolchain install nightly" >&2
        exit 1
    fi
    toolchain=(+nightly)
    flags+=(-Zsanitizer=address)
    ;;
*)
    echo "FUZZ_SANITIZER is '$sanitizer'; allowed: none, address" >&2
    exit 2
    ;;
esac

unset CARGO_ENCODED_RUSTFLAGS
if [ "$seconds" = 0 ] && [ "$sanitizer" = none ]; then
    export CARGO_TARGET_DIR=../target
    bin=$CARGO_TARGET_DIR/debug
    build=(--profile dev)
else
    # As cargo-fuzz has them; without trace-compares a fuzzer does not find what is compared with.
    flags+=(
        --cfg fuzzing
        -Cpasses=sancov-module
        -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares
        -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    )
    # Naming the host as the target keeps the flags away from build scripts and macros.
    host=$(rustc "${toolchain[@]}" -vV | sed -n 's/^host: //p')
    export CARGO_TARGET_DIR=target/$sanitizer CARGO_INCREMENTAL=0 RUSTFLAGS="${flags[*]}"
    bin=$CARGO_TARGET_DIR/$host/release
    build=(--release --target "$host")
fi
cargo "${toolchain[@]}" build --locked "${build[@]}" "${targets[@]/#/--bin=}"

broken=()
# Runs a target with libFuzzer's own arguments.
run() {
    local target=$1 log=target/logs/$1.log
    local options=(-timeout=60 -rss_limit_mb=4096 "-artifact_prefix=artifacts/$1/" -print_final_stats=1)
    shift
    mkdir -p target/logs "artifacts/$target"
    [ ! -f "dictionaries/$target.dict" ] || options+=("-dict=dictionaries/$target.dict")
    if "$bin/$target" "${options[@]}" "$@" >"$log" 2>&1; then
        printf '%-20s %8s executions, %s MiB at most\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")"
    else
        broken+=("$target")
        printf '%-20s FAILED\n' "$target"
        grep -m 1 -A 4 'panicked at' "$log" | cut -c 1-2000 || true
        tail -n 12 "$log" | cut -c 1-2000
    fi
}

echo "=== replay"
for target in "${targets[@]}"; do
    run "$target" -runs=0 "corpus/$target"
done
if [ "$seconds" != 0 ]; then
    echo "=== $seconds s each"
    for target in "${targets[@]}"; do
        mkdir -p "target/corpus/$target"
        run "$target" "-max_total_time=$seconds" "target/corpus/$target" "corpus/$target"
    done
fi
if [ ${#broken[@]} != 0 ]; then
    printf 'FAILED: %s\n' "${broken[@]}" >&2
    exit 1
fi
