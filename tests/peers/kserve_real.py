"""Peer: the real KServe server behind the server under test, through `generate_image`.

Usage: kserve_real.py --list KSERVE_URL    the scenarios, one a line: a name, a tab, settings of the server
       kserve_real.py SCENARIO BASE_URL    the checks of one scenario, against a server with its settings
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import Client

from checks import IN_FLIGHT, Checks, ask, check_stored, metric, post_json, until
from mcp_python import text_of

SMALL = {"width": 128, "height": 64, "num_inference_steps": 4}


async def draw(client: Client, prompt: str, **arguments: Any) -> Any:
    """One call of the tool."""
    return await client.call_tool("generate_image", {"prompt": prompt, **SMALL, **arguments})


async def succeeds(checks: Checks, client: Client, base: str, prompt: str = "a red fox", **arguments: Any) -> None:
    """The model's picture is stored and served."""
    result = await draw(client, prompt, **arguments)
    if checks.that(not result.is_error, f"{prompt!r} {arguments or ''}is drawn", text_of(result)):
        check_stored(checks, result.structured_content, base, 128, 64)
        metadata = (result.structured_content or {}).get("metadata", {})
        checks.equal(metadata.get("predictor"), "kserve-v1", "the metadata names the protocol")


async def fails(checks: Checks, client: Client, base: str, prompt: str, *words: str, **arguments: Any) -> None:
    """The call is a tool's error that says what to check, and nothing is stored."""
    stored = len((ask(f"{base}/images/").json() or {}).get("images", []))
    began = time.monotonic()
    result = await draw(client, prompt, **arguments)
    told = text_of(result)
    fine = result.is_error and all(word in told for word in words)
    checks.that(fine, f"{prompt!r}: an error that says {', '.join(words)}", (result.is_error, told))
    checks.that("http://" not in told and "Traceback" not in told, "the error shows no address and no trace", told)
    checks.that(time.monotonic() - began < 30, "the error comes within the deadline")
    now = len((ask(f"{base}/images/").json() or {}).get("images", []))
    checks.equal(now, stored, "nothing is stored")


async def stable(checks: Checks, client: Client, base: str) -> None:
    """A model that takes every argument: pictures, progress, exceptions, cancel, and REST."""
    await succeeds(checks, client, base)
    await succeeds(checks, client, base, negative_prompt="blur", seed=7, guidance_scale=3.5)
    await fails(checks, client, base, "a fox [oom]", "memory")
    await fails(checks, client, base, "a fox [crash]", "failed")
    answer = post_json(f"{base}/mcp/v1/tools/generate_image", {"prompt": "a fox [crash]", **SMALL})
    checks.that(answer.status in (500, 502), "REST answers a model's failure with a 5xx", (answer.status, answer.body))
    checks.equal(answer.type, "application/problem+json", "and with a problem document")
    await shows_progress(checks, client)
    await cancels(checks, client, base)
    await succeeds(checks, client, base, "a fox after all that")


async def shows_progress(checks: Checks, client: Client) -> None:
    """KServe tells no steps, so the progress is an estimate, and says so."""
    notes: list[tuple[float, str]] = []

    async def note(now: float, _total: float | None, message: str | None) -> None:
        notes.append((now, message or ""))

    arguments = {"prompt": "a slow fox [sleep:3]", **SMALL}
    result = await client.call_tool("generate_image", arguments, progress_callback=note)
    checks.that(not result.is_error, "a slow call succeeds", text_of(result))
    checks.that(len(notes) >= 2, "at least two progress notifications", notes)
    checks.that(all(a[0] < b[0] for a, b in zip(notes, notes[1:])), "progress only grows", notes)
    checks.that(any("estimate" in text.lower() for _, text in notes), "an estimate is labelled as one", notes)


async def cancels(checks: Checks, client: Client, base: str) -> None:
    """A cancelled call gives up its request upstream; the model itself goes on, as KServe's do."""
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            await draw(client, "a fox nobody waits for [sleep:4]")

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        began = await asyncio.to_thread(until, lambda: (metric(base, IN_FLIGHT) or 0) >= 1, 10)
        checks.that(began, f"{IN_FLIGHT} counts the call")
        scope.cancel()
    free = await asyncio.to_thread(until, lambda: metric(base, IN_FLIGHT) == 0, 2)
    checks.that(free, f"{IN_FLIGHT} is 0 within two seconds of the cancel")
    checks.equal(ask(f"{base}/health/ready").status, 200, "a model that is busy does not end readiness")


async def shape(checks: Checks, client: Client, base: str) -> None:
    """A model whose reply has another of the shapes that are about."""
    await succeeds(checks, client, base)


async def strict(checks: Checks, client: Client, base: str) -> None:
    """A model that refuses arguments it does not know: defaults are left out, what was asked for is told."""
    await succeeds(checks, client, base, "a strict fox")
    await fails(checks, client, base, "a strict fox", "negative_prompt", negative_prompt="blur")


async def omitted(checks: Checks, client: Client, base: str) -> None:
    """The same model, with those arguments left out by configuration."""
    await succeeds(checks, client, base, "a strict fox", negative_prompt="blur", guidance_scale=9)


async def loading(checks: Checks, client: Client, base: str) -> None:
    """A model that is there, but not ready: tried again, then told."""
    await fails(checks, client, base, "an early fox", "starting")
    checks.that((metric(base, "mcp_image_predictor_retries_total") or 0) >= 1, "it was tried again")


async def unknown(checks: Checks, client: Client, base: str) -> None:
    """A model that KServe does not have."""
    await fails(checks, client, base, "a fox", "nope", "KSERVE_MODEL_NAME")


async def down(checks: Checks, client: Client, base: str) -> None:
    """No KServe where it should be."""
    await fails(checks, client, base, "a fox", "cannot be reached")
    checks.equal(ask(f"{base}/health/live").status, 200, "the server itself lives on")


Scenario = tuple[Callable[[Checks, Client, str], Awaitable[None]], str]
SCENARIOS: dict[str, Scenario] = {
    # The endpoint in both of its forms: with the model's path, and as a base with the model's name beside it.
    "stable": (stable, "KSERVE_ENDPOINT={url}/v1/models/stable-diffusion"),
    "flat": (shape, "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=flat"),
    "pixels": (shape, "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=pixels"),
    "strict": (strict, "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=strict"),
    "omitted": (
        omitted,
        "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=strict KSERVE_OMIT_PARAMETERS=negative_prompt,guidance_scale",
    ),
    "loading": (loading, "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=loading"),
    "unknown": (unknown, "KSERVE_ENDPOINT={url} KSERVE_MODEL_NAME=nope"),
    # Port 9 is discard's: nothing listens there.
    "down": (down, "KSERVE_ENDPOINT=http://127.0.0.1:9 KSERVE_MODEL_NAME=stable-diffusion"),
}


async def run(name: str, base: str) -> None:
    """One scenario."""
    checks = Checks(f"kserve {name}")
    try:
        async with Client(f"{base}/mcp", read_timeout_seconds=60) as client:
            await SCENARIOS[name][0](checks, client, base)
    except Exception as error:  # a peer that breaks off is a failure that names its cause
        checks.that(False, "runs to its end", repr(error))
    checks.finish()


def main() -> None:
    """Lists the scenarios, or runs one."""
    if sys.argv[1] == "--list":
        for name, (_, settings) in SCENARIOS.items():
            print(name, settings.format(url=sys.argv[2]), sep="\t")
    else:
        asyncio.run(run(sys.argv[1], sys.argv[2].rstrip("/")))


if __name__ == "__main__":
    main()
