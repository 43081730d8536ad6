"""Three replicas on one bucket, behind a round-robin proxy: whatever one has made, each serves.

    python tests/deploy/replicas.py

Runs the built server (SERVER_BINARY, or cargo's debug build) against the S3 server that S3_TEST_ENDPOINT and its like name,
as tests/peers/ceph.sh prints them, and a predictor that sleeps and answers. Needs the Python package `mcp`.
All of it is on one machine, so the figures that it prints say that nothing is lost, not how fast anything is.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import server
from blake3 import blake3
from checks import Checks
from fake_kserve import FakeKserve
from mcp import Client
from proxy import Proxy

GENERATE = "/mcp/v1/tools/generate_image"
READS_A_SECOND = 100
GENERATIONS_AT_ONCE = 8
checks = Checks("replicas")


def bucket(prefix: str) -> dict[str, str] | None:
    """The variables of an S3 server for tests, if there is one."""
    given = {name.removeprefix("S3_TEST_"): value for name, value in os.environ.items() if name.startswith("S3_TEST_")}
    if not given.keys() >= {"ENDPOINT", "BUCKET", "REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"}:
        return None
    return {
        "STORAGE_BACKEND": "s3",
        "S3_PREFIX": f"{prefix}-{os.getpid()}/",
        "S3_ENDPOINT_URL": given["ENDPOINT"],
        "S3_BUCKET": given["BUCKET"],
        "AWS_REGION": given["REGION"],
        "AWS_ACCESS_KEY_ID": given["ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": given["SECRET_ACCESS_KEY"],
    }


@dataclass
class Replica:
    """One server, at the same port each time it is started."""

    variables: dict[str, str]
    log: Path
    port: int = field(default_factory=server.free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def base(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        own = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                server.binary(), env=server.BARE | self.variables | own, cwd="/", stdout=log, stderr=log
            )
        for _ in range(400):
            if self.process.returncode is not None:
                break
            try:
                if (await ask(f"{self.base}/health/ready")).status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.05)
        raise RuntimeError(f"a replica does not start: {self.log.read_text(errors='replace')[-1500:]}")

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Ends it by a signal: its exit code."""
        if self.process is None or self.process.returncode is not None:
            return None
        self.process.send_signal(how)
        return await asyncio.wait_for(self.process.wait(), 60)


