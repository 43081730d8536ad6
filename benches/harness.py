"""What the load comparison is made with: servers under test, the load driver, and a broom."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CORE, DRIVER_CORE = 0, 1
# Images older than this are swept away while they are made: a store that grows takes fresh pages from the system,
# which costs more than what is compared, and the more the faster a peer is.
SWEEP_AGE, SWEEP_INTERVAL = 0.5, 0.1
START_TIMEOUT = 60
SETTLE_TIMEOUT = 20
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Call:
    """A request to an MCP endpoint."""

    body: str
    headers: dict[str, str] = field(default_factory=dict)

    def all_headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self.headers,
        }


@dataclass
class Peer:
    """A server under test: how it is started, where its MCP and health are, where it keeps images."""

    name: str
    command: list
    env: dict[str, str]
    port: int
    mcp: str
    health: str
    folder: Path
    arguments: dict
    modern: bool = True
    log: Path | None = None
    process: subprocess.Popen | None = None

    def start(self) -> float:
        """Starts it on its core; gives the milliseconds from exec to the first answer on its health path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        out = self.log.open("ab") if self.log else subprocess.DEVNULL
        request = f"GET {self.health} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [str(part) for part in self.command],
            env={**os.environ, **self.env},
            stdout=out,
            stderr=out,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        while not self.answers(request):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended at start: {self.command}")
            if time.perf_counter() - begun > START_TIMEOUT:
                raise SystemExit(f"{self.name} did not start")
            time.sleep(0.0005)
        return (time.perf_counter() - begun) * 1000

    def answers(self, request: bytes) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            s.sendall(request)
            return s.recv(16).startswith(b"HTTP/1.1")
        return False

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.mcp}"

    def cpu_seconds(self) -> float:
        """What the process has used of its core so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def memory_mb(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024

    def forget_peak(self) -> None:
        """`VmHWM` starts anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def settle(self) -> None:
        """Waits until it has done with calls whose callers are gone: the next peer wants the core for itself."""
        until = time.monotonic() + SETTLE_TIMEOUT
        used, before = self.cpu_seconds(), -1.0
        while used > before and time.monotonic() < until:
            time.sleep(0.1)
            before, used = used, self.cpu_seconds()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Sweeper:
    """Removes a peer's images while it makes them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Sweeper":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        # The last calls may still be at it.
        while any(self.folder.iterdir()):
            for entry in self.folder.iterdir():
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)

    def run(self) -> None:
        while not self.done.wait(SWEEP_INTERVAL):
            oldest = time.time() - SWEEP_AGE
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    self.sweep(Path(folder, name), oldest)

    @staticmethod
    def sweep(path: Path, oldest: float) -> None:
        # The image first: what lies beside it may be wanted until the image is there.
        if path.suffix != ".png":
            return
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                path.with_suffix(".json").unlink()


def load(peer: Peer, call: Call, connections: int, seconds: float, work: Path) -> dict[str, float]:
    """Drives a peer with so many connections that each wait for their answer; all answers must be 200."""
    script = work / "call.lua"
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in call.all_headers().items())
    script.write_text(f"wrk.method = 'POST'\nwrk.body = [==[{call.body}]==]\n{headers}")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", script]
    peer.forget_peak()
    used = peer.cpu_seconds()
    out = subprocess.run([*command, peer.url()], capture_output=True, text=True, check=True).stdout
    used = peer.cpu_seconds() - used
    failed = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", out)
    if failed:
        raise SystemExit(f"{peer.name}: {failed[0]}")
    requests = int(re.search(r"(\d+) requests in", out)[1])
    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50_ms": percentile(out, 50),
        "p99_ms": percentile(out, 99),
        "cpu_us": used / max(requests, 1) * 1e6,
        "peak_mb": peer.memory_mb("VmHWM"),
    }


def percentile(out: str, of: int) -> float:
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    value, suffix = re.search(rf"\b{of}%\s+([\d.]+)(us|ms|s)\b", out).groups()
    return float(value) * unit[suffix]


def on_driver_core() -> None:
    """This process and what it starts (servers excepted) stay off the servers' core."""
    os.sched_setaffinity(0, {DRIVER_CORE})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


@contextlib.contextmanager
def started(peers: list[Peer]):
    """The peers, running."""
    try:
        for peer in peers:
            peer.start()
        yield peers
    finally:
        for peer in peers:
            peer.stop()


