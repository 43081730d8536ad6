"""Renders the manifests, by kustomize and by Helm, and reads what a container gets out of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "helm" / "mcp-image-server"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir() if path.is_dir())
NAME = NAMESPACE = "mcp-image-server"
Object = dict[str, Any]


def kubectl() -> str:
    """The command that has kustomize in it."""
    found = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if not found:
        raise SystemExit("there is no kubectl: set KUBECTL")
    return found


def kustomize(overlay: str) -> list[Object]:
    """The objects of an overlay; what kustomize warns of is an error."""
    return kustomize_folder(MANIFESTS / "overlays" / overlay)


def kustomize_folder(folder: Path) -> list[Object]:
    """The objects of a kustomization anywhere."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr.strip():
        raise RuntimeError(f"{folder}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def helm(values: Object, name: str = NAME, namespace: str = NAMESPACE) -> list[Object]:
    """The objects of the chart with these values, hooks included."""
    import helm_python

    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name=name, namespace=namespace)
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def chart_values(overlay: str) -> Object:
    """The values that make the chart the same as an overlay."""
    return yaml.safe_load((CHART / "ci" / f"{overlay}-values.yaml").read_text()) or {}


def is_hook(found: Object) -> bool:
    """Whether an object is not part of the release itself."""
    return "helm.sh/hook" in found["metadata"].get("annotations", {})


def normal(objects: list[Object]) -> dict[str, Object]:
    """Objects by kind and name, without what only one of the two tools adds."""
    text = json.dumps([found for found in objects if not is_hook(found)])
    text = re.sub(r'"mcp-image-server-[a-z0-9]{10}"', '"mcp-image-server"', text)
    result = {}
    for found in json.loads(text):
        for metadata in (found["metadata"], found["spec"]["template"]["metadata"] if is_workload(found) else {}):
            labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
            for label in ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"):
                labels.pop(label, None)
            annotations.pop("checksum/config", None)
            if not annotations:
                metadata.pop("annotations", None)
        for key, value in found.get("data", {}).items():
            if key.endswith(".json"):
                found["data"][key] = json.loads(value)
        result[key_of(found)] = found
    return result


def key_of(found: Object) -> str:
    """How an object is called in messages."""
    return f"{found['kind']}/{found['metadata']['name']}"


def is_workload(found: Object) -> bool:
    """Whether an object makes pods of a template."""
    return found["kind"] == "Deployment"


def deployment(objects: list[Object]) -> Object:
    """The server's deployment."""
    (found,) = [found for found in objects if is_workload(found)]
    return found


def container(objects: list[Object]) -> Object:
    """The server's container."""
    (found,) = deployment(objects)["spec"]["template"]["spec"]["containers"]
    return found


def environment(objects: list[Object], secrets: dict[str, str] | None = None) -> dict[str, str]:
    """The variables that the server's container gets. Those from secrets are taken from `secrets`, or left out."""
    maps = {found["metadata"]["name"]: found["data"] for found in objects if found["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container(objects).get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]
    for variable in container(objects).get("env", []):
        if "value" in variable:
            variables[variable["name"]] = variable["value"]
        elif variable["name"] in (secrets or {}):
            variables[variable["name"]] = secrets[variable["name"]]
    return variables


def volumes(objects: list[Object]) -> list[str]:
    """The paths where claimed volumes are mounted. Others may not be written to, since the root is read-only."""
    claimed = {
        each["name"]
        for each in deployment(objects)["spec"]["template"]["spec"].get("volumes", [])
        if "persistentVolumeClaim" in each
    }
    return [each["mountPath"] for each in container(objects).get("volumeMounts", []) if each["name"] in claimed]


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two trees differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for key in sorted(left.keys() | right.keys()):
            if key not in left or key not in right:
                found.append(f"{path}/{key} only {'right' if key not in left else 'left'}")
            else:
                found += differences(left[key], right[key], f"{path}/{key}")
        return found
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{path}/{at}")]
    return [] if left == right else [f"{path}: {left!r} and {right!r}"]