async def ask(url: str, value: Any = None, method: str = "") -> server.Answer:
    """One request on a connection of its own. An answer that is cut short is an OSError."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        body = b"" if value is None else json.dumps(value).encode()
        method = method or ("GET" if value is None else "POST")
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [f"{method} {target} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
        if value is not None:
            head += ["content-type: application/json", f"content-length: {len(body)}"]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        try:
            head_bytes = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("no answer") from error
        first, *lines = head_bytes.decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.read()
        if "content-length" in headers and len(content) != int(headers["content-length"]) and method != "HEAD":
            raise ConnectionError(f"{len(content)} of {headers['content-length']} bytes")
        return server.Answer(int(first.split()[1]), headers, content)
    finally:
        writer.close()


async def draw(base: str, prompt: str) -> dict:
    """Draws over REST; an answer other than 200 is an OSError."""
    answer = await ask(base + GENERATE, {"prompt": prompt, "width": 256, "height": 256})
    if answer.status != 200:
        raise ConnectionError(f"{answer.status} {answer.body[:200]!r}")
    return answer.json()


async def is_whole(url: str, image: dict) -> bool:
    """Whether the image is served with the bytes that it was acknowledged with."""
    try:
        answer = await ask(url)
    except OSError:
        return False
    return answer.status == 200 and blake3(answer.body).hexdigest() == image["metadata"]["blake3"]


async def everywhere(replicas: list[Replica], images: list[dict]) -> list[str]:
    """Which images some replica does not serve whole."""
    missing = []
    for image in images:
        for replica in replicas:
            if not await is_whole(replica.base + urlsplit(image["url"]).path, image):
                missing.append(f"{image['image_id']} at {replica.port}")
    return missing


async def check_functions(proxy: Proxy, replicas: list[Replica]) -> list[dict]:
    """MCP in both eras, REST, URLs, the page and the list, over all replicas."""
    images = [await draw(proxy.base, f"rest {number}") for number in range(6)]
    for mode in ("auto", "legacy"):
        async with Client(f"{proxy.base}/mcp", mode=mode, read_timeout_seconds=60) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            results = [
                await client.call_tool("generate_image", {"prompt": f"{mode} {number}", "width": 256, "height": 256})
                for number in range(6)
            ]
            version = client.protocol_version
        drawn = [result.structured_content for result in results if not result.is_error]
        checks.equal((names, len(drawn)), (["generate_image"], 6), f"MCP {version} ({mode}): six calls over all replicas")
        images += drawn
    checks.that(all(proxy.sent[replica.port] for replica in replicas), "each replica got requests", proxy.sent)
    checks.that(all(image["url"].startswith(proxy.base) for image in images), "URLs are the proxy's")
    checks.none(await everywhere(replicas, images), f"each replica serves all {len(images)} images whole")

    pages = {(await ask(f"{replica.base}/")).body for replica in replicas}
    checks.equal(len(pages), 1, "the gallery page is the same everywhere")
    wanted = {image["image_id"] for image in images}
    for replica in replicas:
        listed = (await ask(f"{replica.base}/images/?limit=100")).json()["images"]
        checks.equal({image["image_id"] for image in listed}, wanted, f"replica {replica.port} lists what all have made")
    previews = [await ask(image["preview_url"]) for image in listed[:3]]
    checks.equal([answer.status for answer in previews], [200] * 3, "the gallery's previews are served")

    gone = images.pop()
    path = urlsplit(gone["url"]).path
    deleted = (await ask(replicas[0].base + path, method="DELETE")).status
    await asyncio.sleep(5.5)  # the longest that another replica's memory may have it
    statuses = [(await ask(replica.base + path)).status for replica in replicas]
    checks.equal((deleted, statuses), (204, [404] * 3), "what one deletes is gone everywhere within 5 s")
    return images


@dataclass
class Load:
    """Readers and drawers, and what became of their requests."""

    proxy: Proxy
    images: list[dict]
    reads: int = 0
    late: list[float] = field(default_factory=list)
    drawn: list[dict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    running: bool = True
    in_flight: list[int] = field(default_factory=list)
    drawing: int = 0
    seconds: float = 0.0

    async def read(self, image: dict) -> None:
        """One reader's request."""
        began = time.monotonic()
        if not await is_whole(image["url"], image):
            self.failures.append(f"read {image['image_id']} at {time.strftime('%X')}")
        self.late.append(time.monotonic() - began)
        self.reads += 1

    async def readers(self) -> None:
        """So many reads a second, whether the earlier ones are answered or not."""
        began, number, tasks = time.monotonic(), 0, set()
        while self.running:
            due = began + number / READS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self.read(self.images[number % len(self.images)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            self.in_flight.append(self.drawing)
            number += 1
        self.seconds = time.monotonic() - began
        await asyncio.gather(*tasks)

    async def drawer(self, name: int) -> None:
        """One generation after the other."""
        number = 0
        while self.running:
            self.drawing += 1
            try:
                self.drawn.append(await draw(self.proxy.base, f"load {name} {number} [sleep:1]"))
            except OSError as error:
                self.failures.append(f"generation: {error}")
            self.drawing -= 1
            number += 1

    async def __aenter__(self) -> Load:
        self.tasks = [asyncio.create_task(self.readers())]
        self.tasks += [asyncio.create_task(self.drawer(name)) for name in range(GENERATIONS_AT_ONCE)]
        await asyncio.sleep(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running = False
        await asyncio.gather(*self.tasks)

    def figures(self) -> str:
        """What it was, in a line."""
        at = statistics.quantiles(self.late, n=100)
        return (
            f"{self.seconds:.0f} s, {self.reads} reads ({self.reads / self.seconds:.0f}/s, median {at[49] * 1000:.0f} ms, "
            f"99 % within {at[98] * 1000:.0f} ms), {len(self.drawn)} generations, "
            f"{statistics.median(self.in_flight):.0f} in flight at the median; {len(self.failures)} failed"
        )


async def check_rolling(proxy: Proxy, replicas: list[Replica], images: list[dict]) -> list[dict]:
    """A rolling restart under load drops no request."""
    async with Load(proxy, images) as load:
        codes = []
        for replica in replicas:
            codes.append(await replica.end())
            await replica.start()
            while not proxy.ready[replica.port]:
                await asyncio.sleep(0.05)
    print(f"--    rolling restart: {load.figures()}", flush=True)
    checks.equal(codes, [0, 0, 0], "each replica ends with 0")
    if load.reads < 0.9 * READS_A_SECOND * load.seconds:
        checks.skip(f"{READS_A_SECOND} reads a second", f"this machine is too busy to ask so often: {load.figures()}")
    checks.equal(statistics.median(load.in_flight), GENERATIONS_AT_ONCE, f"{GENERATIONS_AT_ONCE} generations in flight")
    checks.none(load.failures, "a rolling restart drops no request")
    checks.none(await everywhere(replicas, load.drawn), "each replica serves all that was drawn meanwhile")
    return load.drawn


async def check_kill(proxy: Proxy, kserve: FakeKserve, replicas: list[Replica], images: list[dict]) -> None:
    """A replica that is killed loses nothing that was acknowledged."""
    victim = replicas[1]
    async with Load(proxy, images) as load:
        await asyncio.sleep(1.5)
        # Of the load's generations the victim has as many as the turns leave it, at times none. This one is its own.
        cut = asyncio.create_task(draw(victim.base, "in flight at the kill [sleep:5]"))
        while not cut.done() and not any("at the kill" in seen["prompt"] for seen in kserve.seen):
            await asyncio.sleep(0.01)
        await victim.end(signal.SIGKILL)
        await asyncio.sleep(3)
    broken = [each for each in load.failures if each.startswith("generation")]
    print(f"--    kill -9: {load.figures()}, {len(broken)} of these generations", flush=True)
    (ended,) = await asyncio.gather(cut, return_exceptions=True)
    checks.that(isinstance(ended, OSError), "the kill broke a generation in flight", ended)
    left = [replica for replica in replicas if replica is not victim]
    acknowledged = images + load.drawn
    checks.none(await everywhere(left, acknowledged), f"all {len(acknowledged)} acknowledged images are served by the others")
    listed = (await ask(f"{left[0].base}/images/?limit=1000")).json()["images"]
    as_metadata = [{"image_id": each["image_id"], "url": each["url"], "metadata": each} for each in listed]
    checks.none(await everywhere(left[:1], as_metadata), f"each of {len(listed)} listed images is whole: none is half there")
    await victim.start()
    checks.none(await everywhere([victim], acknowledged), "the killed replica, started again, serves them, too")


async def check_cleaning(scratch: Path, predictor: dict[str, str]) -> None:
    """Three cleaners on one bucket remove each image, and none fails."""
    given = (bucket("clean") or {}) | predictor | {"IMAGE_TTL": "3", "IMAGE_CLEANUP_INTERVAL": "1"}
    replicas = [Replica(given, scratch / f"clean{number}.log") for number in range(3)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        images = [await draw(replicas[number % 3].base, f"clean {number}") for number in range(12)]

        async def counted(name: str) -> list[float]:
            texts = [(await ask(f"{replica.base}/metrics")).body.decode() for replica in replicas]
            return [sum(map(float, re.findall(rf"^mcp_image_cleaner_{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M))) for text in texts]

        # All are due after this, and for longer than a cycle leaves an image that is due. Of two cycles that end from now
        # on, the second began when all were.
        await asyncio.sleep(3.2)
        before = await counted("runs_total")
        for _ in range(100):
            runs = await counted("runs_total")
            if all(now >= then + 2 for now, then in zip(runs, before, strict=True)):
                break
            await asyncio.sleep(0.2)
        removed = sum(await counted("removed_images_total"))
        failed = await counted("failed_images_total")
        # A bucket tells each who asks that an object is deleted: cleaners that sweep at the same moment both count it.
        checks.equal(12 <= removed <= 36, True, f"three cleaners together remove each of 12 images ({removed:.0f} counted)")
        checks.equal(sum(failed), 0, "and fail at none")
        statuses = {(await ask(replica.base + urlsplit(image["url"]).path)).status for image in images for replica in replicas}
        checks.equal(statuses, {404}, "what has expired is 404 everywhere")
        left = await asyncio.to_thread(server.run, ["clean", "--json"], given)
        counts = json.loads(left.stdout)
        checks.equal((counts["removed"], counts["failed"]), (0, 0), "nothing is left in the bucket")
    finally:
        await asyncio.gather(*(replica.end(signal.SIGKILL) for replica in replicas))


async def run(scratch: Path) -> None:
    """All of it."""
    with FakeKserve() as kserve:
        predictor = {
            "KSERVE_ENDPOINT": f"{kserve.base}/v1/models/stable-diffusion",
            "GENERATION_CONCURRENCY": str(GENERATIONS_AT_ONCE),
        }
        # The proxy asks every 0.2 s, so a second is long enough for it to notice.
        given = (bucket("replicas") or {}) | predictor | {"SHUTDOWN_DELAY": "1", "SHUTDOWN_GRACE": "25"}
        replicas = [Replica(given, scratch / f"replica{number}.log") for number in range(3)]
        async with Proxy([replica.port for replica in replicas]) as proxy:
            given["PUBLIC_BASE_URL"] = proxy.base
            try:
                await asyncio.gather(*(replica.start() for replica in replicas))
                while not all(proxy.ready.values()):
                    await asyncio.sleep(0.05)
                images = await check_functions(proxy, replicas)
                images += await check_rolling(proxy, replicas, images)
                await check_kill(proxy, kserve, replicas, images)
            finally:
                await asyncio.gather(*(replica.end(signal.SIGKILL) for replica in replicas))
        await check_cleaning(scratch, predictor)


def main() -> None:
    if bucket("") is None:
        checks.skip("all of it", "there is no S3 server: S3_TEST_ENDPOINT and its like are not set")
        checks.finish()
    with tempfile.TemporaryDirectory() as folder:
        try:
            asyncio.run(run(Path(folder)))
        except RuntimeError as error:
            checks.that(False, "comes to its end", error)
    checks.finish()


if __name__ == "__main__":
    main()
