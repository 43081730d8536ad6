"""A stand-in for a KServe V1 predictor, to try the server's errors: `python3 predictor.py PORT`.

It answers every prompt with the same small PNG. In a prompt, `[sleep:SECONDS]` takes that long, `[fail]` answers 500 and
`[refuse]` answers 400, as KServe's own server words them.
"""

import base64
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "stable-diffusion"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Predictor(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Whether the model is ready."""
        known = self.path in ("/", f"/v1/models/{MODEL}")
        self.answer(200 if known else 404, {"name": MODEL, "ready": True} if known else {"error": "unknown"})

    def do_POST(self) -> None:
        """A prediction."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != f"/v1/models/{MODEL}:predict":
            self.answer(404, {"error": f"Model with name {self.path} does not exist."})
            return
        prompt = json.loads(body)["instances"][0]["prompt"]
        if pause := re.search(r"\[sleep:([0-9.]+)\]", prompt):
            time.sleep(float(pause[1]))
        if "[fail]" in prompt:
            self.answer(500, {"error": "ValueError : tensor sizes do not match"})
        elif "[refuse]" in prompt:
            self.answer(400, {"error": "__call__() got an unexpected keyword argument 'negative_prompt'"})
        else:
            image = {"format": "PNG", "b64": base64.b64encode(PNG).decode()}
            self.answer(200, {"predictions": [{"model_name": MODEL, "prompt": prompt, "image": image}]})

    def answer(self, status: int, value: object) -> None:
        """Sends JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Predictor).serve_forever()
