# Sourced by tests/run.sh: servers on loopback that end with it, and peers whose checks are counted.
#
# Expects: root, cache, logs, scratch, binary, python, say, pass, fail.
# shellcheck shell=bash

started=() # process ids
server=""  # the process id of the server under test
base=""    # where it answers

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

stop_all() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
}

# Takes a process that has ended off the list: its id may belong to another one by now.
forget() {
    local pid kept=()
    for pid in "${started[@]}"; do [ "$pid" = "$1" ] || kept+=("$pid"); done
    started=(${kept[@]+"${kept[@]}"})
}

# Waits until URL answers 200, at most SECONDS, or until process PID has ended.
wait_for() {
    local url=$1 seconds=$2 pid=$3 end
    end=$((SECONDS + seconds))
    until curl --silent --fail --max-time 2 --output /dev/null "$url"; do
        if [ "$SECONDS" -ge "$end" ] || ! kill -0 "$pid" 2>/dev/null; then return 1; fi
        sleep 0.1
    done
}

# Starts the server under the name LABEL, with further VARIABLE=VALUE settings; sets `server` and `base`.
# It gets an empty environment and an empty folder, so that nothing of the caller's configuration reaches it.
start_server() {
    local label=$1 port
    shift
    port=$(free_port)
    base=http://127.0.0.1:$port
    mkdir -p "$scratch/$label/images"
    (cd "$scratch/$label" && exec env -i PATH="$PATH" HOST=127.0.0.1 PORT="$port" PUBLIC_BASE_URL="$base" \
        STORAGE_PATH="$scratch/$label/images" LOG_FORMAT=json "$@" "$binary") >"$logs/server-$label.log" 2>&1 &
    server=$!
    started+=("$server")
    if ! wait_for "$base/health" 20 "$server"; then
        fail "server ($label) does not answer on /health"
        tail -n 20 "$logs/server-$label.log"
        return 1
    fi
}

# Asks the server to end, and checks that it does so cleanly.
stop_server() {
    local label=$1 status=0
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" || status=$?
    forget "$server"
    if [ "$status" = 0 ]; then
        pass "server ($label) ends with 0 on SIGTERM"
    else
        fail "server ($label) ends with $status on SIGTERM, see $logs/server-$label.log"
    fi
}

# Starts the real KServe server; sets `kserve_url`.
start_kserve() {
    local port
    port=$(free_port)
    "$kserve_python" "$root/tests/peers/kserve_model.py" --port "$port" >"$logs/kserve.log" 2>&1 &
    started+=("$!")
    kserve_url=http://127.0.0.1:$port
    if ! wait_for "$kserve_url/" 60 "$!"; then
        tail -n 20 "$logs/kserve.log"
        kserve_url=""
        return 1
    fi
}

# Runs a peer's command: each of its lines that starts with `ok` or `FAIL` is a check.
run_peer() {
    local label=$1 log status=0 held broken
    shift
    log=$logs/peer-${label//[ ,]/-}.log
    timeout 600 "$@" >"$log" 2>&1 || status=$?
    held=$(grep -c '^ok ' "$log" || true)
    broken=$(grep -c '^FAIL ' "$log" || true)
    grep -E '^(FAIL| {6})' "$log" || true
    if [ "$broken" = 0 ] && { [ "$status" != 0 ] || [ "$held" = 0 ]; }; then
        broken=1
        say "$label: ended with $status after $held checks"
        tail -n 20 "$log"
    fi
    passed=$((passed + held))
    failed=$((failed + broken))
    say "$label: $held checks hold, $broken do not"
}
