"""Peer: the Python MCP client, in both eras of the protocol.

Usage: mcp_python.py BASE_URL
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import time
from typing import Any

import anyio
from mcp import Client
from PIL import Image

from checks import IN_FLIGHT, Checks, check_stored, metric, until

MODERN = "2026-07-28"
RANGES = {
    "width": {"minimum": 64, "maximum": 2048, "multipleOf": 8, "default": 512},
    "height": {"minimum": 64, "maximum": 2048, "multipleOf": 8, "default": 512},
    "num_inference_steps": {"minimum": 1, "maximum": 200, "default": 50},
    "guidance_scale": {"minimum": 1.0, "maximum": 20.0, "default": 7.5},
    "seed": {"minimum": 0, "maximum": 2**32 - 1},
    "prompt": {"minLength": 1, "maxLength": 10_000},
}
# Arguments that are not allowed, and what the error has to name.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["prompt"]),
    ({"prompt": ""}, ["prompt"]),
    ({"prompt": "a\0b"}, ["prompt"]),
    ({"prompt": 7}, ["prompt", "7"]),
    ({"prompt": "a fox", "width": 100}, ["width", "100", "8"]),
    ({"prompt": "a fox", "height": 4096}, ["height", "4096", "2048"]),
    ({"prompt": "a fox", "width": "512"}, ["width", "512"]),
    ({"prompt": "a fox", "num_inference_steps": 0}, ["num_inference_steps", "0"]),
    ({"prompt": "a fox", "guidance_scale": 20.5}, ["guidance_scale", "20.5"]),
    ({"prompt": "a fox", "seed": -1}, ["seed", "-1"]),
    ({"prompt": "a fox", "widht": 512}, ["widht", "width"]),
]


def text_of(result: Any) -> str:
    """The text parts of a tool's result."""
    return "\n".join(part.text for part in result.content if part.type == "text")


async def check_tools(checks: Checks, client: Client) -> None:
    """The tool is listed with a schema that a model can fill in."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    if not checks.that("generate_image" in tools, "tools/list has generate_image", list(tools)):
        return
    tool = tools["generate_image"]
    schema = tool.input_schema
    checks.equal(schema.get("required"), ["prompt"], "only prompt is required")
    checks.equal(schema.get("additionalProperties"), False, "other arguments are not allowed")
    for name, expected in RANGES.items():
        found = schema["properties"].get(name, {})
        checks.equal({key: found.get(key) for key in expected}, expected, f"schema of {name} has its range")
    checks.that(
        all(isinstance(part.get("type"), str) and "format" not in part for part in schema["properties"].values()),
        "each argument has one plain JSON type",
        schema,
    )
    checks.that(tool.output_schema, "the tool has an output schema")
    checks.that(tool.description and (tool.title or (tool.annotations and tool.annotations.title)), "title, description")


async def check_call(checks: Checks, client: Client, base: str) -> None:
    """A call tells its progress and answers in the documented shape."""
    progress: list[float] = []

    async def note(now: float, _total: float | None, _message: str | None) -> None:
        progress.append(now)

    # Large enough to take longer than the shortest time between two notifications.
    arguments = {"prompt": "a red fox at dawn", "width": 1536, "height": 1024, "num_inference_steps": 120, "seed": 7}
    result = await client.call_tool("generate_image", arguments, progress_callback=note)
    if not checks.that(not result.is_error, "a call succeeds", text_of(result)):
        return
    checks.that(len(progress) >= 2, "at least two progress notifications", progress)
    checks.that(all(a < b for a, b in zip(progress, progress[1:])), "progress only grows", progress)
    structured = result.structured_content or {}
    checks.equal(set(structured), {"url", "image_id", "metadata"}, "structuredContent has url, image_id, metadata")
    check_stored(checks, structured, base, 1536, 1024)
    metadata = structured.get("metadata", {})
    checks.equal(
        (metadata.get("prompt"), metadata.get("seed"), metadata.get("num_inference_steps")),
        ("a red fox at dawn", 7, 120),
        "the metadata repeats the request",
    )
    checks.equal([part.type for part in result.content], ["text", "image", "resource_link"], "text, preview, link")
    checks.that(str(structured.get("url")) in text_of(result), "the text has the url", text_of(result))
    check_parts(checks, result, structured)


def check_parts(checks: Checks, result: Any, structured: dict[str, Any]) -> None:
    """The preview is small and decodes; the link is the full image."""
    parts = {part.type: part for part in result.content}
    if preview := parts.get("image"):
        data = base64.b64decode(preview.data, validate=True)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            checks.equal(preview.mime_type, Image.MIME[image.format or ""], "the preview's type is its own")
        checks.that(len(data) <= 90_000, "the preview has at most 90 kB", len(data))
    if link := parts.get("resource_link"):
        checks.equal(str(link.uri), structured.get("url"), "the link is the url")
        checks.equal(link.size, structured.get("metadata", {}).get("size_bytes"), "the link has the image's size")
        checks.that((link.mime_type or "").startswith("image/"), "the link has the image's type", link.mime_type)


async def check_refused(checks: Checks, client: Client) -> None:
    """Arguments that are not allowed are told by name, as a tool's error."""
    for arguments, names in REFUSED:
        result = await client.call_tool("generate_image", arguments)
        told = text_of(result)
        fine = result.is_error and all(name in told for name in names)
        checks.that(fine, f"{arguments} is refused by name", (result.is_error, told))


