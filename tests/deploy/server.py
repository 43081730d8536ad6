"""Runs the server's binary, and asks it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Everything that a container's environment has besides what the manifests give it.
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def binary() -> Path:
    """The binary to check: SERVER_BINARY, or cargo's debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(os.environ.get("SERVER_BINARY", target / "debug" / "mcp-image-server")).resolve()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(arguments: list[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs a command of the binary to its end, with these variables alone, away from any .env file."""
    return subprocess.run(
        [binary(), *arguments], env=BARE | (variables or {}), cwd="/", capture_output=True, text=True, timeout=30
    )


@dataclass(frozen=True)
class Variable:
    """A row of the configuration's reference."""

    name: str
    secret: bool
    help: str


def variables() -> dict[str, Variable]:
    """Every variable that the binary knows, by its own word."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*)$", run(["config-docs"]).stdout, re.MULTILINE)
    return {name: Variable(name, "; secret |" in rest, rest) for name, rest in rows}


def effective(variables: dict[str, str]) -> dict[str, str]:
    """What each variable is with this environment, by the binary's `check`."""
    done = run(["check"], variables)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    rows = re.findall(r"^\s*([A-Z0-9_]{3,})\s+(?:environment|default)\s+(.*?)\s*$", done.stdout, re.MULTILINE)
    return dict(rows)


def bucket() -> dict[str, str] | None:
    """The variables of an S3 server for tests, if there is one."""
    given = {name.removeprefix("S3_TEST_"): value for name, value in os.environ.items() if name.startswith("S3_TEST_")}
    if not given.keys() >= {"ENDPOINT", "BUCKET", "REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"}:
        return None
    return {
        "S3_ENDPOINT_URL": given["ENDPOINT"],
        "S3_BUCKET": given["BUCKET"],
        "AWS_REGION": given["REGION"],
        "AWS_ACCESS_KEY_ID": given["ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": given["SECRET_ACCESS_KEY"],
    }


@dataclass
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(url: str, value: Any = None, headers: dict[str, str] | None = None, timeout: float = 30) -> Answer:
    """GET, or POST of a JSON value."""
    body = None if value is None else json.dumps(value).encode()
    types = {} if value is None else {"content-type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=types | (headers or {}))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


def becomes_ready(base: str, process: subprocess.Popen, seconds: float = 20) -> bool:
    """Waits until the server at `base` is ready; false if its process ends, or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if ask(f"{base}/health/ready", timeout=5).status == 200:
                return True
        time.sleep(0.05)
    return False


@dataclass
class Server:
    """A server on loopback until the end of the `with` block."""

    variables: dict[str, str]
    log: Path
    cores: int | None = None
    base: str = field(init=False)
    metrics: str = field(init=False)
    process: subprocess.Popen = field(init=False)

    def __enter__(self) -> Server:
        port, metrics_port = free_port(), free_port()
        self.base, self.metrics = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}"
        ports = {"HOST": "127.0.0.1", "PORT": str(port), "METRICS_PORT": str(metrics_port)}
        # As many cores as a container's limit would let it see.
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))[: self.cores]]
        command = ["taskset", "--cpu-list", ",".join(cores), binary()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=BARE | self.variables | ports, cwd="/", stdout=log, stderr=log
            )
        if becomes_ready(self.base, self.process):
            return self
        self.__exit__()
        raise RuntimeError(f"the server is not ready, ended with {self.process.returncode}: {self.tail()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1500:]
