"""Checks the manifests and the chart without a cluster: rendered, valid, and true to the binary."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate

import render
import server
from checks import Checks
from render import CHART, NAMESPACE, OVERLAYS, ROOT, Object

VERSIONS = ("1.32", "1.37")
SCHEMAS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (json.loads(path.read_text()) for path in (ROOT / "tests/deploy/schemas").glob("*.json"))
}
KIB, MIB = 1 << 10, 1 << 20
checks = Checks("manifests")


def problems_of_kinds(objects: list[Object]) -> list[str]:
    """Each object against the schema of its kind: Kubernetes' own on two versions, or one of ours."""
    found = []
    for each in objects:
        key = render.key_of(each)
        if schema := SCHEMAS.get(each["kind"]):
            validator = jsonschema.Draft202012Validator(schema)
            found += [f"{key}{error.json_path[1:]}: {error.message}" for error in validator.iter_errors(each)]
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except Exception as error:  # also a kind that it does not know
                found.append(f"{key} on {version}: {error}")
    return found


def problems_of_pods(objects: list[Object]) -> list[str]:
    """What a restricted namespace and a careful reviewer ask of the server's pods, and of tests'."""
    specs = [each["spec"]["template"]["spec"] for each in objects if render.is_workload(each)]
    specs += [each["spec"] for each in objects if each["kind"] == "Pod"]
    found = []

    def expect(got: Any, expected: Any, what: str) -> None:
        if got != expected:
            found.append(f"{what} is {got!r}, not {expected!r}")

    for spec in specs:
        expect(spec.get("automountServiceAccountToken"), False, "automountServiceAccountToken")
        expect(spec.get("enableServiceLinks"), False, "enableServiceLinks")
        pod = spec["securityContext"]
        expect(pod.get("runAsNonRoot"), True, "runAsNonRoot")
        expect(pod.get("runAsUser"), 65532, "runAsUser")
        expect(pod.get("seccompProfile"), {"type": "RuntimeDefault"}, "seccompProfile")
        for container in spec["containers"]:
            context = container["securityContext"]
            expect(context.get("readOnlyRootFilesystem"), True, "readOnlyRootFilesystem")
            expect(context.get("allowPrivilegeEscalation"), False, "allowPrivilegeEscalation")
            expect(context.get("capabilities"), {"drop": ["ALL"]}, "capabilities")
            expect({"cpu", "memory"} <= container["resources"]["requests"].keys(), True, "requests of cpu and memory")
            expect("memory" in container["resources"]["limits"], True, "a limit of memory")
            expect("cpu" in container["resources"]["limits"], True, "a limit of cpu")
    return found


