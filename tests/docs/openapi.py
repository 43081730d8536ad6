"""Holds docs/openapi.yaml against the running server.

Each status that the document describes is provoked, but those with `x-not-provoked`. Every answer has to be described,
with its media type, its headers and each of its fields; every field that is described has to be seen.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import openapi_spec_validator
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "deploy"))

import server  # noqa: E402
from checks import Checks  # noqa: E402
from fake_kserve import FakeKserve  # noqa: E402

GENERATE = "/mcp/v1/tools/generate_image"
JSON = {"content-type": "application/json"}
TINY = {"prompt": "a fox", "width": 64, "height": 64, "num_inference_steps": 2}
# What HTTP itself and the server's library add to any answer.
EVERYWHERE = {"content-type", "content-length", "date", "connection", "transfer-encoding"}

checks = Checks("openapi")


@dataclass
class Seen:
    """What has been provoked so far."""

    answers: set[tuple[str, str, str]] = field(default_factory=set)
    fields: dict[str, set[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Document:
    """The OpenAPI document, with its references resolved as they are met."""

    def __init__(self, path: Path) -> None:
        self.root = yaml.safe_load(path.read_text())
        self.seen = Seen()
        self.templates = sorted(self.root["paths"], key=lambda path: "{" in path)

    def resolve(self, node: Any) -> Any:
        """The node, or what it refers to."""
        while isinstance(node, dict) and set(node) == {"$ref"}:
            target = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def template(self, path: str) -> str:
        """The path's template."""
        for template in self.templates:
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return template
        raise KeyError(path)

    def responses(self, template: str, method: str) -> dict[str, Any]:
        """The described responses of an operation; a method that the path does not have shares the 405 of GET or POST."""
        item = self.root["paths"][template]
        operation = item.get("get" if method == "head" else method) or item.get("get") or item["post"]
        return {status: self.resolve(response) for status, response in operation["responses"].items()}

    def validator(self, schema: Any) -> jsonschema.Draft202012Validator:
        """A validator of one schema, with the document's components at hand and formats checked."""
        whole = {"components": self.root["components"], **schema}
        return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())

    def check(self, method: str, path: str, answer: server.Answer) -> None:
        """The answer is described, as it is."""
        template, status = self.template(path), str(answer.status)
        where = f"{method.upper()} {template} {status}"
        described = self.responses(template, method).get(status)
        if described is None:
            self.seen.problems.append(f"{where}: not described: {answer.body[:300]!r}")
            return
        known = self.root["paths"][template].get("get" if method == "head" else method)
        self.seen.answers.add((template, method if known else "any", status))
        self.check_headers(where, described, answer)
        content = described.get("content", {})
        media = answer.headers.get("content-type", "").partition(";")[0]
        if not content and answer.body:
            self.seen.problems.append(f"{where}: has a body that is not described: {answer.body[:100]!r}")
        elif content and media not in content:
            self.seen.problems.append(f"{where}: the media type {media!r} is not described")
        elif media.endswith("json") and method != "head":
            self.check_value(where, content[media]["schema"], answer.json())

    def check_headers(self, where: str, described: dict, answer: server.Answer) -> None:
        """Every header is described, and those that have to be there are."""
        headers = {name: self.resolve(node) for name, node in described.get("headers", {}).items()}
        got = {name.lower(): value for name, value in answer.headers.items()}
        for name, node in headers.items():
            if name not in got:
                if node.get("required"):
                    self.seen.problems.append(f"{where}: has no {name}")
                continue
            self.seen.fields.setdefault("headers", set()).add(name)
            for error in self.validator(node["schema"]).iter_errors(got[name]):
                self.seen.problems.append(f"{where}: {name}: {error.message}")
        of_problems = {"x-content-type-options"} if "problem" in str(described.get("content")) else set()
        for name in got.keys() - headers.keys() - EVERYWHERE - of_problems:
            self.seen.problems.append(f"{where}: the header {name} is not described")

    def check_value(self, where: str, schema: Any, value: Any) -> None:
        """The value is what the schema says."""
        for error in self.validator(schema).iter_errors(value):
            self.seen.problems.append(f"{where}: {error.json_path}: {error.message[:300]}")
        self.note_fields(schema, value)

    def note_fields(self, schema: Any, value: Any) -> None:
        """Notes which described properties a value has."""
        name = schema.get("$ref", "").rpartition("/")[2] if isinstance(schema, dict) else ""
        schema = self.resolve(schema)
        for part in schema.get("allOf", []) + schema.get("oneOf", []):
            self.note_fields(part, value)
        if isinstance(value, list) and "items" in schema:
            for each in value:
                self.note_fields(schema["items"], each)
        if isinstance(value, dict):
            for key, node in schema.get("properties", {}).items():
                if key in value:
                    self.seen.fields.setdefault(str(id(schema)), set()).add(key)
                    self.note_fields(node, value[key])
        if name:
            self.seen.fields.setdefault("schemas", set()).add(name)

    def unseen_fields(self) -> list[str]:
        """Described properties that no answer had."""
        missing: list[str] = []

        def walk(node: Any, path: str) -> None:
            if isinstance(node, dict):
                seen = self.seen.fields.get(str(id(node)), set())
                missing.extend(f"{path}.{key}" for key in node.get("properties", {}) if key not in seen)
                for key, child in node.items():
                    walk(child, f"{path}.{key}")
            elif isinstance(node, list):
                for index, child in enumerate(node):
                    walk(child, f"{path}[{index}]")

        for name, schema in self.root["components"]["schemas"].items():
            if name != "Arguments":
                walk(schema, name)
        return missing

    def unseen_answers(self) -> list[str]:
        """Described statuses that were not provoked, and are not excused."""
        missing = []
        for template, item in self.root["paths"].items():
            for method in item.keys() - {"parameters"}:
                for status, response in item[method]["responses"].items():
                    if "x-not-provoked" in self.resolve(response):
                        continue
                    wanted = "any" if status == "405" else method
                    if (template, wanted, status) not in self.seen.answers:
                        missing.append(f"{method.upper()} {template} {status}")
        return sorted(missing)


