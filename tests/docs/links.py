"""Checks that every link in the documents leads somewhere, and that the book is whole.

Usage: links.py [FOLDER]     with FOLDER, a book that mdBook has built, its links are checked as a browser follows them

Addresses outside the project are not asked; those of its own repository are looked up in the work tree.
"""

from __future__ import annotations

import re
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pages import BOOK, ROOT, anchors, links, pages

sys.path.insert(0, str(ROOT / "tests" / "deploy"))

from checks import Checks  # noqa: E402

MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())
REPOSITORY = MANIFEST["workspace"]["package"]["repository"]
checks = Checks("links")


def fault(page: Path, target: str) -> str | None:
    """What is wrong with a link."""
    if target.startswith(REPOSITORY + "/"):
        kind, _, rest = target.removeprefix(REPOSITORY + "/").partition("/")
        branch, _, path = rest.partition("/")
        if kind not in ("blob", "tree"):
            return None
        whole, _, anchor = path.partition("#")
        found = ROOT / whole
        if branch != "main" or not found.exists():
            return f"{whole} is not in the repository"
        return None if not anchor or anchor in anchors(found) else f"{whole} has no #{anchor}"
    if urlsplit(target).scheme:
        return None
    path, _, anchor = unquote(target).partition("#")
    found = (page.parent / path).resolve() if path else page
    if not found.exists():
        return f"{path} is not there"
    if page.parent == BOOK and BOOK not in (found, *found.parents):
        return f"{path} is outside of the book: link to {REPOSITORY}/blob/main/..."
    if anchor and found.suffix == ".md" and anchor not in anchors(found):
        return f"{path or page.name} has no #{anchor}"
    return None


def check_pages() -> None:
    """Links between the sources."""
    problems, count = [], 0
    for page in pages():
        for link in links(page):
            count += 1
            if wrong := fault(page, link.target):
                problems.append(f"{link.where}: {wrong}")
    checks.none(problems, f"{count} links in {len(pages())} pages lead somewhere")


def check_summary() -> None:
    """Each page of the folder stands in SUMMARY.md once."""
    listed = [link.target for link in links(BOOK / "SUMMARY.md")]
    there = {page.name for page in BOOK.glob("*.md")} - {"SUMMARY.md"}
    problems = [f"{name} is not in SUMMARY.md" for name in sorted(there - set(listed))]
    problems += [f"{name} is in SUMMARY.md twice" for name in sorted(set(listed)) if listed.count(name) > 1]
    checks.none(problems, f"SUMMARY.md has each of {len(there)} pages")


def check_metrics() -> None:
    """Each metric that a page names is one that the server describes."""
    known = set(re.findall(r"mcp_image_\w+", (ROOT / "src" / "metrics.rs").read_text()))
    problems, count = [], 0
    for page in pages():
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for name in re.findall(r"\bmcp_image_(?!server)\w+", line):
                count += 1
                base = re.sub(r"_(bucket|sum|count)$", "", name)
                if base not in known:
                    problems.append(f"{page.relative_to(ROOT)}:{number}: there is no metric {name}")
    checks.none(problems, f"{count} mentions of metrics name ones that there are")


def check_versions() -> None:
    """The chart, the manifests and the API's description have the version of Cargo.toml."""
    version = MANIFEST["workspace"]["package"]["version"]
    places = {
        "manifests/helm/mcp-image-server/Chart.yaml": r"^(?:version|appVersion): (\S+)$",
        "manifests/base/kustomization.yaml": r"^ +newTag: (\S+)$",
        "docs/openapi.yaml": r"^  version: (\S+)$",
    }
    problems = []
    for place, pattern in places.items():
        found = re.findall(pattern, (ROOT / place).read_text(), re.MULTILINE)
        problems += [f"{place} has {each}" for each in found if each.strip('"') != version]
        problems += [] if found else [f"{place} has no version"]
    checks.none(problems, f"the version is {version} everywhere")


class Page(HTMLParser):
    """The ids and links of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value and tag in ("a", "img"):
                self.targets.append(value)


def check_built(folder: Path) -> None:
    """Links of the built book."""
    built = {path: Page(path) for path in folder.rglob("*.html")}
    problems, count = [], 0
    for path, page in built.items():
        for target in page.targets:
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            count += 1
            name, _, anchor = unquote(target).partition("#")
            found = (path.parent / name).resolve() if name else path
            if found.is_dir():
                found /= "index.html"
            if not found.exists():
                problems.append(f"{path.name}: {target} is not there")
            elif anchor and found in built and anchor not in built[found].ids:
                problems.append(f"{path.name}: {target}: there is no such heading")
    checks.none(sorted(set(problems)), f"{count} links of the built book lead somewhere")


def main() -> None:
    check_pages()
    check_summary()
    check_metrics()
    check_versions()
    if len(sys.argv) > 1:
        check_built(Path(sys.argv[1]).resolve())
    checks.finish()


if __name__ == "__main__":
    main()
