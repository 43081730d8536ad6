#!/usr/bin/env bash
# A real S3 server for the tests: a Ceph RADOS Gateway (one mon, one osd in memory) on loopback, in a folder.
#
#     bash tests/peers/ceph.sh start FOLDER     # prints `export S3_TEST_...` lines
#     bash tests/peers/ceph.sh stop FOLDER
#
# Or sourced by tests/run.sh: `start_ceph FOLDER` sets and exports S3_TEST_ENDPOINT, S3_TEST_BUCKET, S3_TEST_REGION,
# S3_TEST_ACCESS_KEY_ID, S3_TEST_SECRET_ACCESS_KEY and S3_TEST_READER_ACCESS_KEY_ID (with ..._SECRET_ACCESS_KEY: a user
# who may read and list the bucket and no more); `stop_ceph FOLDER` ends what it started.
#
# Needs the Debian packages ceph-mon, ceph-osd, radosgw and ceph-common; no root, no mgr, no disk beyond the mon's.
# shellcheck shell=bash

ceph_packages=(ceph-mon ceph-osd radosgw ceph-common)

has_ceph() {
    local command
    for command in ceph ceph-authtool ceph-mon ceph-osd monmaptool radosgw radosgw-admin; do
        command -v "$command" >/dev/null 2>&1 || return 1
    done
}

# Runs a command with the cluster's own configuration and logs.
with_ceph() { CEPH_CONF=$ceph_folder/ceph.conf "$@" >>"$ceph_folder/start.log" 2>&1; }

# Two loopback ports that are free now: one for the mon, one for the gateway.
ceph_free_ports() {
    python3 - <<'PYTHON'
import socket
sockets = [socket.socket() for _ in range(2)]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}

