"""Looks at the built image, starts it as a cluster would, with a volume and with a bucket, and uses it from outside.

    python container.py ROOTFS IMAGE_JSON
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import rpc
from blake3 import blake3
from bundle import NOBODY, SERVER, Container, Image, Running, volume
from checks import Checks
from fake_kserve import FakeKserve
from server import ask, bucket

checks = Checks("container")


def check_image(image: Image) -> None:
    """What a reviewer looks for in the image."""
    rootfs, config = image.rootfs, image.config
    checks.equal(config.get("User"), f"{NOBODY}:{NOBODY}", "runs as a user without rights")
    checks.equal(config.get("StopSignal"), "SIGTERM", "stops by SIGTERM")
    checks.equal(config.get("Entrypoint"), [SERVER], "starts the server")
    test = (config.get("Healthcheck") or {}).get("Test")
    checks.equal(test, ["CMD", SERVER, "health"], "health is asked by the binary itself")
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


def check_volume(image: Image, scratch: Path) -> None:
    """Starts, is healthy, draws over MCP by a KServe predictor, serves the image, stops when told."""
    before, data = tree(image.rootfs), scratch / "data"
    mount = volume(data, "/data")
    with FakeKserve() as kserve, Running(image, scratch / "serve", {"KSERVE_ENDPOINT": kserve.base}, [mount]) as running:
        report = ask(f"{running.base}/health").json()
        checks.equal(report["storage"]["backend"], "file", "/health tells the storage")
        inside = running.container.crun("exec", running.container.name, SERVER, "health")
        checks.that(inside.returncode == 0, "its own health check passes inside", inside.stderr)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        named = rpc.call(running.base, "initialize", hello)["serverInfo"]["name"]
        checks.equal(named, "mcp-image-server", "MCP: initialize")
        tools = [tool["name"] for tool in rpc.call(running.base, "tools/list", {})["tools"]]
        checks.that("generate_image" in tools, "MCP: generate_image is listed", tools)
        check_picture(rpc.draw(running.base, "a lighthouse"), "with a volume")
        checks.equal(len(list(data.rglob("*.png"))), 1, "the image is on the volume")
        owners = {path.stat().st_uid for path in data.rglob("*")}
        checks.equal(owners, {NOBODY}, "what it writes is its own")
        status = Path(f"/proc/{running.container.pid()}/status").read_text()
        checks.that("CapEff:\t0000000000000000" in status, "has no capability", status)
    checks.equal(running.code, 0, "its stop signal ends it, with 0")
    check_unchanged(image, before, "with a volume")


def check_bucket(image: Image, scratch: Path) -> None:
    """The same without any volume: what one container draws is in the bucket, where another one finds it."""
    given = bucket()
    if given is None:
        checks.skip("with a bucket", "there is no S3 server: S3_TEST_ENDPOINT and its like are not set")
        return
    before = tree(image.rootfs)
    with FakeKserve() as kserve:
        variables = given | {"KSERVE_ENDPOINT": kserve.base, "STORAGE_BACKEND": "s3", "S3_PREFIX": "container/"}
        with Running(image, scratch / "bucket", variables) as running:
            report = ask(f"{running.base}/health").json()
            checks.equal(report["storage"]["backend"], "s3", "/health tells the bucket")
            drawn = rpc.draw(running.base, "a lighthouse")
            check_picture(drawn, "with a bucket")
        with Running(image, scratch / "another", variables) as another:
            path = urlsplit(drawn["url"]).path
            checks.equal(ask(another.base + path).status, 200, "with a bucket: another container serves the image")
    checks.equal((running.code, another.code), (0, 0), "with a bucket: the stop signal ends it, with 0")
    check_unchanged(image, before, "with a bucket")


def check_picture(drawn: dict, what: str) -> None:
    """The URL of an image that was drawn serves the bytes that its metadata tells of."""
    picture = ask(drawn["url"])
    got = (picture.status, picture.body[:4], blake3(picture.body).hexdigest())
    checks.equal(got, (200, b"\x89PNG", drawn["metadata"]["blake3"]), f"{what}: an image is drawn over MCP and served")


def check_unchanged(image: Image, before: dict[str, tuple[int, int]], what: str) -> None:
    """Nothing below the root is other than `before`."""
    after = tree(image.rootfs)
    # The runtime makes the point where it mounts /proc.
    paths = (before.keys() | after.keys()) - {str(image.rootfs / "proc")}
    changed = [path for path in paths if before.get(path) != after.get(path)]
    checks.equal(changed, [], f"{what}: nothing was written to the image's own folders")


def check_refusal(image: Image, scratch: Path) -> None:
    """Without a predictor it does not start, and says why."""
    container = Container(image, scratch / "bare", {})
    code = container.start().wait(30)
    log = container.tail()
    checks.that(code == 78 and "KSERVE_ENDPOINT" in log, "without a predictor it ends with 78 and says why", (code, log))


def main() -> None:
    image = Image.read(*sys.argv[1:3])
    check_image(image)
    with tempfile.TemporaryDirectory() as scratch:
        for check in (check_volume, check_bucket, check_refusal):
            try:
                check(image, Path(scratch))
            except (RuntimeError, ValueError) as error:
                checks.that(False, f"{check.__name__}: starts and draws", error)
    checks.finish()


if __name__ == "__main__":
    main()