def problems_of_links(objects: list[Object]) -> list[str]:
    """Selectors that select, ports that are there, and references to what is rendered beside them."""
    workload = render.deployment(objects)
    labels = workload["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in render.container(objects)["ports"]}
    names = {render.key_of(each) for each in objects}
    found = []
    for each in objects:
        spec = each.get("spec", {})
        if each["metadata"].get("namespace") != NAMESPACE and not render.is_hook(each):
            found.append(f"{render.key_of(each)} is in namespace {each['metadata'].get('namespace')}")
        if each["metadata"]["name"].startswith(render.NAME):
            selector = spec.get("selector") or spec.get("podSelector") or {}
            selected = selector.get("matchLabels", selector if each["kind"] == "Service" else {})
            if selected and not selected.items() <= labels.items():
                found.append(f"{render.key_of(each)} selects {selected}")
        if each["kind"] == "Service" and each["metadata"]["name"] == render.NAME:
            found += [f"targetPort {p['targetPort']}" for p in spec["ports"] if p["targetPort"] not in ports]
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            if f"Deployment/{spec['scaleTargetRef']['name']}" not in names:
                found.append(f"{render.key_of(each)} scales nothing that is here")
            if "replicas" in workload["spec"]:
                found.append("the deployment and the autoscaler both set replicas")
        for backend in re.findall(r'"(?:service|backendRefs)": [\[{]+[^]}]*?"name": "([^"]+)"', json.dumps(spec)):
            if f"Service/{backend}" not in names:
                found.append(f"{render.key_of(each)} sends to Service/{backend}, which is not here")
    for volume in workload["spec"]["template"]["spec"].get("volumes", []):
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and f"PersistentVolumeClaim/{claim}" not in names:
            found.append(f"there is no claim {claim}")
    variables = render.environment(objects)
    for name, variable in (("http", "PORT"), ("metrics", "METRICS_PORT")):
        if str(ports[name]) != variables.get(variable):
            found.append(f"container port {name} is {ports[name]}, {variable} is {variables.get(variable)}")
    return found


def problems_of_secrets(objects: list[Object], known: dict[str, server.Variable]) -> list[str]:
    """Secrets are referred to, never written down."""
    found = [render.key_of(each) for each in objects if each["kind"] == "Secret"]
    given = render.environment(objects)
    return found + [f"{name} has a value" for name in given if name in known and known[name].secret]


def problems_of_replicas(objects: list[Object]) -> list[str]:
    """Several replicas need a store that they share."""
    spec = render.deployment(objects)["spec"]
    scaled = any(each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") for each in objects)
    modes = [each["spec"]["accessModes"] for each in objects if each["kind"] == "PersistentVolumeClaim"]
    single = modes == [["ReadWriteOnce"]]
    if single and (scaled or spec["replicas"] != 1 or spec["strategy"] != {"type": "Recreate"}):
        return ["a ReadWriteOnce volume goes with one replica and Recreate"]
    if not single and spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        return ["a rolling update should take no replica away first"]
    return []


def seconds(text: str) -> float:
    """Seconds in `300`, `300s` or `5m`."""
    number, unit = re.fullmatch(r"([0-9.]+)(s|m|)", text).groups()
    return float(number) * (60 if unit == "m" else 1)


def problems_of_time(objects: list[Object], in_effect: dict[str, str]) -> list[str]:
    """A generation may live as long as the server lets it: in the drain, and in what stands in front."""
    generation, delay, grace = (
        seconds(in_effect[name]) for name in ("GENERATION_TIMEOUT", "SHUTDOWN_DELAY", "SHUTDOWN_GRACE")
    )
    found = []
    if delay + generation > grace:
        found.append(f"SHUTDOWN_DELAY {delay} and GENERATION_TIMEOUT {generation} exceed SHUTDOWN_GRACE {grace}")
    patience = render.deployment(objects)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    if grace >= patience:
        found.append(f"SHUTDOWN_GRACE {grace} is not below terminationGracePeriodSeconds {patience}")
    probe = render.container(objects)["readinessProbe"]
    if probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] > 2 * delay:
        found.append("readiness is asked too seldom to notice a drain within SHUTDOWN_DELAY")
    for each in objects:
        if each["kind"] == "HTTPRoute":
            for rule in each["spec"]["rules"]:
                if seconds(rule["timeouts"]["request"]) <= generation:
                    found.append(f"HTTPRoute ends after {rule['timeouts']['request']}")
        if each["kind"] == "Ingress":
            for name in ("proxy-read-timeout", "proxy-send-timeout"):
                value = each["metadata"]["annotations"][f"nginx.ingress.kubernetes.io/{name}"]
                if seconds(value) <= generation:
                    found.append(f"{name} is {value}")
    return found


def problems_of_memory(objects: list[Object], in_effect: dict[str, str]) -> list[str]:
    """The limit holds what the formula asks for, as docs/memory.md has it."""
    names = ("MAX_IMAGE_SIZE", "MAX_IMAGE_PIXELS", "MAX_CONNECTIONS", "IMAGE_CACHE_BYTES", "VARIANT_CONCURRENCY")
    size, pixels, connections, cache, variants = (int(in_effect[name]) for name in names)
    limits = render.container(objects)["resources"]["limits"]
    decoded = 16 * pixels + 8 * MIB
    s3 = render.environment(objects)["STORAGE_BACKEND"] == "s3"
    delivery = connections * 420 * KIB if s3 else 8 * MIB + connections * 16 * KIB
    decoding = (int(limits["cpu"]) + variants + 1) * decoded
    needed = 32 * MIB + max(32 * MIB, size) + decoding + max(cache, 16 * MIB) * 17 / 16 + delivery
    limit = int(limits["memory"].removesuffix("Mi")) * MIB
    return [] if needed <= limit else [f"{needed / MIB:.0f} MiB are needed, the limit is {limits['memory']}"]


def check_binary(overlay: str, objects: list[Object], known: dict[str, server.Variable]) -> None:
    """The environment is one that the binary takes, without a warning."""
    secrets = {name: "placeholder" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    given = render.environment(objects, secrets)
    names = given.keys() | {each["name"] for each in render.container(objects).get("env", [])}
    checks.none(sorted(names - known.keys()), f"{overlay}: the binary knows every variable")
    done = server.run(["check"], given)
    if done.returncode and "no s3 backend" in done.stderr:
        checks.skip(f"{overlay}: the binary takes the environment", done.stderr.strip().splitlines()[-1])
        # The rest of the settings can be checked all the same.
        given = {**given, "STORAGE_BACKEND": "memory"}
        done = server.run(["check"], given)
    taken = done.returncode == 0 and "warning" not in done.stdout + done.stderr
    if not checks.that(taken, f"{overlay}: the binary takes the environment", done.stdout[:500] + done.stderr):
        return
    in_effect = server.effective(given)
    checks.none(problems_of_time(objects, in_effect), f"{overlay}: a generation lives as long as it may")
    checks.none(problems_of_memory(objects, in_effect), f"{overlay}: memory by the formula is below the limit")


def check_overlay(overlay: str, known: dict[str, server.Variable]) -> None:
    """Everything about one overlay, as kustomize and as Helm render it."""
    objects = render.kustomize(overlay)
    checks.none(problems_of_kinds(objects), f"{overlay}: valid on Kubernetes {' and '.join(VERSIONS)}")
    checks.none(problems_of_pods(objects), f"{overlay}: pods are restricted")
    checks.none(problems_of_links(objects), f"{overlay}: names, ports and selectors fit together")
    checks.none(problems_of_secrets(objects, known), f"{overlay}: no secret is written down")
    checks.none(problems_of_replicas(objects), f"{overlay}: replicas fit the storage")
    check_binary(overlay, objects, known)

    from_chart = render.helm(render.chart_values(overlay))
    same = render.differences(render.normal(objects), render.normal(from_chart))
    checks.none(same, f"{overlay}: kustomize and the chart render the same")
    hooks = [each for each in from_chart if render.is_hook(each)]
    checks.none(problems_of_kinds(hooks) + problems_of_pods(hooks), f"{overlay}: the chart's test pod is valid")


def check_chart() -> None:
    """The chart by Helm's own lint, and values that it has to refuse."""
    lint = helm_python.lint(str(CHART))
    bad = [str(each) for each in lint["messages"] if each["severity"] > 1] + lint["errors"]
    checks.none(bad, "chart: helm lint")
    for values, why in (
        ({"replicaCount": 2}, "replicas that do not share a volume"),
        ({"autoscaling": {"enabled": True}}, "autoscaling on a volume of one node"),
        ({"terminationGracePeriodSeconds": 60}, "less patience than the drain needs"),
        ({"replicas": 2}, "a misspelt value"),
        ({"storage": {"type": "nfs"}}, "an unknown storage"),
        ({"config": {"AWS_SECRET_ACCESS_KEY": "x"}}, "a secret among the settings"),
    ):
        try:
            render.helm(values)
            checks.that(False, f"chart: refuses {why}", values)
        except helm_python.HelmError:
            checks.that(True, f"chart: refuses {why}")
    by_role = {"storage": {"type": "s3", "s3": {"existingSecret": ""}}, "serviceAccount": {"annotations": {"a/b": "c"}}}
    checks.that("env" not in render.container(render.helm(by_role)), "chart: a role in place of keys needs no secret")
    other = render.helm({"env": [{"name": "KSERVE_BEARER_TOKEN", "value": "x"}]}, name="art", namespace="studio")
    hosts = render.environment(other)["ALLOWED_HOSTS"]
    checks.that("art-mcp-image-server.studio" in hosts, "chart: another release in another namespace", hosts)


def check_guide(known: dict[str, server.Variable]) -> None:
    """The overlay that the guide shows renders, from this checkout in place of the repository."""
    guide = (ROOT / "docs/deployment.md").read_text()
    (shown,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", guide, re.DOTALL)
    folder = ROOT / "target/deploy/own"
    folder.mkdir(parents=True, exist_ok=True)
    local = re.sub(r"github\.com/[\w-]+/[\w-]+//(\S+)\?ref=\S+", r"../../../\1", shown)
    (folder / "kustomization.yaml").write_text(local)
    objects = render.kustomize_folder(folder)
    checks.none(problems_of_kinds(objects) + problems_of_links(objects), "guide: its overlay is valid")
    checks.that("/sdxl" in render.environment(objects)["KSERVE_ENDPOINT"], "guide: its settings are in effect")
    image = render.container(objects)["image"]
    checks.equal(image, "registry.example.com/mcp-image-server:0.1.0", "guide: its image is in effect")
    # Names of variables: all capitals with a low line in it.
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*)(?:\*|=[^`]*)?`", guide))
    named |= set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*)(?:\*|=[^`]*)?`", (ROOT / "docs/operations.md").read_text()))
    checks.equal(named - known.keys() - {"BUILD_IMAGE", "RUN_IMAGE"}, set(), "guides: the binary knows every variable")


def check_probes() -> None:
    """Every path that a probe or a scrape asks for is answered, at the port it is asked for."""
    asked = set()
    for overlay in OVERLAYS:
        objects = render.kustomize(overlay)
        container = render.container(objects)
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked.add((container[name]["httpGet"]["port"], container[name]["httpGet"]["path"]))
        for each in objects:
            if each["kind"] == "ServiceMonitor":
                asked |= {(endpoint["port"], endpoint["path"]) for endpoint in each["spec"]["endpoints"]}
    with tempfile.TemporaryDirectory() as scratch:
        variables = {"PREDICTOR": "embedded", "STORAGE_BACKEND": "memory"}
        with server.Server(variables, Path(scratch) / "log") as running:
            for port, path in sorted(asked):
                base = running.metrics if port == "metrics" else running.base
                checks.equal(server.ask(base + path).status, 200, f"{path} is answered at port {port}")
            checks.equal(server.ask(running.base + "/metrics").status, 404, "/metrics is not at the public port")
            test_pod = next(each for each in render.helm({}) if render.is_hook(each))["spec"]["containers"][0]
            given = {each["name"]: each["value"] for each in test_pod["env"]}
            port = running.base.rpartition(":")[2]
            done = server.run(test_pod["args"], given | {"HOST": "localhost", "PORT": port})
            checks.that(done.returncode == 0, "the chart's test pod passes against a server", done.stderr)


def check_yaml() -> None:
    """yamllint, on all that is YAML by itself."""
    files = [*(ROOT / "manifests").rglob("*.yaml"), ROOT / "tests/deploy/alerts_test.yaml"]
    plain = [str(path) for path in files if "templates" not in path.parts]
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", str(ROOT / "tests/deploy/yamllint.yaml"), *plain]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    checks.that(done.returncode == 0, f"yamllint of {len(plain)} files", done.stdout)


def main() -> None:
    known = server.variables()
    checks.that(len(known) > 40, "the binary tells its variables", known)
    check_yaml()
    check_chart()
    check_probes()
    check_guide(known)
    for overlay in OVERLAYS:
        check_overlay(overlay, known)
    checks.finish()


if __name__ == "__main__":
    main()
