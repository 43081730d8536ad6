"""Peer: curl reads images whole, in parts and on condition; what it gets is compared to the stored bytes.

Usage: python curl_ranges.py BASE_URL IMAGES_FOLDER
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from checks import Checks, post_json

REST = "/mcp/v1/tools/generate_image"


@dataclass
class Got:
    """What curl says of one transfer."""

    exit_code: int
    status: int
    headers: dict[str, str]
    body: bytes


def curl(url: str, *arguments: str, into: Path | None = None) -> Got:
    """One run of curl; `into` is a file that may be there already."""
    with tempfile.TemporaryDirectory() as folder:
        body, head = into or Path(folder, "body"), Path(folder, "head")
        command = ["curl", "--silent", "--noproxy", "*", "--max-time", "60", "--dump-header", str(head), *arguments]
        done = subprocess.run([*command, "--output", str(body), url], check=False, capture_output=True)
        lines = head.read_text("latin-1").splitlines() if head.exists() else []
        status = int(lines[0].split()[1]) if lines else 0
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name}
        return Got(done.returncode, status, headers, body.read_bytes() if body.exists() else b"")


def break_off(url: str, file: Path) -> None:
    """A download that is ended once a first part of it is there: the rest has no room in the pipe."""
    command = ["curl", "--silent", "--noproxy", "*", "--max-time", "60", "--output", "-", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as download:
        file.write_bytes(download.stdout.read(100_000) if download.stdout else b"")
        download.kill()


def check_ranges(checks: Checks, url: str, stored: bytes) -> None:
    """Single ranges are parts, many ranges are the whole, and what lies beyond the end is 416."""
    size = len(stored)
    whole = curl(url)
    checks.equal((whole.status, whole.body == stored), (200, True), "the whole image is what is stored")
    for text, first, last in [
        ("0-", 0, size - 1),
        ("0-0", 0, 0),
        ("8-107", 8, 107),
        ("70000-", 70_000, size - 1),
        ("-500", size - 500, size - 1),
        (f"-{size + 1}", 0, size - 1),
        (f"{size - 1}-{size + 100}", size - 1, size - 1),
    ]:
        got = curl(url, "--range", text)
        checks.equal((got.status, got.body == stored[first : last + 1]), (206, True), f"--range {text}")
        checks.equal(got.headers.get("content-range"), f"bytes {first}-{last}/{size}", f"--range {text} says what it is")
    for text in ("0-9,20-29", "9-8", "a-b"):
        got = curl(url, "--header", f"Range: bytes={text}")
        checks.equal((got.status, got.body == stored), (200, True), f"Range: bytes={text} is the whole")
    got = curl(url, "--range", f"{size}-")
    expected = (416, f"bytes */{size}")
    checks.equal((got.status, got.headers.get("content-range")), expected, "a range after the end is 416, with the size")


def check_conditions(checks: Checks, url: str, stored: bytes) -> None:
    """Validators, as curl itself keeps and sends them, and by hand."""
    head = curl(url, "--head")
    tag, modified = head.headers["etag"], head.headers["last-modified"]
    checks.equal((head.exit_code, head.status), (0, 200), "--head")
    checks.equal(int(head.headers["content-length"]), len(stored), "--head tells the length")
    got = curl(url, "--head", "--range", "0-9")
    checks.equal(got.status, 200, "a range is for GET alone")
    for field, value, status in [
        ("If-None-Match", tag, 304),
        ("If-None-Match", f'"other", W/{tag}', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"other"', 200),
        ("If-Match", tag, 200),
        ("If-Match", '"other"', 412),
        ("If-Modified-Since", modified, 304),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
    ]:
        got = curl(url, "--header", f"{field}: {value}")
        shown = value.replace(tag, "TAG").replace(modified, "THEN")
        body = stored if status == 200 else b""
        holds = got.status == status and (got.body == body if status != 412 else got.body != stored)
        checks.that(holds, f"{field}: {shown} is {status}", (got.status, len(got.body)))
    for value, status in [(tag, 206), ('"other"', 200), (f"W/{tag}", 200), (modified, 206)]:
        got = curl(url, "--range", "5-9", "--header", f"If-Range: {value}")
        body = stored[5:10] if status == 206 else stored
        shown = value.replace(tag, "TAG").replace(modified, "THEN")
        checks.equal((got.status, got.body == body), (status, True), f"If-Range: {shown} is {status}")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "etag")
        first = curl(url, "--etag-save", str(kept))
        second = curl(url, "--etag-compare", str(kept))
        checks.equal((first.status, second.status), (200, 304), "--etag-save, --etag-compare")


def check_resume(checks: Checks, url: str, stored: bytes) -> None:
    """A download that broke off goes on where it was."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "image.png")
        for length in (1, 65_536, len(stored) - 1):
            file.write_bytes(stored[:length])
            got = curl(url, "--continue-at", "-", into=file)
            checks.equal((got.exit_code, got.status), (0, 206), f"-C - after {length} bytes goes on")
            checks.that(file.read_bytes() == stored, f"-C - after {length} bytes ends with the image")
        broken = Path(folder, "broken.png")
        break_off(url, broken)
        length = broken.stat().st_size
        checks.that(0 < length < len(stored), "a download is broken off", length)
        curl(url, "--continue-at", "-", into=broken)
        checks.that(broken.read_bytes() == stored, "and is whole in the end")
        whole = curl(url, "--continue-at", "-", into=file)
        checks.equal((whole.status, file.read_bytes() == stored), (416, True), "-C - with nothing left to come is 416")


def main() -> None:
    """All of it."""
    base, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    checks = Checks("curl")
    made = post_json(f"{base}{REST}", {"prompt": "a lighthouse", "width": 1024, "height": 1024}).json()
    url, name = made["url"], f"{made['image_id']}.png"
    stored = next(folder.rglob(f"*{name}")).read_bytes()
    checks.that(re.match(rb"\x89PNG", stored) and len(stored) > 300_000, "there is an image to read in parts", len(stored))
    check_ranges(checks, url, stored)
    check_conditions(checks, url, stored)
    check_resume(checks, url, stored)
    checks.finish()


if __name__ == "__main__":
    main()
