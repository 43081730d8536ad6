"""Looks at the built image, starts it under crun as a cluster would, and uses it from outside.

    python container.py ROOTFS IMAGE_JSON
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checks import Checks
from fake_kserve import FakeKserve
from server import Answer, ask, free_port

NOBODY = 65532
# crun takes no machine with both kinds of cgroups, as some are: it sees one kind, in a mount namespace of its own.
ONE_CGROUP = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; exec crun "$@"'
CRUN = ["unshare", "--mount", "sh", "-c", ONE_CGROUP, "crun", "--cgroup-manager", "disabled"]
MCP = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
checks = Checks("container")


class Container:
    """The image under crun: read-only root, no capabilities, no new privileges, on loopback."""

    def __init__(self, rootfs: Path, image: dict, bundle: Path, variables: dict[str, str], mounts: list[dict]) -> None:
        self.name = f"mcp-image-server-{os.getpid()}-{bundle.name}"
        self.bundle, self.state = bundle, bundle / "state"
        defaults = dict(each.split("=", 1) for each in image["config"]["Env"])
        environment = [f"{name}={value}" for name, value in (defaults | variables).items()]
        config = {
            "ociVersion": "1.0.2",
            "root": {"path": str(rootfs), "readonly": True},
            "process": {
                "user": {"uid": NOBODY, "gid": NOBODY},
                "args": image["config"]["Entrypoint"],
                "env": environment,
                "cwd": "/",
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                *mounts,
            ],
            # The network is the host's, where everything listens on loopback.
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))

    def crun(self, *arguments: str, **options: object) -> subprocess.CompletedProcess:
        """A crun command to its end."""
        command = [*CRUN, "--root", str(self.state), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)

    def start(self) -> subprocess.Popen:
        """Runs in the background; the log is `bundle/log`."""
        command = [*CRUN, "--root", str(self.state), "run", "--bundle", str(self.bundle), self.name]
        with (self.bundle / "log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def check_image(rootfs: Path, image: dict) -> None:
    """What a reviewer looks for in the image."""
    config = image["config"]
    checks.equal(config.get("User"), f"{NOBODY}:{NOBODY}", "runs as a user without rights")
    checks.equal(config.get("StopSignal"), "SIGTERM", "stops by SIGTERM")
    checks.equal(config.get("Entrypoint"), ["/usr/local/bin/mcp-image-server"], "starts the server")
    test = (config.get("Healthcheck") or {}).get("Test")
    checks.equal(test, ["CMD", "/usr/local/bin/mcp-image-server", "health"], "health is asked by the binary itself")
    labels = config.get("Labels", {})
    for name in ("title", "description", "licenses", "revision", "source", "version"):
        value = labels.get(f"org.opencontainers.image.{name}")
        checks.that(value and value != "unknown", f"has the label {name}", labels)
    files = [path for path in rootfs.rglob("*") if path.is_file() and not path.is_symlink()]
    shells = [str(path) for path in files if path.name in ("sh", "bash", "dash", "busybox", "ash")]
    checks.equal(shells, [], "has no shell")
    programs = [path for path in files if path.parent.name in ("bin", "sbin") and os.access(path, os.X_OK)]
    checks.equal([path.name for path in programs], ["mcp-image-server"], "has one program")
    raised = [str(path) for path in files if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    checks.equal(raised, [], "has no setuid or setgid file")


def tree(rootfs: Path) -> dict[str, tuple[int, int]]:
    """Every path with size and time of change."""
    return {str(path): (found.st_size, found.st_mtime_ns) for path in rootfs.rglob("*") if (found := path.lstat())}


def call(base: str, method: str, params: dict, number: int = 1) -> Answer:
    """One JSON-RPC request to /mcp."""
    return ask(f"{base}/mcp", {"jsonrpc": "2.0", "id": number, "method": method, "params": params}, MCP)


def result_of(answer: Answer) -> dict:
    """The result of a JSON-RPC answer, plain or as the last server-sent event."""
    text = answer.body.decode()
    data = [line[5:] for line in text.splitlines() if line.startswith("data:") and "{" in line]
    return json.loads(data[-1] if data else text)["result"]


def check_use(rootfs: Path, image: dict, scratch: Path) -> None:
    """Starts, is healthy, draws over MCP by a KServe predictor, serves the image, stops when told."""
    before = tree(rootfs)
    data = scratch / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with FakeKserve() as kserve:
        variables = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "KSERVE_ENDPOINT": kserve.base,
            "SHUTDOWN_DELAY": "0",
        }
        mount = {"destination": "/data", "type": "bind", "source": str(data), "options": ["rbind", "rw"]}
        container = Container(rootfs, image, scratch / "serve", variables, [mount])
        process = container.start()
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end and process.poll() is None:
                try:
                    if ask(f"{base}/health/ready").status == 200:
                        break
                except OSError:
                    time.sleep(0.05)
            log = (scratch / "serve" / "log").read_text()
            if not checks.that(process.poll() is None, "starts", log):
                return
            report = ask(f"{base}/health").json()
            checks.equal(report["storage"]["backend"], "file", "/health tells the storage")
            inside = container.crun("exec", container.name, "/usr/local/bin/mcp-image-server", "health")
            checks.that(inside.returncode == 0, "its own health check passes inside", inside.stderr)
            started = {"name": "test", "version": "1"}
            hello = result_of(
                call(base, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": started})
            )
            checks.equal(hello["serverInfo"]["name"], "mcp-image-server", "MCP: initialize")
            tools = [tool["name"] for tool in result_of(call(base, "tools/list", {}, 2))["tools"]]
            checks.that("generate_image" in tools, "MCP: generate_image is listed", tools)
            arguments = {"name": "generate_image", "arguments": {"prompt": "a lighthouse"}}
            drawn = result_of(call(base, "tools/call", arguments, 3))
            checks.that(not drawn.get("isError"), "MCP: generate_image draws", drawn)
            url = drawn["structuredContent"]["url"]
            picture = ask(url)
            checks.equal((picture.status, picture.body[:4]), (200, b"\x89PNG"), "the image is served")
            kept = [path for path in data.rglob("*.png")]
            checks.equal(len(kept), 1, "the image is on the volume")
            owners = {path.stat().st_uid for path in data.rglob("*")}
            checks.equal(owners, {NOBODY}, "what it writes is its own")
            status = Path(f"/proc/{pid_of(container)}/status").read_text()
            checks.that("CapEff:\t0000000000000000" in status, "has no capability", status)
        finally:
            container.crun("kill", container.name, image["config"].get("StopSignal", "SIGTERM"))
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                container.crun("kill", container.name, "SIGKILL")
                code = process.wait(10)
        checks.equal(code, 0, "its stop signal ends it, with 0")
    after = tree(rootfs)
    # The runtime makes the point where it mounts /proc.
    paths = (before.keys() | after.keys()) - {str(rootfs / "proc")}
    changed = [path for path in paths if before.get(path) != after.get(path)]
    checks.equal(changed, [], "nothing was written outside of the volume")


def pid_of(container: Container) -> int:
    """The server's process, seen from outside."""
    return json.loads(container.crun("state", container.name).stdout)["pid"]


def check_refusal(rootfs: Path, image: dict, scratch: Path) -> None:
    """Without a predictor it does not start, and says why."""
    container = Container(rootfs, image, scratch / "bare", {}, [])
    process = container.start()
    code = process.wait(30)
    log = (scratch / "bare" / "log").read_text()
    checks.that(code == 78 and "KSERVE_ENDPOINT" in log, "without a predictor it ends with 78 and says why", (code, log))


def main() -> None:
    rootfs = Path(sys.argv[1])
    inspected = json.loads(Path(sys.argv[2]).read_text())
    image = inspected["Docker"]
    check_image(rootfs, image)
    with tempfile.TemporaryDirectory() as scratch:
        check_use(rootfs, image, Path(scratch))
        check_refusal(rootfs, image, Path(scratch))
    checks.finish()


if __name__ == "__main__":
    main()
