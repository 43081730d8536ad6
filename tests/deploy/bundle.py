"""The built image as a container under crun, the way a cluster runs it: read-only root, a user without rights, no
capabilities. Its network is the host's, where everything listens on loopback."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import becomes_ready, free_port

# The user of the image, and of the pods.
NOBODY = 65532
# crun takes no machine with both kinds of cgroups, as some are: it sees one kind, in a mount namespace of its own.
ONE_CGROUP = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; exec crun "$@"'
CRUN = ["unshare", "--mount", "sh", "-c", ONE_CGROUP, "crun", "--cgroup-manager", "disabled"]
SERVER = "/usr/local/bin/mcp-image-server"


@dataclass(frozen=True)
class Image:
    """An image that is unpacked on this machine."""

    rootfs: Path
    config: dict[str, Any]

    @classmethod
    def read(cls, rootfs: str, inspected: str) -> Image:
        """The image at `rootfs`, described by the file that `buildah inspect` wrote."""
        return cls(Path(rootfs), json.loads(Path(inspected).read_text())["Docker"]["config"])


def volume(folder: Path, path: str) -> dict[str, Any]:
    """The folder, made and given to the image's user as a volume's fsGroup would, mounted at `path`."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, NOBODY, NOBODY)
    return {"destination": path, "type": "bind", "source": str(folder), "options": ["rbind", "rw"]}


class Container:
    """The image with these variables and mounts on top of its own; its log is `bundle`/log.

    With `cores`, it sees as many as a container's limit would let it see.
    """

    def __init__(
        self,
        image: Image,
        bundle: Path,
        variables: dict[str, str],
        mounts: list[dict[str, Any]] | None = None,
        cores: int | None = None,
    ) -> None:
        self.name = f"mcp-image-server-{os.getpid()}-{bundle.name}"
        self.image, self.bundle, self.state, self.cores = image, bundle, bundle / "state", cores
        defaults = dict(each.split("=", 1) for each in image.config["Env"])
        config = {
            "ociVersion": "1.0.2",
            "root": {"path": str(image.rootfs), "readonly": True},
            "process": {
                "user": {"uid": NOBODY, "gid": NOBODY},
                "args": image.config["Entrypoint"],
                "env": [f"{name}={value}" for name, value in (defaults | variables).items()],
                "cwd": "/",
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                *(mounts or []),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))

    def crun(self, *arguments: str) -> subprocess.CompletedProcess:
        """A crun command to its end."""
        command = [*CRUN, "--root", str(self.state), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> subprocess.Popen:
        """Runs in the background."""
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))[: self.cores]]
        command = ["taskset", "--cpu-list", ",".join(cores), *CRUN]
        command += ["--root", str(self.state), "run", "--bundle", str(self.bundle), self.name]
        with (self.bundle / "log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def tail(self) -> str:
        """The end of its log."""
        return (self.bundle / "log").read_text(errors="replace")[-1500:]

    def pid(self) -> int:
        """The server's process, seen from outside."""
        return json.loads(self.crun("state", self.name).stdout)["pid"]


class Running:
    """A server in a container until the end of the `with` block; `code` is then what it ended with.

    Listens on free ports of loopback. Raises RuntimeError with the log's end if it does not become ready.
    """

    def __init__(
        self,
        image: Image,
        bundle: Path,
        variables: dict[str, str],
        mounts: list[dict[str, Any]] | None = None,
        cores: int | None = None,
    ) -> None:
        port, metrics_port = free_port(), free_port()
        self.base, self.metrics = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}"
        own = {"HOST": "127.0.0.1", "PORT": str(port), "METRICS_PORT": str(metrics_port), "SHUTDOWN_DELAY": "0"}
        self.container = Container(image, bundle, variables | own, mounts, cores)
        self.code: int | None = None

    def __enter__(self) -> Running:
        self.process = self.container.start()
        if becomes_ready(self.base, self.process):
            return self
        self.__exit__()
        raise RuntimeError(f"it is not ready, ended with {self.code}: {self.container.tail()}")

    def __exit__(self, *_: object) -> None:
        container = self.container
        container.crun("kill", container.name, container.image.config.get("StopSignal", "SIGTERM"))
        try:
            self.code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            container.crun("kill", container.name, "SIGKILL")
            self.code = self.process.wait(10)
