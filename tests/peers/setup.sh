# Sourced by tests/run.sh: brings what the tests need, and says what it brings.
#
# Expects: root, cache, say, miss. Leaves: python, kserve_python, node, chromium (empty where they could not be had).
# shellcheck shell=bash

min_node=20
node_package=node@24.21.0 # the npm package that brings a Node where the machine's is too old
python=""
kserve_python=""
node=""
chromium=""

has() { command -v "$1" >/dev/null 2>&1; }

# Debian packages by name, if we may install them; else says what to install.
install_debian() {
    if [ "$(id -u)" = 0 ] && has apt-get; then
        say "installing from Debian: $*"
        {
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
        } >"$logs/apt.log" 2>&1 || { say "apt-get failed, see $logs/apt.log"; return 1; }
    else
        say "please install: $* (not root, or no apt-get here)"
        return 1
    fi
}

python_is_fit() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
node_is_fit() { has "$1" && "$1" -e "process.exit(parseInt(process.versions.node) >= $min_node ? 0 : 1)" 2>/dev/null; }

# The hash of what a cached folder was made from.
stamp_of() { { echo "$1"; cat "${@:2}"; } | sha256sum | cut -d' ' -f1; }
is_current() { [ "$(cat "$1/.made-from" 2>/dev/null)" = "$2" ]; }

install_commands() {
    local packages=()
    has curl || packages+=(curl)
    has strace || packages+=(strace) # the tests of the commit order watch system calls
    has mount || packages+=(mount)   # the tests of full and read-only disks mount small ones
    { has cc && has make; } || packages+=(build-essential)
    python_is_fit || packages+=(python3 python3-venv)
    { node_is_fit node || has npm; } || packages+=(nodejs npm)
    if [ ${#packages[@]} != 0 ] && ! install_debian "${packages[@]}"; then miss "${packages[*]}"; fi
}

# A virtual environment in $1 with the pinned packages of $2, made again when those change.
install_venv() {
    local folder=$1 requirements=$2 stamp
    stamp=$(stamp_of "$(python3 --version)" "$requirements")
    if ! is_current "$folder" "$stamp"; then
        say "installing from PyPI into ${folder#"$root"/}: ${requirements#"$root"/}"
        rm -rf "$folder"
        python3 -m venv "$folder" &&
            "$folder/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$requirements" &&
            echo "$stamp" >"$folder/.made-from"
    fi
}

install_python() {
    python_is_fit || { miss "Python 3.10 or newer with venv"; return; }
    if install_venv "$cache/python" "$root/tests/peers/requirements.txt"; then
        python=$cache/python/bin/python
    else
        miss "the Python MCP client"
    fi
    if install_venv "$cache/kserve" "$root/tests/peers/requirements-kserve.txt"; then
        kserve_python=$cache/kserve/bin/python
    else
        miss "the KServe server"
    fi
}

# The Node in use, or one from npm where it is too old; then the clients, from the committed lock file.
install_node() {
    local folder=$cache/node runtime=$cache/node-runtime stamp
    if ! node_is_fit node; then
        has npm || { miss "Node $min_node or newer, or npm to install it with"; return; }
        if ! node_is_fit "$runtime/node_modules/.bin/node"; then
            say "installing from npm into ${runtime#"$root"/}: $node_package"
            npm install --prefix "$runtime" --no-audit --no-fund --silent "$node_package" ||
                { miss "Node $min_node or newer"; return; }
        fi
        PATH=$runtime/node_modules/.bin:$PATH
    fi
    stamp=$(stamp_of "$(node --version)" "$root/tests/peers/package.json" "$root/tests/peers/package-lock.json")
    if ! is_current "$folder" "$stamp"; then
        say "installing from npm into ${folder#"$root"/}: tests/peers/package-lock.json"
        rm -rf "$folder" && mkdir -p "$folder"
        cp "$root/tests/peers/package.json" "$root/tests/peers/package-lock.json" "$folder"
        (cd "$folder" && npm ci --no-audit --no-fund --ignore-scripts --silent) ||
            { miss "the Node MCP clients"; return; }
        echo "$stamp" >"$folder/.made-from"
    fi
    # Node looks for packages beside the script, so the scripts go to the packages.
    cp "$root"/tests/peers/*.mjs "$folder"
    node=$(command -v node)
}

# The browser of the gallery's tests, which npm's Playwright drives.
install_browser() {
    local name
    has chromium || has google-chrome || install_debian chromium fonts-dejavu-core || true
    for name in chromium chromium-browser google-chrome; do
        if has "$name"; then chromium=$(command -v "$name"); return 0; fi
    done
    miss "Chromium"
}