async def check_many(checks: Checks, client: Client) -> None:
    """Calls at once get an image each."""
    results: list[Any] = []

    async def one(index: int) -> None:
        arguments = {"prompt": f"tile {index}", "width": 64, "height": 64, "num_inference_steps": 2, "seed": index}
        results.append(await client.call_tool("generate_image", arguments))

    async with anyio.create_task_group() as group:
        for index in range(12):
            group.start_soon(one, index)
    found = [(result.structured_content or {}) for result in results if not result.is_error]
    checks.equal(len({each.get("image_id") for each in found}), 12, "12 calls at once: 12 images")
    pairs = {(each.get("metadata", {}).get("prompt"), each.get("metadata", {}).get("seed")) for each in found}
    checks.equal(pairs, {(f"tile {index}", index) for index in range(12)}, "each call got the image it asked for")


async def cancel_call(checks: Checks, client: Client, base: str) -> None:
    """Starts a call that takes long, and cancels it once the server works on it."""
    ended = anyio.Event()

    async def call(scope: anyio.CancelScope) -> None:
        try:
            with scope:
                big = {"prompt": "a slow mountain", "width": 2048, "height": 2048, "num_inference_steps": 200}
                await client.call_tool("generate_image", big)
        finally:
            ended.set()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(call, scope)
        began = await asyncio.to_thread(until, lambda: (metric(base, IN_FLIGHT) or 0) >= 1, 10)
        checks.that(began and not ended.is_set(), f"{IN_FLIGHT} counts the call while it runs")
        scope.cancel()
        start = time.monotonic()
        with anyio.move_on_after(10):
            await ended.wait()
        checks.that(time.monotonic() - start < 2, "a cancelled call ends within two seconds")


async def leave_call(client: Client, base: str) -> None:
    """Starts a call that takes long, and gives it up with the connection: the caller closes the client after this."""
    big = {"prompt": "a slow valley", "width": 2048, "height": 2048, "num_inference_steps": 200}
    call = asyncio.ensure_future(client.call_tool("generate_image", big))
    call.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.to_thread(until, lambda: (metric(base, IN_FLIGHT) or 0) >= 1, 10)


async def idle(checks: Checks, base: str, what: str) -> None:
    """The server has let go of everything within two seconds."""
    free = await asyncio.to_thread(until, lambda: metric(base, IN_FLIGHT) == 0, 2)
    checks.that(free, f"{what}: {IN_FLIGHT} is 0 within two seconds", metric(base, IN_FLIGHT))


async def run(base: str, mode: str, checks: Checks) -> None:
    """All checks in one era: a cancel is the end of the stream in the modern one, a notification in the legacy one."""
    async with Client(f"{base}/mcp", mode=mode, read_timeout_seconds=120) as client:
        print(f"      {checks.peer}: negotiated {client.protocol_version}", flush=True)
        is_modern = client.protocol_version == MODERN
        checks.equal(is_modern, mode != "legacy", f"mode {mode} negotiates its era")
        await check_tools(checks, client)
        await check_call(checks, client, base)
        await check_refused(checks, client)
        await check_many(checks, client)
        await cancel_call(checks, client, base)
        await idle(checks, base, "cancel reaches the server")
        checks.that((await client.list_tools(cache_mode="refresh")).tools, "the client goes on after a cancel")
        await leave_call(client, base)
    await idle(checks, base, "after the client has gone")


def main() -> None:
    """Both eras, one after the other."""
    base = sys.argv[1].rstrip("/")
    failed = 0
    for mode in ("auto", "legacy"):
        checks = Checks(f"python mcp ({mode})")
        try:
            asyncio.run(run(base, mode, checks))
        except Exception as error:  # a peer that breaks off is a failure that names its cause
            checks.that(False, "runs to its end", repr(error))
        failed += checks.failed
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
