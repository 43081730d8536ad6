"""Each overlay's environment, taken out of the rendered manifests, starts the binary and serves the main job.

What only a cluster has is put in place of what the manifests name: ports, the volume, the predictor (a fake one) and
the bucket: an S3 server named by S3_TEST_ENDPOINT, S3_TEST_BUCKET, S3_TEST_REGION, S3_TEST_ACCESS_KEY_ID and
S3_TEST_SECRET_ACCESS_KEY, as tests/peers/ceph.sh prints them.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import render
import server
from checks import Checks
from fake_kserve import FakeKserve

checks = Checks("environments")


def bucket() -> dict[str, str] | None:
    """The variables of an S3 server for tests, if there is one."""
    given = {name.removeprefix("S3_TEST_"): value for name, value in os.environ.items() if name.startswith("S3_TEST_")}
    if not given.keys() >= {"ENDPOINT", "BUCKET", "REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"}:
        return None
    return {
        "S3_ENDPOINT_URL": given["ENDPOINT"],
        "S3_BUCKET": given["BUCKET"],
        "AWS_REGION": given["REGION"],
        "AWS_ACCESS_KEY_ID": given["ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": given["SECRET_ACCESS_KEY"],
    }


def check_memory(what: str, metrics: str, limits: dict[str, str]) -> None:
    """What the server says it may hold is below the container's limit."""
    text = server.ask(f"{metrics}/metrics").body.decode()
    parts = re.findall(r'^mcp_image_memory_budget_bytes\{part="(\w+)"\} (\S+)$', text, re.MULTILINE)
    if not parts:
        checks.skip(f"{what}: memory", "this build does not tell mcp_image_memory_budget_bytes")
        return
    budget, limit = sum(float(size) for _, size in parts), int(limits["memory"].removesuffix("Mi")) << 20
    checks.that(budget <= limit, f"{what}: what it may hold is below the limit", f"{parts}, limit {limit}")


def check(overlay: str, source: str, variables: dict[str, str], limits: dict[str, str], scratch: Path) -> None:
    """Starts with these variables and draws an image over REST."""
    what = f"{overlay} ({source})"
    public = variables["PUBLIC_BASE_URL"]
    path = urlsplit(variables["KSERVE_ENDPOINT"]).path
    s3 = variables["STORAGE_BACKEND"] == "s3"
    with FakeKserve() as kserve:
        variables = variables | {"KSERVE_ENDPOINT": kserve.base + path}
        if s3:
            variables |= bucket() or {}
        else:
            variables["STORAGE_PATH"] = str(scratch / "data")
        with server.Server(variables, scratch / "log", cores=int(limits["cpu"])) as running:
            # As a client outside would: by the public name, which is not this machine's.
            named = {"host": urlsplit(public).netloc}
            asked = {"prompt": "a lighthouse", "width": 256, "height": 256}
            drawn = server.ask(f"{running.base}/mcp/v1/tools/generate_image", asked, named)
            if not checks.equal(drawn.status, 200, f"{what}: draws"):
                print(drawn.body.decode()[:500], running.tail())
                return
            url = drawn.json()["url"]
            checks.that(url.startswith(f"{public}/images/"), f"{what}: the URL is the public one", url)
            checks.equal(len(kserve.seen), 1, f"{what}: the predictor was asked once")
            answer = server.ask(running.base + url.removeprefix(public), headers=named)
            got = (answer.status, answer.headers.get("content-type"), len(answer.body))
            expected = (200, "image/png", drawn.json()["metadata"]["size_bytes"])
            checks.equal(got, expected, f"{what}: the image is served")
            for name in ("mcp-image-server", "mcp-image-server.mcp-image-server.svc.cluster.local"):
                inside = server.ask(running.base + url.removeprefix(public), headers={"host": name})
                checks.equal(inside.status, 200, f"{what}: clients inside may call it {name}")
            foreign = server.ask(running.base + url.removeprefix(public), headers={"host": "rebound.example"})
            checks.equal(foreign.status, 403, f"{what}: foreign names are refused")
            listing = server.ask(f"{running.base}/images/", headers=named)
            checks.equal(listing.status, 403, f"{what}: nobody lists, not even from loopback")
            report = server.ask(f"{running.metrics}/health").json()
            checks.equal(report["status"], "ok", f"{what}: is well")
            check_memory(what, running.metrics, limits)


def main() -> None:
    for overlay in render.OVERLAYS:
        rendered = {"kustomize": render.kustomize(overlay), "helm": render.helm(render.chart_values(overlay))}
        for source, objects in rendered.items():
            variables, limits = render.environment(objects), render.container(objects)["resources"]["limits"]
            if variables["STORAGE_BACKEND"] == "s3" and bucket() is None:
                checks.skip(f"{overlay} ({source})", "there is no S3 server: S3_TEST_ENDPOINT and its like are not set")
                continue
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    check(overlay, source, variables, limits, Path(scratch))
                except RuntimeError as error:
                    checks.that(False, f"{overlay} ({source}): starts", error)
    checks.finish()


if __name__ == "__main__":
    main()
