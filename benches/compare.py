#!/usr/bin/env python3
"""The load comparison: this server, and what a user would pick instead, side by side in one run.

    python3 benches/compare.py                 all rows, 3 interleaved rounds of 3 s each
    python3 benches/compare.py --rounds 5 --seconds 5 --only mcp
    python3 benches/compare.py --json out.json

Needs cargo, wrk and (for the Python peer) python3 with venv; `--no-python` leaves that peer out, and the
summary says so. The server runs on core 0, wrk on core 1; absolute figures are this machine's, only the
ratios of medians count. Everything listens on 127.0.0.1; stores are on a memory file system and removed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benches" / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def message(method: str, params: dict) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


LIST = message("tools/list", {})
GENERATE = message("tools/call", {"name": "generate_image", "arguments": {"prompt": "a fox in the snow"}})


def post(url: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode(), HEADERS)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


def get_status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=1) as response:
        return response.status


class Peer:
    """A server under test: how to start it, where its MCP and health are."""

    def __init__(self, name: str, command: list, env: dict, port: int, mcp: str, health: str):
        self.name, self.command, self.env, self.port = name, command, env, port
        self.mcp = f"http://127.0.0.1:{port}{mcp}"
        self.health = f"http://127.0.0.1:{port}{health}"
        self.process = None
        self.start_ms = None

    def start(self) -> None:
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *self.command],
            env={**os.environ, **self.env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended at start: {self.command}")
            try:
                with contextlib.suppress(urllib.error.HTTPError):
                    get_status(self.health)
                break
            except OSError:
                time.sleep(0.001)
            if time.perf_counter() - begun > 60:
                raise SystemExit(f"{self.name} did not start")
        self.start_ms = (time.perf_counter() - begun) * 1000

    def memory_mb(self, field: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def wrk(url: str, body: str, connections: int, seconds: float, folder: Path) -> dict:
    script = folder / "post.lua"
    lua_headers = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in HEADERS.items())
    script.write_text(f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n{lua_headers}")
    out = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url],
        capture_output=True, text=True, check=True,
    ).stdout
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    socket_errors = re.search(r"Socket errors: (.*)", out)
    if errors or (socket_errors and not re.fullmatch(r"connect 0, read 0, write 0, timeout \d+", socket_errors[1])):
        raise SystemExit(f"{url}: {errors and errors[0]} {socket_errors and socket_errors[0]}")
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}

    def percentile(p: str) -> float:
        value, suffix = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * unit[suffix]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return {"rate": rate, "p50_ms": percentile("50"), "p99_ms": percentile("99")}


def emptied(folder: Path) -> None:
    """Images are removed between rounds: a growing store would slow the later ones down."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def python_peer(no_python: bool) -> Path | None:
    if no_python:
        return None
    venv = TARGET / "peers" / "py210"
    python = venv / "bin" / "python"
    requirements = PEERS / "requirements-py210.txt"
    stamp = venv / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        shutil.copy(requirements, stamp)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", choices=["start", "mcp", "generate"], help="one group of rows")
    parser.add_argument("--no-python", action="store_true", help="leave the Python peer out")
    parser.add_argument("--profile", default="release", help="cargo profile of the server (dist is what ships)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    for tool in ("cargo", "wrk", "taskset"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is needed and not installed")

    subprocess.run(
        ["cargo", "build", "--locked", "--profile", options.profile, "--bins", "--examples"], cwd=ROOT, check=True
    )
    built = TARGET / ("debug" if options.profile == "dev" else options.profile)
    python = python_peer(options.no_python)

    with tempfile.TemporaryDirectory(dir=SHM, prefix="mcp-image-bench-") as work:
        compare(options, built, python, Path(work))


