"""Prints the bill of materials (CycloneDX 1.6, JSON) of the binary: every crate that is linked into it, from the lock file.

Usage: sbom.py TARGET      such as x86_64-unknown-linux-gnu

Build scripts, macros and what only tests use are left out: they are not in the binary. The serial number follows from the
content, so that the same sources give the same file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME = "mcp-image-server"


def metadata(target: str) -> dict[str, Any]:
    """What cargo knows of the packages for one target."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(found: dict[str, Any], root: str) -> set[str]:
    """The packages that are linked into the root: reached by ordinary dependencies, and no macros."""
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    macros = {
        package["id"]
        for package in found["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    reached, waiting = set(), [root]
    while waiting:
        here = waiting.pop()
        if here in reached or here in macros:
            continue
        reached.add(here)
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return reached


def url(package: dict[str, Any]) -> str:
    """The package's name as a package URL."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package: dict[str, Any], hashes: dict[tuple[str, str], str]) -> dict[str, Any]:
    """One crate."""
    entry: dict[str, Any] = {
        "type": "library",
        "bom-ref": url(package),
        "name": package["name"],
        "version": package["version"],
        "purl": url(package),
    }
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := hashes.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = metadata(sys.argv[1])
    packages = {package["id"]: package for package in found["packages"]}
    root = next(key for key, package in packages.items() if package["name"] == NAME)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    hashes = {(each["name"], each["version"]): each.get("checksum", "") for each in lock["package"]}
    reached = linked(found, root)
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    components = [component(packages[key], hashes) for key in reached - {root}]
    dependencies = [
        {
            "ref": url(packages[key]),
            "dependsOn": sorted({url(packages[each["pkg"]]) for each in nodes[key]["deps"] if each["pkg"] in reached}),
        }
        for key in reached
    ]
    own = component(packages[root], hashes) | {"type": "application"}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own, "properties": [{"name": "target", "value": sys.argv[1]}]},
        "components": sorted(components, key=lambda each: each["bom-ref"]),
        "dependencies": sorted(dependencies, key=lambda each: each["ref"]),
    }
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True))}"
    print(json.dumps(bom, indent=2))


if __name__ == "__main__":
    main()