document = Document(ROOT / "docs" / "openapi.yaml")


def ask(base: str, method: str, path: str, body: Any = None, **headers: str) -> server.Answer:
    """One request, whose answer is checked. A dict becomes JSON; a header's `_` is a `-`."""
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        body, sent = json.dumps(body).encode(), JSON | sent
    try:
        connection.request(method.upper(), path, body=body, headers=sent)
        response = connection.getresponse()
        answer = server.Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
    document.check(method, urlsplit(path).path, answer)
    return answer


def expect(status: int, base: str, method: str, path: str, body: Any = None, **headers: str) -> server.Answer:
    """As `ask`, where the status is known."""
    answer = ask(base, method, path, body, **headers)
    what = f"{method.upper()} {urlsplit(path).path.replace('/images/0', '/images/…0')[:40]} -> {status}"
    if answer.status != status:
        checks.that(False, what, f"{answer.status} {answer.body[:400]!r}")
    return answer


def raw(base: str, method: str, path: str, fields: list[str], body: bytes = b"") -> server.Answer:
    """A request as no library would send it; its answer is checked."""
    parts = urlsplit(base)
    with socket.create_connection((parts.hostname, parts.port), timeout=40) as stream:
        stream.sendall("\r\n".join([f"{method.upper()} {path} HTTP/1.1", *fields, "", ""]).encode() + body)
        response = http.client.HTTPResponse(stream, method=method.upper())
        response.begin()
        answer = server.Answer(response.status, dict(response.getheaders()), response.read())
    document.check(method, path, answer)
    return answer


def bad_bodies(base: str) -> None:
    """A body that is announced as too large, and one of which nothing comes after its first byte."""
    fields = ["host: localhost", "content-type: application/json"]
    answer = raw(base, "post", GENERATE, [*fields, "content-length: 2000000"])
    checks.equal(answer.status, 413, "a body that is too large is refused")
    answer = raw(base, "post", GENERATE, [*fields, "content-length: 9"], b"{")
    checks.equal(answer.status, 408, "a body that stalls is given up")


