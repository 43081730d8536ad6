"""Peer: plain HTTP, without an MCP client: REST, images, list, health, metrics, and who may ask.

Usage: http_plain.py BASE_URL
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from typing import Any
from urllib.parse import urlsplit

from checks import Answer, Checks, ask, check_stored, post_json

REST = "/mcp/v1/tools/generate_image"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": " "}, "prompt"),
    ({"prompt": "a fox", "width": 100}, "width"),
    ({"prompt": "a fox", "height": 2056}, "height"),
    ({"prompt": "a fox", "num_inference_steps": 1.5}, "num_inference_steps"),
    ({"prompt": "a fox", "guidance_scale": "7"}, "guidance_scale"),
    ({"prompt": "a fox", "seed": -1}, "seed"),
    ({"prompt": "a fox", "sede": 1}, "sede"),
]


def check_problem(checks: Checks, answer: Answer, statuses: set[int], what: str) -> None:
    """The answer is a problem document (RFC 9457) with one of `statuses`."""
    problem = answer.json() or {}
    fine = (
        answer.status in statuses
        and answer.type == "application/problem+json"
        and problem.get("status") == answer.status
        and isinstance(problem.get("type"), str)
        and isinstance(problem.get("title"), str)
    )
    checks.that(fine, f"{what}: a problem document with {sorted(statuses)}", (answer.status, answer.type, answer.body))


def check_rest(checks: Checks, base: str) -> dict[str, Any]:
    """REST takes the tool's arguments and goes through the same pipeline."""
    wanted = {"prompt": "a harbour at night", "width": 320, "height": 192, "num_inference_steps": 8, "seed": 5}
    answer = post_json(f"{base}{REST}", wanted)
    made = answer.json() or {}
    checks.that(answer.status in (200, 201), "REST makes an image", (answer.status, answer.body))
    checks.equal(set(made), {"url", "image_id", "metadata"}, "REST answers url, image_id, metadata")
    check_stored(checks, made, base, 320, 192)
    for arguments, field in REFUSED:
        answer = post_json(f"{base}{REST}", arguments)
        check_problem(checks, answer, {400, 422}, f"REST with {arguments}")
        checks.that(field in answer.body.decode(), f"REST with {arguments} names {field}", answer.body)
    for body, type_, statuses, what in [
        (b'{"prompt": ', "application/json", {400}, "malformed JSON"),
        (b"[1]", "application/json", {400, 422}, "JSON that is no object"),
        (b'{"prompt": "\xff"}', "application/json", {400}, "JSON that is not UTF-8"),
        (b"prompt=a+fox", "application/x-www-form-urlencoded", {415}, "a form"),
        (b'{"prompt": "' + b"x" * 8_000_000 + b'"}', "application/json", {413}, "8 MB of body"),
    ]:
        answer = refused_early(f"{base}{REST}", body, type_)
        check_problem(checks, answer, statuses, f"REST with {what}")
    answer = ask(f"{base}{REST}")
    checks.that(answer.status == 405 and "POST" in answer.headers.get("allow", ""), "GET of REST is 405 with Allow")
    check_problem(checks, ask(f"{base}/nothing/here"), {404}, "an unknown path")
    return made


def refused_early(url: str, body: bytes, type_: str) -> Answer:
    """A POST whose answer may come, and the connection end, before the body was taken."""
    import socket

    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: {type_}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        try:
            connection.sendall(head.encode() + body)
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
    head_text, _, rest = received.partition(b"\r\n\r\n")
    lines = head_text.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(status, headers, rest)


def check_images(checks: Checks, base: str, made: dict[str, Any]) -> None:
    """Delivery: validators, HEAD, freshness, and no id that is not one of ours."""
    url, image_id, metadata = made["url"], made["image_id"], made["metadata"]
    whole = ask(url)
    bare = ask(f"{base}/images/{image_id}")
    checks.equal((bare.status, bare.body), (200, whole.body), "the id without extension gives the same bytes")
    tag = whole.headers.get("etag", "")
    checks.that(re.fullmatch(r'"[^"]+"', tag), "ETag is strong", tag)
    for sent in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = ask(url, headers={"if-none-match": sent})
        checks.equal((answer.status, answer.body), (304, b""), f"If-None-Match: {sent.replace(tag, 'TAG')} is 304")
        checks.equal(answer.headers.get("etag"), tag, "304 repeats the ETag")
    checks.equal(ask(url, headers={"if-none-match": '"other"'}).status, 200, "another ETag is 200")
    part = ask(url, headers={"range": "bytes=8-107"})
    checks.equal((part.status, part.body), (206, whole.body[8:108]), "a range gives that part alone")
    head = ask(url, "HEAD")
    checks.equal((head.status, head.body), (200, b""), "HEAD has no body")
    for name in ("content-type", "content-length", "etag", "cache-control"):
        checks.equal(head.headers.get(name), whole.headers.get(name), f"HEAD has GET's {name}")
    checks.equal(int(whole.headers.get("content-length", -1)), metadata["size_bytes"], "Content-Length is there")
    age = re.search(r"max-age=(\d+)", whole.headers.get("cache-control", ""))
    checks.that(age and 0 < int(age[1]) <= 3600, "Cache-Control stays within the TTL", whole.headers)
    checks.equal(whole.headers.get("x-content-type-options"), "nosniff", "nosniff is set")
    checks.that("content-security-policy" in whole.headers, "a content security policy is set")
    for name in (str(uuid.uuid4()), f"{uuid.uuid4()}.png", "nonsense", "..%2f..%2fetc%2fpasswd", f"{image_id}.json"):
        answer = ask(f"{base}/images/{name}")
        shown = name.replace(image_id, "ID") if image_id in name else name if "-" not in name else "UNKNOWN"
        checks.that(answer.status in (400, 404), f"/images/{shown} is not there", (answer.status, answer.body))