def compare(options: argparse.Namespace, built: Path, python: Path | None, work: Path) -> None:
    predictors = {delay: free_port() for delay in (0, 200)}
    predictor_processes = [
        subprocess.Popen(["taskset", "-c", "1", built / "examples" / "instant_predictor", str(port), str(delay)])
        for delay, port in predictors.items()
    ]

    def peers(predictor_port: int) -> list[Peer]:
        predict = f"http://127.0.0.1:{predictor_port}/v1/models/stable-diffusion"

        def ours(name: str, sync: str) -> Peer:
            folder, port = work / name.replace(" ", "-"), free_port()
            env = {
                "HOST": "127.0.0.1", "PORT": str(port), "STORAGE_PATH": str(folder), "STORAGE_SYNC": sync,
                "KSERVE_ENDPOINT": predict, "GENERATION_CONCURRENCY": "256", "REQUEST_RATE": "0", "IMAGE_RATE": "0",
                "LOG_FORMAT": "json",
            }
            return Peer(name, [built / "mcp-image-server"], env, port, "/mcp", "/health")

        bare_folder, bare_port = work / "bare", free_port()
        bare_folder.mkdir(exist_ok=True)
        bare = Peer(
            "rmcp bare", [built / "examples" / "bare_rmcp", str(bare_port), f"{predict}:predict", bare_folder],
            {}, bare_port, "/mcp", "/mcp",
        )
        found = [ours("ours", "off"), ours("ours, synced", "on"), bare]
        if python:
            port = free_port()
            command = [python, PEERS / "py210.py", str(port), f"{predict}:predict", work / "py210"]
            found.append(Peer("py210", command, {}, port, "/mcp/", "/health"))
        return found

    results = []
    try:
        for group, predictor in (("start", 0), ("mcp", 0), ("generate", 0), ("generate 200 ms", 200)):
            if options.only and not group.startswith(options.only):
                continue
            results += run_group(group, peers(predictors[predictor]), options, work)
    finally:
        for process in predictor_processes:
            process.kill()
    if not python:
        print("left out: py210 (--no-python)")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


ROWS = {
    "mcp": [("tools/list", LIST, [1, 64])],
    "generate": [("generate_image", GENERATE, [16, 64, 256])],
    "generate 200 ms": [("generate_image, 200 ms", GENERATE, [1, 16, 64])],
}


def run_group(group: str, peers: list[Peer], options: argparse.Namespace, work: Path) -> list[dict]:
    if group == "start":
        return start_rows(peers, options)
    results = []
    for peer in peers:
        peer.start()
    try:
        for peer in peers:
            reply = post(peer.mcp, LIST)
            if "generate_image" not in reply:
                raise SystemExit(f"{peer.name} does not list the tool: {reply[:200]}")
            reply = post(peer.mcp, GENERATE)
            if "/images/" not in reply:
                raise SystemExit(f"{peer.name} does not generate: {reply[:300]}")
        for label, body, counts in ROWS[group]:
            for connections in counts:
                figures = {peer.name: [] for peer in peers}
                for _ in range(options.rounds):
                    for peer in peers:
                        figures[peer.name].append(wrk(peer.mcp, body, connections, options.seconds, work))
                        for folder in work.iterdir():
                            if folder.is_dir():
                                emptied(folder)
                results += show(label, connections, figures)
        for peer in peers:
            peak = peer.memory_mb("VmHWM")
            print(f"  peak memory {peer.name}: {peak:.0f} MB")
            results.append({"row": f"peak memory after {group}", "peer": peer.name, "mb": peak})
    finally:
        for peer in peers:
            peer.stop()
    return results


def start_rows(peers: list[Peer], options: argparse.Namespace) -> list[dict]:
    results = []
    print("exec to first answer on /health, and resident memory then")
    for peer in peers:
        times, idle = [], 0.0
        for _ in range(options.rounds):
            peer.start()
            times.append(peer.start_ms)
            idle = peer.memory_mb("VmRSS")
            peer.stop()
        median = statistics.median(times)
        print(f"  {peer.name:14} {median:8.1f} ms {idle:8.1f} MB")
        results.append({"row": "start", "peer": peer.name, "ms": median, "idle_mb": idle})
    return results


def show(label: str, connections: int, figures: dict) -> list[dict]:
    print(f"{label}, {connections} connections")
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in figures.items()
    }
    ours = medians["ours"]["rate"]
    rows = []
    for name, median in medians.items():
        ratio = ours / median["rate"]
        note = "" if name == "ours" else f"   ours / this = {ratio:.2f}"
        print(
            f"  {name:14} {median['rate']:10.0f}/s   p50 {median['p50_ms']:8.3f} ms"
            f"   p99 {median['p99_ms']:8.3f} ms{note}"
        )
        rows.append({"row": label, "connections": connections, "peer": name, **median, "ours_over_this": ratio})
    return rows


if __name__ == "__main__":
    main()
