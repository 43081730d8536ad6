"""Checks alerts, dashboard and metrics with Debian's Prometheus, which scrapes the real server.

    python observability.py [--minutes N] [--plot FILE]

Load runs for N minutes; the dashboard is drawn into FILE (which needs requirements-plot.txt).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

import server
from checks import Checks
from fake_kserve import FakeKserve
from render import MANIFESTS, ROOT

WORK = ROOT / "target" / "deploy" / "observability"
COMPONENT = MANIFESTS / "components" / "observability"
# What others export: the kubelet, cAdvisor, kube-state-metrics, Prometheus itself.
FOREIGN = re.compile(r"^(kubelet_volume_stats|container|kube)_\w+$|^up$")
NAME = re.compile(r"\b((?:mcp_image|http_server|process|kubelet|container|kube)_\w+|up(?=\{))")
SUFFIX = re.compile(r"_(bucket|sum|count)$")
# Panels that are empty as long as all is well, or without a cluster.
QUIET = re.compile(r"kubelet_|kube_|panics|outcome=~|predictor_retries|status=~|rate_limited|rpc_refused|_s3_|fallback|variants")
checks = Checks("observability")


def rules() -> dict[str, Any]:
    """The rule groups, as a rule file of Prometheus has them."""
    return yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text())["spec"]


def alerts() -> list[dict]:
    """Every alert."""
    return [rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule]


def panels() -> list[tuple[str, str]]:
    """Title and query of everything that the dashboard shows."""
    dashboard = json.loads((COMPONENT / "dashboard.json").read_text())
    found = [
        (panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    return found + [(each["name"], each["expr"]) for each in dashboard["annotations"]["list"]]


def described() -> set[str]:
    """Every metric that the sources describe."""
    text = (ROOT / "src/metrics.rs").read_text()
    names = set(re.findall(r'(?:counter|level|duration|size)\(\s*"(\w+)"', text))
    for source in (ROOT / "layers/src").rglob("*.rs"):
        names |= set(re.findall(r'describe_\w+!\(\s*"(\w+)"', source.read_text()))
    return names


def emitted() -> set[str]:
    """Every metric that the sources record."""
    texts = [path.read_text() for folder in ("src", "layers/src") for path in (ROOT / folder).rglob("*.rs")]
    return {name for text in texts for name in re.findall(r'(?:counter|gauge|histogram)!\(\s*"(\w+)"', text)}


def check_files() -> None:
    """What can be said without running anything."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "rules.yaml").write_text(yaml.safe_dump(rules(), sort_keys=False))
    tests = ROOT / "tests/deploy/alerts_test.yaml"
    shutil.copy(tests, WORK / "alerts_test.yaml")
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=WORK, capture_output=True, text=True, check=False)
        checks.that(done.returncode == 0, f"promtool {' '.join(command)}", done.stdout + done.stderr)

    fires, quiet = set(), set()
    for test in yaml.safe_load(tests.read_text())["tests"]:
        for each in test["promql_expr_test"]:
            name = re.search(r'alertname="(\w+)"', each["expr"])[1]
            (fires if each["exp_samples"] else quiet).add(name)
    names = {alert["alert"] for alert in alerts()}
    checks.equal(names - fires, set(), "a test makes each alert fire")
    checks.equal(names - quiet, set(), "a test keeps each alert quiet")

    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        known = page.endswith("/docs/operations.md") and anchor in anchors
        checks.that(known, f"{alert['alert']} has a runbook", alert["annotations"]["runbook_url"])

    ours = emitted()
    checks.that(len(ours) > 30, "the sources record metrics", ours)
    recorded = {rule["record"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}
    used = [(rule.get("alert") or rule["record"], rule["expr"]) for group in rules()["groups"] for rule in group["rules"]]
    unknown = []
    for where, query in [*used, *panels()]:
        for name in NAME.findall(query):
            stem = SUFFIX.sub("", name)
            known = {name, stem} & ours or FOREIGN.match(name) or name.startswith("process_") or name in recorded
            if not known and f"{name}:" not in query:
                unknown.append(f"{where}: {name}")
    checks.none(unknown, "every metric in alerts and dashboard is exported")


def load(base: str, seconds: float) -> None:
    """Images by REST and MCP, reads, and what goes wrong now and then, for so long."""
    end = time.monotonic() + seconds
    urls: list[str] = []

    def draw(prompt: str) -> None:
        answer = server.ask(f"{base}/mcp/v1/tools/generate_image", {"prompt": prompt, "width": 256, "height": 256})
        if answer.status == 200:
            urls.append(answer.json()["url"])

    def call(method: str, params: dict) -> None:
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
        server.ask(f"{base}/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers)

    def drawer(number: int) -> None:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            kind = {7: "[fail]", 13: "[refuse]"}.get((turn + number) % 17, f"[sleep:{0.05 * (1 + turn % 4)}]")
            draw(f"a lighthouse {kind}")
            if turn % 5 == 0:
                call("tools/call", {"name": "generate_image", "arguments": {"prompt": "a fox [sleep:0.1]"}})
                call("tools/list", {})
            time.sleep(0.1)

    def reader() -> None:
        while time.monotonic() < end:
            for url in urls[-20:]:
                server.ask(url)
            server.ask(f"{base}/images/00000000-0000-7000-8000-000000000000")
            time.sleep(0.05)

    threads = [threading.Thread(target=drawer, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=reader))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Prometheus:
    """Debian's Prometheus on loopback; scrapes `targets` every second and evaluates the rules."""

    def __init__(self, target: str) -> None:
        self.base = f"http://127.0.0.1:{server.free_port()}"
        job = {
            "job_name": "mcp-image-server",
            "static_configs": [{"targets": [target], "labels": {"namespace": "images", "pod": "pod-0"}}],
        }
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [job],
        }
        (WORK / "prometheus.yaml").write_text(yaml.safe_dump(config))
        shutil.rmtree(WORK / "data", ignore_errors=True)

    def __enter__(self) -> Prometheus:
        arguments = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"]
        with (WORK / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", *arguments, f"--web.listen-address={self.base.removeprefix('http://')}"],
                cwd=WORK,
                stdout=log,
                stderr=log,
            )
        for _ in range(200):
            try:
                if server.ask(f"{self.base}/-/ready").status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError((WORK / "prometheus.log").read_text())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API call; an error is raised."""
        answer = server.ask(f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        if answer.status != 200:
            raise ValueError(answer.body.decode())
        return answer.json()["data"]


def bound(query: str) -> str:
    """A dashboard's query with its variables filled in."""
    return query.replace("$__rate_interval", "10s").replace("$namespace", ".*")


def check_scrape(prometheus: Prometheus, metrics: str) -> None:
    """Prometheus reads what the server writes, and so does its linter."""
    (target,) = prometheus.get("targets", state="active")["activeTargets"]
    checks.equal((target["health"], target["lastError"]), ("up", ""), "the scrape has no error")
    failed = prometheus.get("query", query="sum_over_time((up == bool 0)[5m:1s])")["result"]
    checks.equal([each for each in failed if each["value"][1] != "0"], [], "no scrape failed")
    check_exported(metrics, "with files")


def check_exported(metrics: str, what: str) -> None:
    """What is exported is named by the rules, and described."""
    text = server.ask(f"{metrics}/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    checks.that(done.returncode == 0 and not done.stderr, f"promtool check metrics, {what}", done.stderr.decode())
    exported = set(re.findall(r"^# TYPE (\w+)", text.decode(), re.MULTILINE))
    plain = {name for name in exported if not name.startswith("process_")}
    checks.equal(plain - described(), set(), f"the sources describe every metric that is exported, {what}")


def check_bucket() -> None:
    """The metrics of a server with a bucket."""
    variables = server.bucket()
    if variables is None:
        checks.skip("metrics with a bucket", "there is no S3 server: S3_TEST_ENDPOINT and its like are not set")
        return
    variables |= {"PREDICTOR": "embedded", "STORAGE_BACKEND": "s3"}
    with server.Server(variables, WORK / "bucket.log") as running:
        asked = {"prompt": "a lighthouse", "width": 256, "height": 256}
        drawn = server.ask(f"{running.base}/mcp/v1/tools/generate_image", asked)
        checks.equal(server.ask(drawn.json()["url"]).status, 200, "an image goes into the bucket and out again")
        check_exported(running.metrics, "with a bucket")


def check_queries(prometheus: Prometheus) -> None:
    """Every rule and every panel can be evaluated, and shows something where there is something."""
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            checks.equal((rule["health"], rule.get("lastError", "")), ("ok", ""), f"{rule['name']} is evaluated")
    for title, query in panels():
        found = prometheus.get("query", query=bound(query))["result"]
        values = [each["value"][1] for each in found if each["value"][1] != "NaN"]
        if QUIET.search(query) or title == "Versions":
            checks.that(True, f"panel {title!r} can be drawn ({len(values)} series)")
        else:
            checks.that(values, f"panel {title!r} shows something", query)


def check_running(minutes: float, plot: Path | None) -> None:
    """The real server, watched while it works."""
    scratch = WORK / "server"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with FakeKserve() as kserve:
        variables = {
            "PREDICTOR": "kserve",
            "KSERVE_ENDPOINT": kserve.base,
            "KSERVE_MAX_RETRIES": "0",
            "GENERATION_CONCURRENCY": "2",
            "STORAGE_PATH": str(scratch / "images"),
            "IMAGE_TTL": "20",
            "IMAGE_CLEANUP_INTERVAL": "2",
        }
        with server.Server(variables, scratch / "log") as running:
            with Prometheus(running.metrics.removeprefix("http://")) as prometheus:
                load(running.base, minutes * 60)
                check_scrape(prometheus, running.metrics)
                check_queries(prometheus)
                if plot:
                    from plot import draw

                    draw(COMPONENT / "dashboard.json", prometheus.get, bound, minutes * 60, plot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=0.25)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    check_files()
    check_bucket()
    check_running(arguments.minutes, arguments.plot)
    checks.finish()


if __name__ == "__main__":
    main()
