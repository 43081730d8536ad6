#!/usr/bin/env python3
"""The load comparison: this server, and what a user would pick instead, side by side in one run.

    python3 benches/compare.py                         all rows, 5 interleaved rounds of 2 s each
    python3 benches/compare.py --only mcp --rounds 9
    python3 benches/compare.py --profile dist --json out.json

Needs cargo, wrk and (for the Python peer) python3 with venv; `--no-python` leaves that peer out, and the output says
so. Servers run on core 0, the driver and the predictor on core 1; each round passes every peer, and only the ratios
of medians count: absolute figures are this machine's and its neighbours'. Everything listens on 127.0.0.1. Stores are
on a memory file system, but for the peer that waits for the disk, and images are removed while they are made.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from harness import Call, Peer, Sweeper, free_port, load, on_driver_core, started

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benches" / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

OURS = "ours"
MODERN = "2026-07-28"
PREDICTOR_DELAYS = {"at once": 0, "200 ms": 200}
SETTLE_SECONDS = 1.0

# Row, era, method, parameters, connections.
MCP_ROWS = [
    ("tools/list", "legacy", "tools/list", {}, [1, 64, 256]),
    ("tools/list", "modern", "tools/list", {}, [1, 64]),
    # No tool does nothing. A call without its prompt passes all that a call passes, but for the work.
    ("tool call without its prompt", "legacy", "tools/call", {"name": "generate_image", "arguments": {}}, [1, 64, 256]),
]
GENERATE_ROWS = [("at once", [16, 64, 256]), ("200 ms", [1, 16, 64])]


def call(era: str, method: str, params: dict) -> Call:
    headers = {}
    if era == "modern":
        meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
        params = {**params, "_meta": meta}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    return Call(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}), headers)


def generate(peer: Peer) -> Call:
    arguments = {"prompt": "a fox in the snow", **peer.arguments}
    return call("legacy", "tools/call", {"name": "generate_image", "arguments": arguments})


def answer(peer: Peer, what: Call) -> str:
    request = urllib.request.Request(peer.url(), what.body.encode(), what.all_headers())
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


class Comparison:
    """One run: its options, its places, and what it found."""

    def __init__(self, options: argparse.Namespace, built: Path, python: Path | None, memory: Path, disk: Path):
        self.options, self.built, self.python, self.memory, self.disk = options, built, python, memory, disk
        self.predictors = {name: free_port() for name in PREDICTOR_DELAYS}
        self.rows: list[dict] = []

    def ours(self, name: str, predictor: str, folder: Path, sync: str, **arguments: object) -> Peer:
        port = free_port()
        env = {
            "HOST": "127.0.0.1", "PORT": str(port), "STORAGE_PATH": str(folder), "STORAGE_SYNC": sync,
            "KSERVE_ENDPOINT": predictor, "GENERATION_CONCURRENCY": "256",
            # The limits stay on; this client is never over them.
            "REQUEST_RATE": "1000000", "REQUEST_BURST": "1000000",
        }
        command = [self.built / "mcp-image-server"]
        return Peer(name, command, env, port, "/mcp", "/health", folder, arguments, log=self.memory / "log")

    def peers(self, predictor: str, *, images: bool = False) -> list[Peer]:
        predict = f"http://127.0.0.1:{self.predictors[predictor]}/v1/models/stable-diffusion"
        found = [self.ours(OURS, predict, self.memory / "ours", "off", **({"include_preview": False} if images else {}))]
        if images:
            found.append(self.ours("ours, with preview", predict, self.memory / "preview", "off"))
            found.append(self.ours("ours, synced", predict, self.disk / "synced", "on", include_preview=False))
        for name, *options in [("rmcp bare",), ("rmcp bare, hashing", "hash")][: 1 + images]:
            port, folder = free_port(), self.memory / name
            command = [self.built / "examples" / "bare_rmcp", port, f"{predict}:predict", folder, *options]
            found.append(Peer(name, command, {}, port, "/mcp", "/mcp", folder, {}))
        if self.python:
            port, folder = free_port(), self.memory / "py210"
            command = [self.python, PEERS / "py210.py", port, f"{predict}:predict", folder]
            found.append(Peer("py210", command, {}, port, "/mcp/", "/health", folder, {}, modern=False))
        return [peer for peer in found if not self.options.peers or peer.name in self.options.peers]

    def start(self) -> None:
        print("\nexec to the first answer on /health; resident memory a second later")
        starts: dict[str, list] = {}
        for _ in range(self.options.rounds):
            for peer in self.peers("at once"):
                took = peer.start()
                time.sleep(SETTLE_SECONDS)
                starts.setdefault(peer.name, []).append({"start_ms": took, "idle_mb": peer.memory_mb("VmRSS")})
                peer.stop()
        self.add("start", None, starts)

    def mcp(self) -> None:
        with started(self.peers("at once")) as peers:
            for label, era, method, params, counts in MCP_ROWS:
                what = call(era, method, params)
                able = [peer for peer in peers if era == "legacy" or peer.modern]
                for peer in able:
                    reply = answer(peer, what)
                    if '"result"' not in reply and "prompt" not in reply:
                        raise SystemExit(f"{peer.name} does not answer {label}: {reply[:200]}")
                for connections in counts:
                    self.rounds(f"{label}, {era}", connections, able, lambda peer: what)

    def generate(self) -> None:
        for predictor, counts in GENERATE_ROWS:
            with started(self.peers(predictor, images=True)) as peers:
                for peer in peers:
                    reply = answer(peer, generate(peer))
                    if "/images/" not in reply:
                        raise SystemExit(f"{peer.name} does not generate: {reply[:300]}")
                for connections in counts:
                    self.rounds(f"generate_image, predictor takes {predictor}", connections, peers, generate)

    def rounds(self, label: str, connections: int, peers: list[Peer], what) -> None:
        print(f"\n{label}, {connections} connections", flush=True)
        runs: dict[str, list] = {peer.name: [] for peer in peers}
        for _ in range(self.options.rounds):
            for peer in peers:
                with Sweeper(peer.folder):
                    found = load(peer, what(peer), connections, self.options.seconds, self.memory)
                    peer.settle()
                runs[peer.name].append(found)
                if peer.log:
                    os.truncate(peer.log, 0)
        self.add(label, connections, runs)

    def add(self, label: str, connections: int | None, runs: dict[str, list]) -> None:
        """Keeps the medians of a row, and shows them."""
        medians = {
            name: {key: statistics.median(run[key] for run in all_of_it) for key in all_of_it[0]}
            for name, all_of_it in runs.items()
        }
        ours = medians.get(OURS)
        for name, median in medians.items():
            shown = "  ".join(f"{key} {value:9.3f}" for key, value in median.items())
            over = {}
            if ours and name != OURS:
                over = {key: ours[key] / median[key] for key in ("rate", "cpu_us") if median.get(key)}
                shown += "".join(f"   ours/this {key} {ratio:.2f}" for key, ratio in over.items())
            print(f"  {name:20} {shown}", flush=True)
            self.rows.append({"row": label, "connections": connections, "peer": name, **median, "ours_over_this": over})


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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", choices=["start", "mcp", "generate"], help="one group of rows")
    parser.add_argument("--peers", action="append", help="only this peer (repeatable)")
    parser.add_argument("--no-python", action="store_true", help="leave the Python peer out")
    parser.add_argument("--no-build", action="store_true", help="take what was built before")
    parser.add_argument("--profile", default="release", help="cargo profile of the servers (dist is what ships)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def main() -> None:
    options = parse()
    for tool in ("cargo", "wrk"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is needed and not installed")
    if not options.no_build:
        build = ["cargo", "build", "--locked", "--profile", options.profile, "--bins", "--examples"]
        subprocess.run(build, cwd=ROOT, check=True)
    built = TARGET / ("debug" if options.profile == "dev" else options.profile)
    python = python_peer(options.no_python)
    on_driver_core()

    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="mcp-image-bench-") as memory,
        tempfile.TemporaryDirectory(dir=TARGET, prefix="bench-") as disk,
    ):
        run = Comparison(options, built, python, Path(memory), Path(disk))
        predictors = [
            subprocess.Popen([built / "examples" / "instant_predictor", str(run.predictors[name]), str(delay)])
            for name, delay in PREDICTOR_DELAYS.items()
        ]
        try:
            for group in ("start", "mcp", "generate"):
                if options.only in (None, group):
                    getattr(run, group)()
        finally:
            for process in predictors:
                process.kill()
    if not python:
        print("left out: py210 (--no-python)")
    if options.json:
        options.json.write_text(json.dumps(run.rows, indent=1))


if __name__ == "__main__":
    main()
