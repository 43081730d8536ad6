"""What the Python peers share: checks that are counted, and a plain view of the server over HTTP.

Every check prints one line that starts with `ok` or `FAIL`; `tests/run.sh` counts them.
"""

from __future__ import annotations

import http.client
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3
from PIL import Image

IN_FLIGHT = "mcp_image_generations_in_flight"


class Checks:
    """Counts what holds and what does not, for one peer."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.failed = 0

    def that(self, holds: Any, what: str, detail: Any = "") -> bool:
        """One check: `what` holds; `detail` is shown when it does not."""
        if holds:
            print(f"ok    {self.peer}: {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {self.peer}: {what}: {str(detail)[:600]!r}", flush=True)
        return bool(holds)

    def equal(self, got: Any, expected: Any, what: str) -> bool:
        """One check: `got` is `expected`."""
        return self.that(got == expected, what, f"got {got!r}, expected {expected!r}")

    def finish(self) -> None:
        """Ends the process, with 1 if a check failed."""
        sys.exit(1 if self.failed else 0)


@dataclass
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or `None`."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()


def ask(
    url: str,
    method: str = "GET",
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 60,
) -> Answer:
    """One request on a connection of its own; header names of the answer are in lower case."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=headers or {})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def post_json(url: str, value: Any, **headers: str) -> Answer:
    """Posts `value` as JSON; underscores in the names of `headers` stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return ask(url, "POST", body=json.dumps(value).encode(), headers={"content-type": "application/json", **named})


def metric(base: str, name: str) -> float | None:
    """The sum of a metric's series, or `None` where it has none."""
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in ask(f"{base}/metrics").body.decode().splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return sum(values) if values else None


def until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether `condition` comes true within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def check_stored(checks: Checks, structured: Any, base: str, width: int, height: int) -> None:
    """The URL's bytes are what the metadata says: length, hash, type, pixels."""
    structured = structured or {}
    url, metadata = str(structured.get("url")), structured.get("metadata") or {}
    if not checks.that(url.startswith(f"{base}/images/"), "url starts with the public base URL", url):
        return
    answer = ask(url)
    checks.equal(answer.status, 200, "GET of the url answers 200")
    checks.equal(len(answer.body), metadata.get("size_bytes"), "the url's bytes have the length in the metadata")
    checks.equal(
        blake3(answer.body).hexdigest(), metadata.get("blake3"), "the url's bytes have the hash in the metadata"
    )
    try:
        with Image.open(io.BytesIO(answer.body)) as image:
            image.load()
            size, media = image.size, Image.MIME.get(image.format or "")
    except Exception as error:  # whatever Pillow finds wrong with it, it is no image
        checks.that(False, "the url's bytes decode as an image", error)
        return
    checks.equal(size, (width, height), "the image has the pixels that were asked for")
    checks.equal(
        (metadata.get("width"), metadata.get("height")), (width, height), "the metadata has the image's pixels"
    )
    checks.equal(answer.type, media, "Content-Type is the image's own")
