"""A KServe V1 predictor for the deployment's checks: answers every prompt with the same PNG.

In a prompt, `[sleep:SECONDS]` takes that long, `[fail]` answers 500, `[refuse]` answers 400.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(width)) for y in range(height))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


class FakeKserve:
    """Serves on a loopback port until the end of the `with` block."""

    def __init__(self, model: str = "stable-diffusion") -> None:
        self.seen: list[dict] = []
        image = base64.b64encode(png(256, 256)).decode()
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path in ("/", f"/v1/models/{model}")
                self.answer(200, {"name": model, "ready": True}) if known else self.answer(404, {"error": "unknown"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path != f"/v1/models/{model}:predict":
                    self.answer(404, {"error": f"Model with name {self.path} does not exist."})
                    return
                (instance,) = json.loads(body)["instances"]
                seen.append(instance)
                prompt = instance["prompt"]
                if pause := re.search(r"\[sleep:([0-9.]+)\]", prompt):
                    time.sleep(float(pause[1]))
                if "[fail]" in prompt:
                    self.answer(500, {"error": "ValueError : tensor sizes do not match"})
                elif "[refuse]" in prompt:
                    self.answer(400, {"error": "Prediction failed: width has to be divisible by 8"})
                else:
                    reply = {"model_name": model, "prompt": prompt, "image": {"format": "PNG", "b64": image}}
                    self.answer(200, {"predictions": [reply]})

            def answer(self, status: int, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # A caller that goes away is what some checks are about.
        self.server.handle_error = lambda *_: None
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeKserve:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
