#!/usr/bin/env python3
"""The delivery of images beside nginx, both in one run: throughput, latency, 304s, memory, variants.

    python3 benches/delivery.py                        all rows, 5 interleaved rounds of 2 s each
    python3 benches/delivery.py --only rates --sizes 4k --connections 64 --rounds 9
    python3 benches/delivery.py --json out.json

Needs cargo, wrk and nginx (Debian's, with sendfile and open_file_cache on). Servers run on core 0, wrk on core 1,
files are in memory, neither writes a line for each request. Rows named *no memory* have IMAGE_CACHE_BYTES=0: each
request reads the file, which is held open. Absolute figures are this machine's; only the ratios of medians count.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request
import uuid
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

from harness import DRIVER_CORE, SERVER_CORE, free_port

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SIZES = {"4k": 4_000, "400k": 400_000, "8M": 8_000_000}
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
SLOW_READERS = 256
NGINX = """
worker_processes 1;
worker_rlimit_nofile 4096;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=1000 inactive=600s;
    open_file_cache_valid 600s;
    keepalive_requests 1000000000;
    types {{ image/png png; }}
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location ~ "^/images/((......)(..).*)$" {{
            alias {images}/$2/$3/$1;
            add_header Cache-Control "public, max-age=3600, immutable";
            add_header X-Content-Type-Options nosniff;
        }}
    }}
}}
"""


def image_id(created: datetime) -> str:
    millis = int(created.timestamp() * 1000)
    value = (millis << 80) | (0x7 << 76) | (uuid.uuid4().int & ((1 << 76) - 1))
    value = (value & ~(0xC << 60)) | (0x8 << 60)
    return str(uuid.UUID(int=value))


def put(store: Path, data: bytes, side: int = 64) -> str:
    """An image in the folder of a store, as a save would leave it; its path below the server."""
    created = datetime.now(timezone.utc)
    name = image_id(created)
    folder = store / name[:6] / name[6:8]
    folder.mkdir(parents=True, exist_ok=True)
    # Any hash will do: it is the entity tag, and the server does not compute it again.
    metadata = {
        "image_id": name, "format": "png", "width": side, "height": side, "size_bytes": len(data),
        "blake3": hashlib.blake2s(data).hexdigest(), "created_at": created.isoformat(),
        "expires_at": (created + timedelta(days=1)).isoformat(), "prompt": "bench", "num_inference_steps": 1,
        "guidance_scale": 1.0, "model": "bench", "predictor": "none", "generation_seconds": 0.0,
    }
    (folder / f"{name}.json").write_text(json.dumps(metadata))
    (folder / f"{name}.png").write_bytes(data)
    return f"/images/{name}.png"


class Server:
    """A server under test."""

    def __init__(self, name: str, command: list, env: dict, port: int):
        self.name, self.command, self.env, self.port = name, command, env, port
        self.process = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in self.command], env={**os.environ, **self.env},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        begun = time.time()
        while time.time() - begun < 30:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise SystemExit(f"{self.name} did not start: {self.command}")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)
            self.process.kill()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str, headers: dict | None = None) -> tuple[int, dict, bytes]:
        request = urllib.request.Request(self.url(path), headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, {k.lower(): v for k, v in answer.headers.items()}, answer.read()

    def pids(self) -> list[int]:
        """The process and its children: nginx serves in a worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / CLOCK_TICKS

    def memory_mb(self, name: str) -> float:
        total = 0
        for pid in self.pids():
            total += int(re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        return total / 1024

    def forget_peak(self) -> None:
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def ours(name: str, binary: Path, store: Path, **env: str) -> Server:
    port = free_port()
    variables = {
        "HOST": "127.0.0.1", "PORT": str(port), "STORAGE_PATH": str(store), "IMAGE_RATE": "0", "REQUEST_RATE": "0",
        "LOG_LEVEL": "WARN", "LOG_FORMAT": "json", "MAX_CONNECTIONS": "4096", **env,
    }
    return Server(name, [binary], variables, port)


def nginx(store: Path, folder: Path) -> Server:
    port = free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, images=store, port=port))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [program, "-c", config, "-p", folder, "-g", "daemon off; user root;"]
    return Server("nginx", command, {}, port)


def hyper_alone(store: Path) -> Server:
    """What is left of a server on hyper when all that can be left out is: the ceiling."""
    port = free_port()
    return Server("hyper alone", [TARGET / "release" / "examples" / "bare_hyper", port, store], {}, port)