def two_hosts(base: str, method: str, path: str) -> None:
    """A request with two hosts."""
    answer = raw(base, method, path, ["host: localhost", "host: other", "content-length: 0"])
    checks.equal(answer.status, 400, f"{method.upper()} {path[:12]}: two hosts are a bad request")


def events_of(answer: server.Answer) -> list[tuple[str, Any]]:
    """The events of a stream."""
    found = re.findall(r"^event: (\w+)\ndata: (.*)\n\n", answer.body.decode(), re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def stream(base: str, arguments: dict) -> list[str]:
    """A generation as events, each of which is as described; gives their names."""
    answer = expect(200, base, "post", GENERATE, arguments, accept="text/event-stream")
    schemas = {"progress": "Progress", "result": "Generated", "error": "Problem"}
    events = events_of(answer)
    for name, data in events:
        document.check_value(f"event {name}", {"$ref": f"#/components/schemas/{schemas[name]}"}, data)
    return [name for name, _ in events]


def check_tool(base: str) -> None:
    """The MCP tool takes the same arguments, and its result has the same fields."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    (tool,) = server.ask(f"{base}/mcp", call, {"accept": "application/json, text/event-stream"}).json()["result"]["tools"]
    limits = ("minimum", "maximum", "multipleOf", "default", "maxLength")

    def shape(properties: dict[str, Any]) -> dict[str, Any]:
        """The names, and what their values may be."""
        return {name: {limit: part[limit] for limit in limits if limit in part} for name, part in properties.items()}

    arguments = shape(tool["inputSchema"]["properties"])
    arguments.pop("include_preview")
    schemas = document.root["components"]["schemas"]
    checks.equal(arguments, shape(schemas["Arguments"]["properties"]), "the MCP tool takes the same arguments")
    result = set(tool["outputSchema"]["properties"]["metadata"]["properties"])
    checks.equal(result, set(schemas["Metadata"]["properties"]), "the MCP tool's result has the same metadata")


def main_server(scratch: Path) -> None:
    """With the embedded predictor and the defaults, small limits apart."""
    given = {"STORAGE_PATH": str(scratch / "main"), "IMAGE_CDN_BASE_URL": "http://localhost", "SHUTDOWN_DELAY": "4"}
    given |= {"CORS_ALLOWED_ORIGINS": "https://page.example", "VARIANT_CONCURRENCY": "1"}
    with server.Server(given, scratch / "main.log") as running:
        base = running.base
        check_tool(base)
        waits = threading.Thread(target=bad_bodies, args=(base,))
        waits.start()
        full = TINY | {"width": 256, "height": 256, "negative_prompt": "people", "guidance_scale": 7.0, "seed": 42}
        drawn = expect(200, base, "post", GENERATE, full).json()
        path = f"/images/{drawn['image_id']}"
        expect(200, base, "post", GENERATE, {"prompt": "a fox", **dict.fromkeys(("width", "seed", "negative_prompt"))})
        names = stream(base, TINY)
        checks.equal((names[0], names[-1]), ("progress", "result"), "a stream tells progress, then the result")

        expect(422, base, "post", GENERATE, {"width": 100, "prompt": ""})
        expect(422, base, "post", GENERATE, {})
        expect(400, base, "post", GENERATE, b"{", content_type="application/json")
        expect(400, base, "post", GENERATE, b"[]", content_type="application/json")
        expect(415, base, "post", GENERATE, b"{}", content_type="text/plain")
        expect(415, base, "post", GENERATE, {}, content_encoding="gzip")
        page = {"origin": "http://localhost:3000"}
        expect(422, base, "post", GENERATE, {}, **page)
        expect(204, base, "options", GENERATE, **page, access_control_request_method="POST")
        for target in (GENERATE, "/images/", path, "/"):
            method = "post" if target == GENERATE else "get"
            expect(403, base, method, target, {} if method == "post" else None, host="foreign.example")
            expect(405, base, "patch", target)
            two_hosts(base, method, target)
        expect(403, base, "post", GENERATE, {}, origin="https://foreign.example")
        expect(403, base, "delete", path, host="foreign.example")
        two_hosts(base, "delete", path)

        expect(200, base, "get", "/images/?limit=1")
        checks.that(ask(base, "get", "/images/?limit=1").json()["next_cursor"], "a page that is full has a cursor")
        checks.equal(ask(base, "get", "/images/?limit=9").json()["next_cursor"], None, "the last page has none")
        expect(400, base, "get", "/images/?limit=0&x=1")
        expect(204, base, "options", "/images/")
        expect(204, base, "options", path)
        preflight = {"origin": "https://page.example", "access_control_request_method": "GET"}
        expect(204, base, "options", path, **preflight)
        expect(204, base, "options", path, **preflight, access_control_request_headers="range")
        for query, headers in (
            ("", {}),
            (".png", {"origin": "https://page.example"}),
            (".png?w=128&h=128&fit=cover&format=auto", {"accept": "image/webp"}),
            ("?format=jpeg&q=50&download", {}),
            ("?format=avif&w=64", {}),
        ):
            expect(200, base, "get", path + query, **headers)
        whole = expect(200, base, "head", path)
        expect(206, base, "get", path, range="bytes=0-9")
        expect(304, base, "get", path, if_none_match=whole.headers["etag"])
        expect(400, base, "get", f"{path}?w=65")
        expect(404, base, "get", f"{path}.webp")
        expect(404, base, "delete", f"{path}.webp")
        expect(412, base, "get", path, if_match='"other"')
        expect(412, base, "delete", path, if_match='"other"')
        expect(416, base, "get", path, range="bytes=99999999-")
        expect(204, base, "delete", path)
        expect(404, base, "get", path)
        for target in ("/health", "/health/live", "/health/ready"):
            expect(200, base, "get", target)
            expect(200, base, "head", target)
            expect(405, base, "post", target)
        expect(200, running.metrics, "get", "/metrics")
        expect(405, running.metrics, "post", "/metrics")
        expect(200, base, "get", "/")
        waits.join()
        running.process.terminate()
        draining = server.time.monotonic() + 3
        while ask(base, "get", "/health/ready").status != 503 and server.time.monotonic() < draining:
            time.sleep(0.05)
        expect(503, base, "get", "/health/ready")
        checks.equal(ask(base, "get", "/health").json()["status"], "draining", "the report tells the drain")


def closed_server(scratch: Path) -> None:
    """Nobody may list, little may be asked, nothing can be stored."""
    given = {"STORAGE_BACKEND": "memory", "STORAGE_MEMORY_MAX_BYTES": "1048576", "IMAGE_LISTING": "off", "GALLERY": "off"}
    given |= {"REQUEST_RATE": "1", "REQUEST_BURST": "4", "IMAGE_RATE": "1", "IMAGE_BURST": "5"}
    with server.Server(given, scratch / "closed.log") as running:
        base, nothing = running.base, "/images/019c1234-0000-7000-8000-000000000000"
        large = {"prompt": "a city at night", "width": 1024, "height": 1024, "num_inference_steps": 1}
        expect(507, base, "post", GENERATE, large)
        expect(403, base, "get", "/images/")
        expect(403, base, "delete", nothing)
        expect(404, base, "get", "/")
        until_limited(base, "post", GENERATE, {})
        for method, target in (("get", nothing), ("get", "/images/"), ("delete", nothing)):
            until_limited(base, method, target)
    with server.Server(given | {"GALLERY": "on", "IMAGE_LISTING": "on"}, scratch / "gallery.log") as running:
        until_limited(running.base, "get", "/")


def until_limited(base: str, method: str, path: str, body: Any = None) -> None:
    """Asks until it is too often."""
    statuses = [ask(base, method, path, body).status for _ in range(12)]
    checks.that(429 in statuses, f"{method.upper()} {path[:30]}: too often is 429", statuses)


def signed_server(scratch: Path) -> None:
    """Images under signed URLs alone."""
    given = {"STORAGE_PATH": str(scratch / "signed"), "IMAGE_URL_SIGNING_KEYS": "k1:" + "s" * 32}
    with server.Server(given, scratch / "signed.log") as running:
        url = urlsplit(expect(200, running.base, "post", GENERATE, TINY).json()["url"])
        answer = expect(200, running.base, "get", f"{url.path}?{url.query}")
        checks.that(answer.headers["cache-control"].startswith("private"), "a signed URL's answer is private")
        expect(404, running.base, "get", url.path)


def kserve_servers(scratch: Path) -> None:
    """A model that fails in each way."""
    with FakeKserve() as kserve:
        endpoint = {"KSERVE_ENDPOINT": f"{kserve.base}/v1/models/stable-diffusion", "KSERVE_MAX_RETRIES": "0"}
        store = {"STORAGE_BACKEND": "memory", "KSERVE_TIMEOUT": "2", "GENERATION_QUEUE_SIZE": "0"}
        with server.Server(endpoint | store, scratch / "kserve.log") as running:
            base = running.base
            expect(200, base, "post", GENERATE, TINY)
            expect(422, base, "post", GENERATE, TINY | {"prompt": "[refuse]"})
            expect(502, base, "post", GENERATE, TINY | {"prompt": "[fail]"})
            names = stream(base, TINY | {"prompt": "[fail]"})
            checks.equal(names[-1], "error", "a stream of a failed generation ends with the error")
            slow = threading.Thread(target=expect, args=(504, base, "post", GENERATE, TINY | {"prompt": "[sleep:5]"}))
            slow.start()
            until(lambda: ask(base, "get", "/health").json()["generations"]["running"] == 1)
            expect(503, base, "post", GENERATE, TINY)
            slow.join()
        with server.Server(endpoint | store | {"GENERATION_QUEUE_SIZE": "4"}, scratch / "kserve2.log") as running:
            slow = threading.Thread(target=expect, args=(200, running.base, "post", GENERATE, TINY | {"prompt": "[sleep:1]"}))
            slow.start()
            until(lambda: ask(running.base, "get", "/health").json()["generations"]["running"] == 1)
            stream(running.base, TINY)
            slow.join()
    # Nobody is at the address any more.
    with server.Server(endpoint | store, scratch / "unreachable.log") as running:
        expect(502, running.base, "post", GENERATE, TINY)
        until(lambda: ask(running.base, "get", "/health").json()["status"] == "degraded")


def broken_storage(scratch: Path) -> None:
    """A folder in whose place is a symbolic link to itself."""
    folder = scratch / "broken"
    with server.Server({"STORAGE_PATH": str(folder)}, scratch / "broken.log") as running:
        image = expect(200, running.base, "post", GENERATE, TINY).json()["image_id"]
        folder.rename(scratch / "away")
        folder.symlink_to(folder)
        expect(503, running.base, "post", GENERATE, TINY)
        expect(503, running.base, "get", f"/images/{image}")
        expect(503, running.base, "get", "/images/")
        expect(503, running.base, "delete", f"/images/{image}")


def until(holds: Any) -> None:
    """Waits until it holds, ten seconds at most."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


def main() -> None:
    openapi_spec_validator.validate(document.root)
    checks.that(True, "the document is valid OpenAPI 3.1")
    version = server.run(["--version"]).stdout.split()[1]
    checks.equal(document.root["info"]["version"], version, "the document has the binary's version")
    for operation in (each for item in document.root["paths"].values() for each in item.values() if "requestBody" in each):
        for media in operation["requestBody"]["content"].values():
            for name, example in media.get("examples", {}).items():
                errors = [error.message for error in document.validator(media["schema"]).iter_errors(example["value"])]
                checks.none(errors, f"the example {name} is what its schema says")
    with tempfile.TemporaryDirectory() as folder:
        parts = (main_server, closed_server, signed_server, kserve_servers, broken_storage)
        for part in parts:
            part(Path(folder))
    checks.none(sorted(set(document.seen.problems)), "every answer is described, with its headers and fields")
    checks.none(document.unseen_answers(), "every described status was provoked")
    checks.none(document.unseen_fields(), "every described field was seen")
    checks.finish()


if __name__ == "__main__":
    main()
