"""A model for the real KServe server: its protocol and statuses, with pictures drawn by Pillow.

    python kserve_model.py --port 8090

Models:
    stable-diffusion  takes any argument, as the older pipelines do
    strict            refuses arguments it does not know, as the newer ones do
    flat              answers `{"predictions": ["<base64>"]}`
    pixels            answers `{"predictions": [[[[r, g, b], ...], ...]]}`
    loading           is never ready

In a prompt, `[sleep:SECONDS]` takes that long (and blocks the server, as drawing does),
`[oom]` runs out of memory, `[crash]` fails in another way.
"""

import argparse
import base64
import hashlib
import io
import re
import time

import uvicorn

# The server binds all addresses, and offers no setting for that.
_init = uvicorn.Config.__init__


def _loopback(self, *args, **kwargs):
    _init(self, *args, **{**kwargs, "host": "127.0.0.1"})


uvicorn.Config.__init__ = _loopback

from kserve import Model, ModelServer  # noqa: E402
from kserve.errors import InvalidInput  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402


def draw(prompt, width, height):
    """A picture that is the same for the same prompt: two colours, and the prompt's words."""
    digest = hashlib.sha256(prompt.encode()).digest()
    image = Image.new("RGB", (width, height), tuple(digest[:3]))
    pen = ImageDraw.Draw(image)
    for part in range(3, 27, 4):
        x, y, size = digest[part] * width // 255, digest[part + 1] * height // 255, digest[part + 2] // 2
        pen.ellipse((x - size, y - size, x + size, y + size), fill=tuple(digest[part : part + 3]))
    pen.text((4, 4), prompt[:80].encode("latin-1", "replace").decode("latin-1"), fill="white")
    return image


class Artist(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def predict(self, payload, headers=None):
        if not isinstance(payload, dict) or not payload.get("instances"):
            raise InvalidInput("invalid payload")
        instance = payload["instances"][0]
        if "prompt" not in instance:
            raise InvalidInput("Missing required parameter: prompt")
        try:
            image = self.pipeline(**instance)
        except TypeError as error:
            raise InvalidInput(f"Prediction failed: {error}") from error
        return {"predictions": [self.prediction(instance["prompt"], image)]}

    def pipeline(self, prompt, width=512, height=512, **kwargs):
        if pause := re.search(r"\[sleep:([0-9.]+)\]", prompt):
            time.sleep(float(pause[1]))
        if "[oom]" in prompt:
            raise RuntimeError("CUDA out of memory")
        if "[crash]" in prompt:
            raise ValueError("tensor sizes do not match")
        if width % 8 or height % 8:
            raise InvalidInput(
                "Prediction failed: `height` and `width` have to be divisible by 8 "
                f"but are {height} and {width}."
            )
        return draw(prompt, width, height)

    def prediction(self, prompt, image):
        return {
            "model_name": self.name,
            "prompt": prompt,
            "image": {"format": "PNG", "b64": encoded(image)},
        }


class Strict(Artist):
    def pipeline(self, prompt, width=512, height=512, num_inference_steps=50):
        return super().pipeline(prompt, width, height)


class Flat(Artist):
    def prediction(self, prompt, image):
        return encoded(image)


class Pixels(Artist):
    def prediction(self, prompt, image):
        pixels = list(image.tobytes())
        row = image.width * 3
        return [
            [pixels[at : at + 3] for at in range(start, start + row, 3)]
            for start in range(0, len(pixels), row)
        ]


class Loading(Artist):
    # A model that is not ready when the server starts is not even registered.
    async def healthy(self):
        return False


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    models = [
        Artist("stable-diffusion"),
        Strict("strict"),
        Flat("flat"),
        Pixels("pixels"),
        Loading("loading"),
    ]
    ModelServer(http_port=port, enable_grpc=False, workers=1).start(models)


if __name__ == "__main__":
    main()