def wrk(url: str, connections: int, seconds: int, header: str | None) -> dict:
    command = ["taskset", "-c", str(DRIVER_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if header:
        command += ["-H", header]
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    # wrk counts a 304 as neither 2xx nor an error.
    if re.search(r"Non-2xx or 3xx responses: (\d+)", out):
        raise SystemExit(f"{url}: {out}")
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}

    def percentile(p: str) -> float:
        value, suffix = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * unit[suffix]

    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50_ms": percentile("50"), "p99_ms": percentile("99"),
    }


def rates(servers: list[Server], paths: dict[str, str], options: argparse.Namespace) -> list[dict]:
    rows = []
    kinds = [(size, None) for size in options.sizes] + ([("4k", "304")] if "304" in options.kinds else [])
    for size, kind in kinds:
        path = paths[size]
        for server in servers:
            status, _, body = server.get(path)
            assert (status, len(body)) == (200, SIZES[size]), (server.name, status, len(body))
        tags = {server.name: server.get(path)[1]["etag"] for server in servers}
        for connections in options.connections:
            figures = {server.name: [] for server in servers}
            for number in range(options.rounds):
                order = servers if number % 2 == 0 else servers[::-1]
                for server in order:
                    header = f"If-None-Match: {tags[server.name]}" if kind else None
                    figures[server.name].append(wrk(server.url(path), connections, options.seconds, header))
            rows += show(f"{size} {kind or ''}".strip(), connections, figures)
    return rows


def show(label: str, connections: int, figures: dict) -> list[dict]:
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in figures.items()
    }
    base = medians["nginx"]
    print(f"{label}, {connections} connections", flush=True)
    rows = []
    for name, median in medians.items():
        ratio = median["rate"] / base["rate"]
        print(
            f"  {name:18} {median['rate']:10.0f}/s  p50 {median['p50_ms']:8.3f}  p99 {median['p99_ms']:8.3f} ms"
            + ("" if name == "nginx" else f"   {ratio:.2f} x nginx"), flush=True,
        )
        rows.append({"row": label, "connections": connections, "server": name, **median, "over_nginx": ratio})
    return rows


def fetch_ms(connection: socket.socket, path: str) -> float:
    """How long one answer takes, to its last byte."""
    begun = time.perf_counter()
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer, length = b"", None
    while length is None or len(answer) < length:
        piece = connection.recv(65536)
        assert piece, "the server ended the connection"
        answer += piece
        if length is None and b"\r\n\r\n" in answer:
            length = answer.index(b"\r\n\r\n") + 4 + int(re.search(rb"(?i)content-length: (\d+)", answer)[1])
    took = (time.perf_counter() - begun) * 1000
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]
    return took