write_ceph_conf() {
    cat >"$ceph_folder/ceph.conf" <<CONF
[global]
fsid = $1
mon host = v2:127.0.0.1:$2
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $ceph_folder/\$name.keyring
log file = $ceph_folder/\$name.log
pid file = $ceph_folder/\$name.pid
admin socket = $ceph_folder/\$name.asok
run dir = $ceph_folder
crash dir = $ceph_folder
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
osd pool default pg num = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon max pg per osd = 1000

[mon.a]
mon data = $ceph_folder/mon.a

[osd.0]
osd data = $ceph_folder/osd.0
osd objectstore = memstore
memstore device bytes = 4294967296
osd op queue = wpq

[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$3
rgw enable apis = s3
rgw thread pool size = 64
rgw lc debug interval = 2
rgw gc obj min wait = 5
rgw gc processor period = 10
CONF
}

# Starts the cluster in FOLDER and makes a bucket. Fails with the reason in FOLDER/start.log.
start_ceph() {
    ceph_folder=$1
    local ports mon_port gateway_port
    has_ceph || { echo "please install: ${ceph_packages[*]}" >&2; return 1; }
    mkdir -p "$ceph_folder/mon.a" "$ceph_folder/osd.0"
    ceph_folder=$(cd "$ceph_folder" && pwd)
    ports=$(ceph_free_ports)
    mon_port=${ports% *} gateway_port=${ports#* }
    local fsid user=mcp-image-tests key secret reader_key reader_secret
    fsid=$(python3 -c 'import uuid; print(uuid.uuid4())')
    write_ceph_conf "$fsid" "$mon_port" "$gateway_port"

    local admin=$ceph_folder/client.admin.keyring mon=$ceph_folder/mon.keyring
    with_ceph ceph-authtool --create-keyring "$mon" --gen-key -n mon. --cap mon 'allow *' &&
        with_ceph ceph-authtool --create-keyring "$admin" --gen-key -n client.admin \
            --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' &&
        with_ceph ceph-authtool --create-keyring "$ceph_folder/osd.0.keyring" --gen-key -n osd.0 \
            --cap mon 'allow profile osd' --cap osd 'allow *' &&
        with_ceph ceph-authtool --create-keyring "$ceph_folder/client.rgw.keyring" --gen-key -n client.rgw \
            --cap mon 'allow rwx' --cap osd 'allow rwx' || return 1
    local keyring
    for keyring in "$admin" "$ceph_folder/osd.0.keyring" "$ceph_folder/client.rgw.keyring"; do
        with_ceph ceph-authtool "$mon" --import-keyring "$keyring" || return 1
    done
    with_ceph monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port]" "$ceph_folder/monmap" &&
        with_ceph ceph-mon --mkfs -i a --monmap "$ceph_folder/monmap" --keyring "$mon" || return 1

    # In the foreground of a job each, so that their ids are known and nothing is looked for by name.
    start_ceph_daemon mon.a ceph-mon -f -i a
    with_ceph timeout 30 ceph osd new "$(python3 -c 'import uuid; print(uuid.uuid4())')" 0 || return 1
    with_ceph ceph-osd -i 0 --mkfs --osd-uuid "$(CEPH_CONF=$ceph_folder/ceph.conf ceph osd dump -f json 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["osds"][0]["uuid"])')" || return 1
    start_ceph_daemon osd.0 ceph-osd -f -i 0
    start_ceph_daemon client.rgw radosgw -f -n client.rgw

    S3_TEST_ENDPOINT=http://127.0.0.1:$gateway_port
    S3_TEST_BUCKET=mcp-image-tests
    S3_TEST_REGION=default
    local end=$((SECONDS + 60))
    until curl --silent --fail --max-time 2 --output /dev/null "$S3_TEST_ENDPOINT/"; do
        if [ "$SECONDS" -ge "$end" ]; then echo "the gateway does not answer, see $ceph_folder" >&2; return 1; fi
        sleep 0.2
    done

    key=mcpimagetests secret=$(python3 -c 'import secrets; print(secrets.token_hex(20))')
    reader_key=mcpimagereader reader_secret=$(python3 -c 'import secrets; print(secrets.token_hex(20))')
    with_ceph radosgw-admin user create --uid=$user --display-name=$user --access-key="$key" --secret="$secret" &&
        with_ceph radosgw-admin user create --uid=$user-reader --display-name=$user-reader \
            --access-key="$reader_key" --secret="$reader_secret" || return 1
    S3_TEST_ACCESS_KEY_ID=$key S3_TEST_SECRET_ACCESS_KEY=$secret
    S3_TEST_READER_ACCESS_KEY_ID=$reader_key S3_TEST_READER_SECRET_ACCESS_KEY=$reader_secret
    export S3_TEST_ENDPOINT S3_TEST_BUCKET S3_TEST_REGION S3_TEST_ACCESS_KEY_ID S3_TEST_SECRET_ACCESS_KEY
    export S3_TEST_READER_ACCESS_KEY_ID S3_TEST_READER_SECRET_ACCESS_KEY
    make_ceph_bucket "$S3_TEST_BUCKET" && make_ceph_bucket "$S3_TEST_BUCKET-versioned" &&
        ceph_request PUT "/$S3_TEST_BUCKET-versioned?versioning=" \
            '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>' &&
        ceph_request PUT "/$S3_TEST_BUCKET?policy=" "{\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": \"Allow\",
            \"Principal\": {\"AWS\": [\"arn:aws:iam:::user/$user-reader\"]}, \"Action\": [\"s3:GetObject\", \"s3:ListBucket\"],
            \"Resource\": [\"arn:aws:s3:::$S3_TEST_BUCKET\", \"arn:aws:s3:::$S3_TEST_BUCKET/*\"]}]}"
}

# start_ceph_daemon NAME COMMAND...: its process id goes to FOLDER/NAME.started.
start_ceph_daemon() {
    local name=$1
    shift
    CEPH_CONF=$ceph_folder/ceph.conf "$@" >"$ceph_folder/$name.out" 2>&1 &
    echo $! >"$ceph_folder/$name.started"
}

make_ceph_bucket() { ceph_request PUT "/$1" ""; }

# ceph_request METHOD PATH?QUERY BODY: one signed request (Signature Version 4), without a client library.
ceph_request() {
    python3 - "$@" >>"$ceph_folder/start.log" 2>&1 <<'PYTHON'
import datetime, hashlib, hmac, os, sys, urllib.request

method, target, body = sys.argv[1], sys.argv[2], sys.argv[3].encode()
path, _, query = target.partition("?")
endpoint, region = os.environ["S3_TEST_ENDPOINT"], os.environ["S3_TEST_REGION"]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
digest = hashlib.sha256(body).hexdigest()
headers = {"host": endpoint.split("//")[1], "x-amz-content-sha256": digest, "x-amz-date": now}
names = ";".join(sorted(headers))
canonical = "\n".join([method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, digest])
scope = f"{now[:8]}/{region}/s3/aws4_request"
text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
key = ("AWS4" + os.environ["S3_TEST_SECRET_ACCESS_KEY"]).encode()
for part in scope.split("/"):
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()
signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
headers["authorization"] = (
    f"AWS4-HMAC-SHA256 Credential={os.environ['S3_TEST_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature={signature}"
)
request = urllib.request.Request(endpoint + target, data=body or None, headers=headers, method=method)
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
    print(method, target, answer.status)
PYTHON
}

# Ends the daemons that were started in FOLDER, the gateway first.
stop_ceph() {
    local name pid file
    for name in client.rgw osd.0 mon.a; do
        file=$1/$name.started
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || true
        local end=$((SECONDS + 10))
        while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        rm -f "$file"
    done
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    case "${1:-} ${2:+folder}" in
        "start folder")
            start_ceph "$2" || { stop_ceph "$2"; tail -n 20 "$2/start.log" >&2; exit 1; }
            for name in $(compgen -v S3_TEST_); do printf 'export %s=%q\n' "$name" "${!name}"; done
            ;;
        "stop folder") stop_ceph "$2" ;;
        *) sed -n '2,5p' "$0" >&2; exit 2 ;;
    esac
fi