def check_list(checks: Checks, base: str, made: dict[str, Any]) -> None:
    """Loopback may list and delete."""
    for index in range(3):
        post_json(f"{base}{REST}", {"prompt": f"list {index}", "width": 64, "height": 64, "num_inference_steps": 1})
    answer = ask(f"{base}/images/?limit=2")
    page = answer.json() or {}
    checks.equal(answer.status, 200, "the list answers 200")
    images = page.get("images", [])
    checks.equal(len(images), 2, "limit=2 gives two images")
    checks.that(all("image_id" in each and "url" in each for each in images), "each has image_id and url", images)
    ids = [each.get("image_id") for each in images]
    checks.equal(ids, sorted(ids, reverse=True), "newest first")
    cursor = page.get("next_cursor") or page.get("cursor")
    seen = list(ids)
    for _ in range(20):
        if not cursor:
            break
        page = ask(f"{base}/images/?limit=2&cursor={cursor}").json() or {}
        seen += [each.get("image_id") for each in page.get("images", [])]
        cursor = page.get("next_cursor") or page.get("cursor")
    checks.equal(len(seen), len(set(seen)), "the cursor shows no image twice")
    checks.that(made["image_id"] in seen, "the cursor comes to every image", seen)
    checks.that(ask(f"{base}/images/?limit=0").status in (400, 422), "limit=0 is refused")
    checks.equal(ask(made["url"], "DELETE").status in (200, 204), True, "DELETE answers 204")
    checks.equal(ask(made["url"]).status, 404, "a deleted image is 404")


def check_health(checks: Checks, base: str) -> None:
    """Probes and Prometheus are answered, whatever Host they name."""
    health = ask(f"{base}/health", headers={"host": "10.0.0.7:8000"})
    told = health.json() or {}
    checks.equal(health.status, 200, "/health answers any Host")
    for key in ("status", "version", "predictor", "storage"):
        checks.that(key in told, f"/health has {key}", told)
    checks.that("embedded" in json.dumps(told.get("predictor")), "/health names the embedded predictor", told)
    for path in ("/health/live", "/health/ready"):
        checks.equal(ask(f"{base}{path}").status, 200, f"{path} answers 200")
    metrics = ask(f"{base}/metrics", headers={"host": "10.0.0.7:8000"})
    checks.equal((metrics.status, metrics.type), (200, "text/plain"), "/metrics answers any Host")
    text = metrics.body.decode()
    kinds = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    helped = set(re.findall(r"^# HELP (\S+)", text, re.M))
    ours = {name for name in kinds if name.startswith("mcp_image_")}
    checks.that(len(ours) >= 5, "the server's own metrics are there", sorted(kinds))
    checks.equal(kinds - helped, set(), "each metric has a help text")


def rpc(base: str, method: str, params: dict[str, Any], **headers: str) -> Answer:
    """One JSON-RPC request in the legacy manner."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return post_json(f"{base}/mcp", body, accept="application/json, text/event-stream", **headers)


def check_mcp(checks: Checks, base: str) -> None:
    """Each protocol version is answered in its own, and who may not ask is turned away."""
    client = {"capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
        answer = rpc(base, "initialize", {"protocolVersion": version, **client})
        result = (answer.json() or {}).get("result", {})
        checks.equal(result.get("protocolVersion"), version, f"initialize at {version} is answered at {version}")
        answer = rpc(base, "tools/list", {}, mcp_protocol_version=version)
        names = [tool["name"] for tool in (answer.json() or {}).get("result", {}).get("tools", [])]
        checks.that("generate_image" in names, f"tools/list at {version} needs no session", answer.body)
    host = urlsplit(base).netloc
    for headers, what in [
        ({"host": "evil.example"}, "a foreign Host"),
        ({"host": host, "origin": "http://evil.example"}, "a foreign Origin"),
        ({"host": host, "origin": "null"}, "Origin: null"),
    ]:
        for path in ("/mcp", REST):
            answer = post_json(f"{base}{path}", {"prompt": "a fox"}, **headers)
            checks.that(answer.status in (400, 403, 421), f"{path} turns away {what}", (answer.status, answer.body))
    accepts = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    answer = ask(f"{base}/mcp", "POST", body=b"{", headers=accepts)
    told = (answer.json() or {}).get("error", {})
    checks.equal((answer.status, told.get("code")), (400, -32700), "malformed JSON on /mcp is a parse error")


def main() -> None:
    """All of it."""
    base = sys.argv[1].rstrip("/")
    checks = Checks("plain HTTP")
    check_health(checks, base)
    check_mcp(checks, base)
    made = check_rest(checks, base)
    if {"url", "image_id", "metadata"} <= set(made):
        check_images(checks, base, made)
        check_list(checks, base, made)
    checks.finish()


if __name__ == "__main__":
    main()