def beside_downloads(servers: list[Server], paths: dict[str, str], options: argparse.Namespace) -> list[dict]:
    """How long a small image takes, asked for again and again, while others download large ones."""
    rows = []
    for connections in options.connections:
        figures = {server.name: [] for server in servers}
        for number in range(options.rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                load = ["taskset", "-c", str(DRIVER_CORE), "wrk", "-t1", f"-c{connections}", f"-d{options.seconds + 1}s"]
                with subprocess.Popen([*load, server.url(paths["8M"])], stdout=subprocess.DEVNULL):
                    time.sleep(0.5)
                    end = time.monotonic() + options.seconds
                    with socket.create_connection(("127.0.0.1", server.port)) as connection:
                        while time.monotonic() < end:
                            figures[server.name].append(fetch_ms(connection, paths["4k"]))
                            time.sleep(0.002)
        print(f"4k beside {connections} downloads of 8M", flush=True)
        for name, took in figures.items():
            p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
            print(f"  {name:18} p50 {p50:8.3f}  p99 {p99:8.3f} ms", flush=True)
            rows.append({"row": "4k beside 8M", "connections": connections, "server": name, "p50_ms": p50, "p99_ms": p99})
    return rows


def kernel_mb() -> float:
    pages = int(re.search(r"TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text())[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def slow_readers(servers: list[Server], paths: list[str], label: str) -> list[dict]:
    """Peak memory while 256 clients take a little of a large image now and then."""
    rows = []
    print(f"{SLOW_READERS} slow readers of {label}", flush=True)
    for server in servers:
        server.forget_peak()
        before, kernel = server.memory_mb("VmRSS"), kernel_mb()
        sockets = []
        for number in range(SLOW_READERS):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            s.connect(("127.0.0.1", server.port))
            s.sendall(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            sockets.append(s)
        for _ in range(20):
            for s in sockets:
                s.recv(16384)
            time.sleep(0.1)
        held = kernel_mb() - kernel
        peak = server.memory_mb("VmHWM")
        for s in sockets:
            s.close()
        print(f"  {server.name:18} {before:6.1f} MB before, {peak:6.1f} MB at most; {held:6.1f} MB in sockets", flush=True)
        rows.append({"row": f"slow readers of {label}", "server": server.name, "peak_mb": peak, "sockets_mb": held})
        time.sleep(1)
    return rows


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG of few bytes that decodes to very many."""
    packer = zlib.compressobj(9)
    line = b"\0" * (1 + side * 3)
    packed = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def metric(server: Server, name: str) -> float:
    text = server.get("/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{"))


def variants(server: Server, store: Path) -> list[dict]:
    rows = []
    arguments = json.dumps({"prompt": "a red fox in a snowy forest at dawn", "width": 1024, "height": 1024,
                            "num_inference_steps": 4, "seed": 7}).encode()
    request = urllib.request.Request(
        server.url("/mcp/v1/tools/generate_image"), arguments, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        first = json.load(answer)["image_id"]
    data = server.get(f"/images/{first}")[2]
    for query in ("w=512&format=webp", "w=512&format=jpeg", "w=512&format=png", "w=128&format=webp"):
        paths = [put(store, data, 1024) for _ in range(40)]
        sizes = []
        server.get(f"{paths[0]}?{query}")
        begun = server.cpu_seconds()
        for path in paths[1:]:
            status, _, body = server.get(f"{path}?{query}")
            assert status == 200, status
            sizes.append(len(body))
        cpu = (server.cpu_seconds() - begun) / (len(paths) - 1) * 1000
        print(f"  1024x1024 PNG of {len(data)} bytes, {query}: {cpu:.1f} ms of CPU, {sizes[0]} bytes", flush=True)
        rows.append({"row": f"variant {query}", "cpu_ms": cpu, "bytes": sizes[0]})

    path = f"{put(store, data, 1024)}?w=640&format=webp"
    made = metric(server, "mcp_image_variants_total")
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
    for s in sockets:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    for s in sockets:
        assert s.recv(12) == b"HTTP/1.1 200"
    made = metric(server, "mcp_image_variants_total") - made
    print(f"  64 requests at once for one variant: made {made:.0f} time", flush=True)
    rows.append({"row": "64 at once", "made": made})

    for side in (20_000, 60_000):
        data = bomb(side) if side < 60_000 else bomb(64).replace(struct.pack(">II", 64, 64), struct.pack(">II", side, side))
        path = put(store, data)
        server.forget_peak()
        before, cpu = server.memory_mb("VmHWM"), server.cpu_seconds()
        begun = time.perf_counter()
        status, _, _ = server.get(f"{path}?w=64&format=webp")
        took = (time.perf_counter() - begun) * 1000
        grown = server.memory_mb("VmHWM") - before
        print(f"  bomb of {side}x{side} pixels in {len(data)} bytes: {status}, {grown:.1f} MB, {took:.1f} ms", flush=True)
        rows.append({"row": f"bomb {side}", "status": status, "grown_mb": grown, "ms": took})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", choices=["rates", "beside", "memory", "variants"])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--kinds", nargs="*", default=["304"], choices=["304"])
    parser.add_argument("--connections", nargs="*", type=int, default=[1, 64, 256])
    parser.add_argument("--binary", type=Path, help="a server that is built already")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if not options.binary:
        subprocess.run(["cargo", "build", "--locked", "--release", "--bins"], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--locked", "--release", "--example", "bare_hyper"], cwd=ROOT, check=True)
    binary = options.binary or TARGET / "release" / "mcp-image-server"

    results = []
    with tempfile.TemporaryDirectory(dir=SHM, prefix="mcp-image-bench-") as work:
        work, store = Path(work), Path(work) / "images"
        paths = {size: put(store, os.urandom(length)) for size, length in SIZES.items()}
        hot = ours("ours", binary, store)
        cold = ours("ours, no memory", binary, store, IMAGE_CACHE_BYTES="0")
        servers = [hot, cold, nginx(store, work / "nginx"), hyper_alone(store)]
        try:
            for server in servers:
                server.start()
            if options.only in (None, "rates"):
                results += rates(servers, paths, options)
            if options.only in (None, "beside"):
                results += beside_downloads(servers, paths, options)
            if options.only in (None, "memory"):
                results += slow_readers(servers, [paths["8M"]], "one image of 8 MB")
                many = [put(store, os.urandom(1_000_000)) for _ in range(SLOW_READERS)]
                # It has only what was there when it started.
                servers_of_many = [server for server in servers if server.name != "hyper alone"]
                results += slow_readers(servers_of_many, many, "images of 1 MB, each its own")
            if options.only in (None, "variants"):
                results += variants(hot, store)
        finally:
            for server in servers:
                server.stop()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
