"""Draws an image from Python: `pip install mcp==2.3.0`, then `python client.py http://localhost:8000/mcp "a red fox"`."""

import asyncio
import sys
import urllib.request
from pathlib import Path

from mcp import Client


async def show(progress: float, total: float | None, message: str | None) -> None:
    """Called with each progress notification; these also keep the call from timing out."""
    print(f"  {progress:g} of {total or 0:g}: {message or ''}")


async def main(url: str, prompt: str) -> None:
    """Connects, calls the tool, and saves the image."""
    async with Client(url, read_timeout_seconds=300) as client:
        result = await client.call_tool(
            "generate_image",
            {"prompt": prompt, "width": 768, "height": 512, "include_preview": False},
            progress_callback=show,
        )
    if result.is_error:
        # What is wrong with the arguments, or with the model, in words that a model can act upon.
        sys.exit(result.content[0].text)
    image = result.structured_content
    with urllib.request.urlopen(image["url"]) as answer:
        Path("python.png").write_bytes(answer.read())
    print(image["url"], "seed", image["metadata"].get("seed"), "saved as python.png")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
