"""MCP over Streamable HTTP, as little of it as the deployment's checks need."""

from __future__ import annotations

import json
from typing import Any

from server import ask

HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def call(base: str, method: str, params: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The result of one JSON-RPC request to /mcp; ValueError with the answer if there is none."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = ask(f"{base}/mcp", request, HEADERS | (headers or {}))
    # Plain, or the last of the server-sent events.
    text = answer.body.decode()
    data = [line[5:] for line in text.splitlines() if line.startswith("data:") and "{" in line]
    try:
        return json.loads(data[-1] if data else text)["result"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{method}: {answer.status}: {text[:500]}") from error


def draw(base: str, prompt: str, headers: dict[str, str] | None = None, **arguments: Any) -> dict[str, Any]:
    """What the tool generate_image gives for a prompt; ValueError if it is an error."""
    given = {"prompt": prompt, **arguments}
    result = call(base, "tools/call", {"name": "generate_image", "arguments": given}, headers)
    if result.get("isError"):
        raise ValueError(f"generate_image: {result}")
    return result["structuredContent"]
