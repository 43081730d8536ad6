"""Runs the commands of the documents as they are written, and stops at the first that fails.

Usage: commands.py [PAGE...]

A block of `sh` says with its fence what is to be done with it:

    ```sh run          run it; ends with 0, or with N where `exit=N` stands beside `run`
    ```text output     what the block before printed, standard error included; `…` stands for any text, space does not count
    ```sh serve        start it as the page's server, until the page's end or its next `serve`
    ```sh skip=WHY     not run, because it needs: a cluster, root, a build, the network, a client ...

A `sh` block without a word is a fault. Blocks with `file=PATH` hold exactly what that file holds, from this folder's
root; `json` and `yaml` blocks have to parse, unless they have a `…`.

Each page has a folder of its own, in which the repository's folders are, and a server on a free port: 8000 stands for
it in the page, and 8900 for another free one. `mcp-image-server` and `cargo run` are the built binary. Names of variables and ports are all that a
server gets from here: HOST, PORT and STORAGE_PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pages import ROOT, Block, blocks, pages

sys.path.insert(0, str(ROOT / "tests" / "deploy"))

import server  # noqa: E402

REASONS = {"build", "client", "cluster", "container", "network", "root", "slow"}
SHELLS = ("sh", "bash", "shell", "console")
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# `cargo run` without the build: the same arguments, the binary that is there.
CARGO = f"""#!/bin/sh
set -e
[ "$1" = run ] || {{ echo "cargo $1: only 'cargo run' can be run here" >&2; exit 2; }}
shift
program={server.binary()}
while [ $# != 0 ]; do
    case $1 in
        --release) shift ;;
        --example) program={TARGET}/debug/examples/$2; shift 2 ;;
        --) shift; break ;;
        *) echo "cargo run $1: unknown here" >&2; exit 2 ;;
    esac
done
exec "$program" "$@"
"""


class Failed(Exception):
    """A command that does not do what the document says."""


class Place:
    """A page's folder, environment and server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = server.free_port()
        self.other_port = server.free_port()
        self.process: subprocess.Popen | None = None
        self.log = folder.parent / f"{folder.name}.log"
        tools = folder.parent / f"{folder.name}.bin"
        for place in (folder, tools):
            place.mkdir()
        for name in ("docs", "examples", "manifests", "tests"):
            (folder / name).symlink_to(ROOT / name)
        (tools / "mcp-image-server").symlink_to(server.binary())
        (tools / "cargo").write_text(CARGO)
        (tools / "cargo").chmod(stat.S_IRWXU)
        peers = Path(os.environ.get("DOCS_PEERS", ROOT / "target" / "peers"))
        (folder / "node_modules").symlink_to(peers / "node" / "node_modules")
        path = [tools, peers / "python" / "bin", peers / "node-runtime" / "node_modules" / ".bin"]
        self.environment = {
            "PATH": ":".join([*map(str, path), os.environ["PATH"]]),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "STORAGE_PATH": str(folder / "images"),
        }

    def here(self, text: str) -> str:
        """The text with this page's ports."""
        text = re.sub(r"\b(localhost|127\.0\.0\.1):8000\b", rf"\1:{self.port}", text)
        return re.sub(r"\b8900\b", str(self.other_port), text)

    def serve(self, script: str) -> None:
        """Starts the page's server and waits until it is ready."""
        self.stop()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.here(script)],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if server.ask(f"http://127.0.0.1:{self.port}/health/live", timeout=5).status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise Failed(f"the server does not answer: {self.log.read_text()[-1500:]}")

    def run(self, script: str) -> tuple[int, str]:
        """Runs a script to its end: its exit code, and all that it printed."""
        if self.process is None and ":8000" in script:
            self.serve("exec mcp-image-server")
        command = ["bash", "-euo", "pipefail", "-c", self.here(script)]
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed("does not end within 60 s") from error
        return done.returncode, done.stdout.decode(errors="replace")

    def stop(self) -> None:
        """Ends the server, and what its script started."""
        if self.process is None:
            return
        for how in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
                self.process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.process = None


def is_like(printed: str, expected: str) -> bool:
    """Whether the expected text is in what was printed; `…` is any text, space does not count."""
    rest = re.sub(r"\s+", "", printed)
    for piece in filter(None, re.sub(r"\s+", "", expected).split("…")):
        _, found, rest = rest.partition(piece)
        if not found:
            return False
    return True


def check_data(block: Block) -> None:
    """What can be checked of a block without running it."""
    if "file" in block.attributes:
        path = ROOT / block.attributes["file"]
        if not path.exists() or path.read_text() != block.text:
            raise Failed(f"is not what {block.attributes['file']} holds")
    if "…" in block.text or "..." in block.text or "output" in block.attributes:
        return
    try:
        if block.language == "json":
            json.loads(block.text)
        elif block.language in ("yaml", "yml"):
            list(yaml.safe_load_all(block.text))
    except (ValueError, yaml.YAMLError) as error:
        raise Failed(f"does not parse: {error}") from error


def run_page(page: Path, folder: Path) -> tuple[int, int]:
    """Runs a page's commands: how many ran, how many did not."""
    place, printed, ran, left = Place(folder), "", 0, 0
    block = None
    try:
        for block in blocks(page):
            check_data(block)
            attributes = block.attributes
            if "output" in attributes:
                if not is_like(printed, place.here(block.text)):
                    raise Failed(f"the block before printed something else:\n{printed[-3000:]}")
            elif "serve" in attributes:
                place.serve(block.text)
                ran += 1
            elif "run" in attributes:
                code, printed = place.run(block.text)
                if code != int(attributes.get("exit", 0)):
                    raise Failed(f"ends with {code}:\n{printed[-3000:]}")
                ran += 1
            elif block.language in SHELLS:
                if attributes.get("skip") not in REASONS:
                    raise Failed(f"says neither run, serve nor skip={'|'.join(sorted(REASONS))}")
                left += 1
    except Failed as failed:
        raise Failed(f"{block.where if block else page}: {failed}\n--    the server's log ends with\n{tail(place.log)}") from failed
    finally:
        place.stop()
    return ran, left


def tail(log: Path) -> str:
    """The end of a log, if there is one."""
    return log.read_text(errors="replace")[-800:] if log.exists() else "(none)"


def main() -> None:
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    scratch = Path(tempfile.mkdtemp())
    ran = left = 0
    try:
        for page in chosen:
            counts = run_page(page, scratch / page.relative_to(ROOT).as_posix().replace("/", "-"))
            if counts != (0, 0):
                print(f"ok    commands: {page.relative_to(ROOT)}: {counts[0]} run, {counts[1]} left out", flush=True)
            ran, left = ran + counts[0], left + counts[1]
    except Failed as failed:
        print(f"FAIL  commands: {failed}", flush=True)
        sys.exit(1)
    finally:
        shutil.rmtree(scratch)
    print(f"--    {ran} blocks of commands were run, {left} are not for this machine", flush=True)
    print(f"commands: {len(chosen)} passed, 0 failed", flush=True)


if __name__ == "__main__":
    main()
