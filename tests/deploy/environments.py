"""Each overlay's environment, taken out of the rendered manifests, starts the built image and serves the main job.

    python environments.py ROOTFS IMAGE_JSON

What only a cluster has is put in place of what the manifests name: ports, the claimed volume, the predictor (a fake one)
and the bucket: an S3 server named by S3_TEST_ENDPOINT, S3_TEST_BUCKET, S3_TEST_REGION, S3_TEST_ACCESS_KEY_ID and
S3_TEST_SECRET_ACCESS_KEY, as tests/peers/ceph.sh prints them. Secrets and volumes are there where the manifests ask for
them, and nowhere else.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import render
import rpc
import server
from blake3 import blake3
from bundle import NOBODY, Image, Running, volume
from checks import Checks
from fake_kserve import FakeKserve

checks = Checks("environments")


def check_memory(what: str, metrics: str, limits: dict[str, str]) -> None:
    """What the server says it may hold is below the container's limit."""
    text = server.ask(f"{metrics}/metrics").body.decode()
    parts = re.findall(r'^mcp_image_memory_budget_bytes\{part="(\w+)"\} (\S+)$', text, re.MULTILINE)
    if not parts:
        checks.skip(f"{what}: memory", "this build does not tell mcp_image_memory_budget_bytes")
        return
    budget, limit = sum(float(size) for _, size in parts), int(limits["memory"].removesuffix("Mi")) << 20
    checks.that(budget <= limit, f"{what}: what it may hold is below the limit", f"{parts}, limit {limit}")


def variables_for(objects: list[render.Object], kserve: str) -> dict[str, str]:
    """The container's environment, with this machine's predictor and bucket."""
    bucket = server.bucket() or {}
    variables = render.environment(objects, secrets=bucket)
    variables["KSERVE_ENDPOINT"] = kserve + urlsplit(variables["KSERVE_ENDPOINT"]).path
    if variables["STORAGE_BACKEND"] == "s3":
        variables |= {name: bucket[name] for name in ("S3_ENDPOINT_URL", "S3_BUCKET", "AWS_REGION")}
    return variables


def check(image: Image, what: str, objects: list[render.Object], scratch: Path) -> None:
    """Starts as the manifests say, draws over MCP and over REST, and serves what it drew."""
    limits = render.container(objects)["resources"]["limits"]
    security = render.deployment(objects)["spec"]["template"]["spec"]["securityContext"]
    checks.equal(security["runAsUser"], NOBODY, f"{what}: pods are the image's user")
    mounts = [volume(scratch / f"volume-{at}", path) for at, path in enumerate(render.volumes(objects))]
    with FakeKserve() as kserve:
        variables = variables_for(objects, kserve.base)
        with Running(image, scratch / "container", variables, mounts, cores=int(limits["cpu"])) as running:
            check_use(what, running, variables["PUBLIC_BASE_URL"])
            checks.equal(len(kserve.seen), 2, f"{what}: the predictor was asked once for each image")
            check_memory(what, running.metrics, limits)
        kept = [path for path in scratch.glob("volume-*/**/*.png")]
        expected = 0 if variables["STORAGE_BACKEND"] == "s3" else 2
        checks.equal(len(kept), expected, f"{what}: images on the volume")
        checks.equal(running.code, 0, f"{what}: ends when told, with 0")


def check_use(what: str, running: Running, public: str) -> None:
    """As a client outside would: by the public name, which is not this machine's."""
    named = {"host": urlsplit(public).netloc}
    asked = {"prompt": "a lighthouse", "width": 256, "height": 256}
    over_rest = server.ask(f"{running.base}/mcp/v1/tools/generate_image", asked, named)
    if not checks.equal(over_rest.status, 200, f"{what}: draws over REST"):
        print(over_rest.body.decode()[:500], running.container.tail())
        return
    for door, drawn in (("MCP", rpc.draw(running.base, headers=named, **asked)), ("REST", over_rest.json())):
        url = drawn["url"]
        checks.that(url.startswith(f"{public}/images/"), f"{what}: over {door}, the URL is the public one", url)
        path = url.removeprefix(public)
        answer = server.ask(running.base + path, headers=named)
        got = (answer.status, answer.headers.get("content-type"), blake3(answer.body).hexdigest())
        expected = (200, "image/png", drawn["metadata"]["blake3"])
        checks.equal(got, expected, f"{what}: the image drawn over {door} is served")
    for name in ("mcp-image-server", "mcp-image-server.mcp-image-server.svc.cluster.local"):
        inside = server.ask(running.base + path, headers={"host": name})
        checks.equal(inside.status, 200, f"{what}: clients inside may call it {name}")
    foreign = server.ask(running.base + path, headers={"host": "rebound.example"})
    checks.equal(foreign.status, 403, f"{what}: foreign names are refused")
    listing = server.ask(f"{running.base}/images/", headers=named)
    checks.equal(listing.status, 403, f"{what}: nobody lists, not even from loopback")
    report = server.ask(f"{running.metrics}/health").json()
    checks.equal(report["status"], "ok", f"{what}: is well")


def main() -> None:
    image = Image.read(*sys.argv[1:3])
    for overlay in render.OVERLAYS:
        rendered = {"kustomize": render.kustomize(overlay), "helm": render.helm(render.chart_values(overlay))}
        for source, objects in rendered.items():
            what = f"{overlay} ({source})"
            if render.environment(objects)["STORAGE_BACKEND"] == "s3" and server.bucket() is None:
                checks.skip(what, "there is no S3 server: S3_TEST_ENDPOINT and its like are not set")
                continue
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    check(image, what, objects, Path(scratch))
                except (RuntimeError, ValueError) as error:
                    checks.that(False, f"{what}: starts and draws", error)
    checks.finish()


if __name__ == "__main__":
    main()
