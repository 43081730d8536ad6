"""A peer for the load comparison: the usual Python way, FastMCP 2.10 with FastAPI, httpx and uvicorn.

`py210.py PORT PREDICT_URL FOLDER`: stateless streamable HTTP at /mcp/, images at /images/{id}, /health.
"""

import base64
import json
import sys
import uuid
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastmcp import FastMCP

PORT, PREDICT_URL, FOLDER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
FOLDER.mkdir(parents=True, exist_ok=True)

mcp = FastMCP("images")
client = httpx.AsyncClient(timeout=60)


@mcp.tool
async def generate_image(prompt: str, width: int = 512, height: int = 512) -> dict:
    """Generate an image from a text prompt."""
    body = {"instances": [{"prompt": prompt, "width": width, "height": height}]}
    reply = (await client.post(PREDICT_URL, json=body)).json()
    image = base64.b64decode(reply["predictions"][0]["image"]["b64"])
    image_id = str(uuid.uuid4())
    (FOLDER / f"{image_id}.png").write_bytes(image)
    (FOLDER / f"{image_id}.json").write_text(json.dumps({"prompt": prompt}))
    return {"url": f"http://localhost:{PORT}/images/{image_id}", "image_id": image_id, "metadata": {"prompt": prompt}}


@mcp.tool
def nothing() -> str:
    """Do nothing."""
    return "nothing"


mcp_app = mcp.http_app(path="/", stateless_http=True, json_response=True)
app = FastAPI(lifespan=mcp_app.lifespan)


@app.get("/health")
def health() -> dict:
    return {"status": "ok"}


@app.get("/images/{image_id}")
def image(image_id: str) -> FileResponse:
    return FileResponse(FOLDER / f"{image_id}.png", media_type="image/png")


app.mount("/mcp", mcp_app)

uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
